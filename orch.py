#!/usr/bin/env python3
"""Bring up an LLM inference and benchmarking service from one JSON recipe: see --help."""

# These lines parse on Python 3.6, so that an old login node gets a sentence and no SyntaxError.
import os
import sys

PROJECT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(PROJECT, ".venv")


def stop_with(sentence):  # noqa: ANN001, ANN201
    sys.stderr.write("orch: " + sentence + "\n")
    sys.exit(2)


def enter_venv():  # noqa: ANN201
    """Continue in the project's own environment where there is one."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV) and os.access(python, os.X_OK):
        os.execv(python, [python, os.path.abspath(__file__)] + sys.argv[1:])  # noqa: RUF005


def run():  # noqa: ANN201
    if sys.version_info < (3, 10):
        stop_with(
            "Python %d.%d is too old, 3.10 is needed; run scripts/make_venv.sh with a newer one "
            "at hand (perhaps after 'module load Python'), and then this again."
            % sys.version_info[:2]
        )
    sys.path.insert(0, PROJECT)
    try:
        from hpc.cli import main

        return main()
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("hpc", "ollamaService", "clientServiceHandler"):
            raise
        stop_with(
            "the Python package %s is missing; run scripts/make_venv.sh once, which makes .venv "
            "with all that is needed." % error.name
        )


if __name__ == "__main__":
    try:
        enter_venv()
        sys.exit(run())
    except KeyboardInterrupt:
        sys.stderr.write("orch: interrupted before anything was submitted\n")
        sys.exit(130)
