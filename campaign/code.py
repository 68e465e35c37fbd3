"""Which version of this program measures."""

from __future__ import annotations

from contracts.version import VERSION


def code_version() -> str:
    """Return the version, and the commit if git knows it; with a + if files differ from it."""
    from loadgen.measure.provenance import git_commit  # it loads the load generator

    return " ".join(filter(None, (VERSION, git_commit())))
