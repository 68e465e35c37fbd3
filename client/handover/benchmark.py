"""A benchmark goes on in the job that began it while the door sends requests on to the next one:
whoever asks there is answered by what its own service keeps in the run's folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from pathlib import Path

from client.api.benchmark_answers import Progress
from contracts.job_files import fresh
from loadgen.load.child_process import KILL_AFTER_S, ChildRun

#: Locked by the service whose run goes on, and how far that is; there if somebody ends it.
_RUNNING, _CANCEL = ".running", ".cancel"
#: Seconds between looks, and between those of who waits for an end.
_LOOK_S, _AWAIT_S = 1.0, 0.2
#: Bytes of the text, always: so that a reader sees the old one or the new one.
_SIZE = 512
_log = logging.getLogger(__name__)


def announce(run: ChildRun) -> None:
    """Tell the services of other jobs of a run until it has ended, and end it if they ask so."""
    try:
        handle = _held(run.folder / _RUNNING)
    except OSError as error:  # a file system without locks
        _log.warning("the benchmark %s is not known to the next job: %s", run.id, error)
        return
    threading.Thread(target=_tell, args=(run, handle), daemon=True).start()


def _held(path: Path) -> int:
    """The file, which is there, and locked. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _tell(run: ChildRun, handle: int) -> None:
    asked = run.folder / _CANCEL
    with contextlib.suppress(OSError):
        asked.unlink(missing_ok=True)  # of a run before that had this id
    while True:
        with contextlib.suppress(OSError):  # there is no room, or no answer: next time
            if fresh(asked).exists():
                run.cancel()
            os.pwrite(handle, json.dumps(run.progress()).ljust(_SIZE).encode(), 0)
        if run.wait(_LOOK_S):
            break
    for path in (run.folder / _RUNNING, asked):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    os.close(handle)


def goes_on(folder: Path) -> bool:
    """Return whether the run of a folder goes on in another job."""
    try:
        handle = os.open(fresh(folder / _RUNNING), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False  # whoever has left it there was killed


def progress(folder: Path) -> Progress | None:
    """Return how far it is; None if that cannot be read just now."""
    try:
        return Progress(**json.loads((folder / _RUNNING).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def cancel(folder: Path) -> None:
    """End it, and return once it has ended, or does not. Raises OSError."""
    (folder / _CANCEL).touch()
    until = time.monotonic() + 2 * KILL_AFTER_S
    while goes_on(folder) and time.monotonic() < until:
        time.sleep(_AWAIT_S)
