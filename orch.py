#!/usr/bin/env python3
"""Bring up an LLM inference and benchmarking service from one JSON recipe: see --help."""

# These lines parse on Python 3.6, so that an old login node gets a sentence and no SyntaxError.
import gc
import os
import sys

PROJECT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(PROJECT, ".venv")
OURS = (
    "hpc",
    "ollamaService",
    "clientServiceHandler",
    "monitoringService",
    "qdrantService",
    "retrieval",
)


def refuse(sentence: str) -> int:
    """Say why this cannot run; returns the exit code."""
    sys.stderr.write("orch: " + sentence + "\n")
    return 2


def enter_venv() -> None:
    """Continue in the project's own environment where there is one."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV) and os.access(python, os.X_OK):
        os.execv(python, [python, os.path.abspath(__file__)] + sys.argv[1:])  # noqa: RUF005


def run() -> int:
    """Hand over to hpc.cli, or say what is missing; returns the exit code."""
    if sys.version_info < (3, 10):
        return refuse(
            "Python %d.%d is too old, 3.10 is needed; run scripts/make_venv.sh with a newer one "
            "at hand (perhaps after 'module load Python'), and then this again."
            % sys.version_info[:2]
        )
    sys.path.insert(0, PROJECT)
    gc.set_threshold(100000)  # Loading makes many objects and next to no garbage.
    # Nobody's plugins change what a recipe means; looking for them reads all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from hpc.cli import main

        return main()
    except ImportError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        return refuse(
            "the Python package %s is missing; run scripts/make_venv.sh once, which makes .venv "
            "with all that is needed." % error.name
        )


def leave(code: int) -> None:
    """End at once: taking hundreds of modules apart again would be a tenth of a --dry-run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # whoever read it has gone away
            pass
    os._exit(code)


if __name__ == "__main__":
    try:
        enter_venv()
        leave(run())
    except KeyboardInterrupt:
        sys.stderr.write("orch: interrupted before anything was submitted\n")
        sys.exit(130)
