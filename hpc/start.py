"""The first steps of orch.py, which an old Python parses, too: no syntax beyond Python 3.6 here.

An old login node gets a sentence, and no SyntaxError.
"""

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.command_line import Story

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(PROJECT, ".venv")


def start(story: "Story") -> None:
    """Continue in the project's environment, run the command line, and end with its exit code.

    `story`: what orch.py does itself, by the names of hpc.command_line.
    """
    try:
        _enter_venv()
        _leave(_run(story))
    except KeyboardInterrupt:
        sys.stderr.write("orch: interrupted before anything was submitted\n")
        sys.exit(130)


def _refuse(sentence: str) -> int:
    """Say why this cannot run; returns the exit code."""
    sys.stderr.write("orch: " + sentence + "\n")
    return 2


def _enter_venv() -> None:
    """Continue in the project's own environment when there is one."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV) and os.access(python, os.X_OK):
        os.execv(python, [python, os.path.join(PROJECT, "orch.py")] + sys.argv[1:])  # noqa: RUF005


def _run(story: "Story") -> int:
    """Hand over to the command line, or say what is missing; returns the exit code."""
    if sys.version_info < (3, 10):
        return _refuse(
            "Python %d.%d is too old, 3.10 is needed; run scripts/make_venv.sh with a newer one "
            "at hand (perhaps after 'module load Python'), and then this again."
            % sys.version_info[:2]
        )
    gc.set_threshold(100000)  # Loading makes many objects and next to no garbage.
    try:
        from hpc.command_line import main

        return main(story)
    except SystemExit as end:  # argparse's own way out, after --help or words that it does not know
        return int(end.code or 0)
    except ImportError as error:
        package = (error.name or "").split(".")[0]
        if _is_ours(package):
            raise
        return _refuse(
            "the Python package %s is missing; run scripts/make_venv.sh once, which makes .venv "
            "with all that is needed." % package
        )


def _is_ours(package: str) -> bool:
    """Whether a module that is missing is a part of this project: then that is broken."""
    path = os.path.join(PROJECT, package)
    return not package or os.path.isdir(path) or os.path.exists(path + ".py")


def _leave(code: int) -> None:
    """End at once: taking hundreds of modules apart again would be a tenth of a --dry-run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # whoever read it has gone away
            pass
    os._exit(code)
