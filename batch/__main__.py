"""The command line: `python3 -m batch --help`."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from batch.arguments import Options, parse
from batch.asking.door import Door
from batch.files import Files, files_of
from batch.given.reading import Input
from batch.kept.store import Store
from batch.progress import print_error
from batch.state import BatchStatus
from batch.work import Work
from contracts.errors import EXIT_STOPPED, DeadlineError, Interrupted, OrchError, UsageError
from contracts.files import FileError

MOST_FILES = 4096
#: After these the same command goes on.
_GOES_ON = (FileError, DeadlineError, Interrupted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Work off a batch, and return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        options = parse(arguments)
        _allow_files()
        door = Door(options.url, options.token_file, options.ca)
        for warning in door.warnings:
            print_error(warning)
        with Input(options.given, options.endpoint) as given:
            files = files_of(options.given, options.out)
            _check(options, files)
            store = Store(files)
            try:
                return _work(Work(options, files, door), given, store)
            finally:
                store.close()
    except Interrupted:
        return EXIT_STOPPED
    except OrchError as error:
        print_error(str(error), error.details)
        return error.exit_code


def _allow_files() -> None:
    """Have as many files and connections open as may be: the usual limit is that of one person."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < MOST_FILES:  # less than 0: no limit
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _check(options: Options, files: Files) -> None:
    if files.problem:
        raise UsageError(f"--out {files.answers} {files.problem}.")
    others = (files.answers, files.errors, files.ledger, files.state)
    if any(_same(options.given, path) for path in others):
        raise UsageError(f"--out {files.answers} would overwrite the batch; name another file.")
    if not files.answers.parent.is_dir():
        raise UsageError(f"there is no folder {files.answers.parent} for the answers; make it.")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _work(work: Work, given: Input, store: Store) -> int:
    try:
        return work.run(given, store)
    except OrchError as error:
        state: BatchStatus = "interrupted" if isinstance(error, _GOES_ON) else "failed"
        told = isinstance(error, Interrupted)
        problem = "It was told to end." if told else str(error)
        work.tell(state, eta_s=None, problem=problem, details=tuple(error.details))
        raise


def _end(number: int, _: FrameType | None) -> None:
    """End once: what is done after it is not disturbed by another signal."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise Interrupted(number)


if __name__ == "__main__":
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)  # not by Python's own end, whose code is another one if nobody reads us
