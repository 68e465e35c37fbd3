"""Programs that tests start and that a machine may lack."""

import os
import shutil
from types import SimpleNamespace

import pytest


def needed(program, package, *places):
    """Its path, of PATH or of other places. Where it is missing the test is skipped, naming it;
    with CI=true it fails."""
    found = shutil.which(program, path=os.pathsep.join((os.environ["PATH"], *places)))
    if found is None:
        lacking = f"there is no {program} (Debian package {package})"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    return found


def munge_is(monkeypatch, there=True):
    """Whether a plan finds MUNGE here."""
    found = SimpleNamespace(which=lambda name: f"/usr/bin/{name}" if there else None)
    monkeypatch.setattr("hpc.planning.share.shutil", found)
