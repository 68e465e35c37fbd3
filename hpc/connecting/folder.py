"""The folder of a connection, for its sockets and the token: this user's alone, and gone when the
connection ends, or, if that was killed, when the next one begins."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import ServiceError

_PREFIX = "orch-via-"
#: Seconds that a folder may be there before it is held.
_YOUNG_S = 5.0


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Make one, and hold it until it is left. Raises ServiceError."""
    try:
        folder = _make()
    except OSError as error:
        raise ServiceError(
            f"no folder can be made for the connection: {error}; make room there, or name another "
            "place in TMPDIR."
        ) from error
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # which ssh does not inherit
    try:
        with contextlib.suppress(OSError):  # where none can be held, none is removed either
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make() -> Path:
    """One of mode 700, once what others have left is gone. Raises OSError."""
    base = _base()
    for folder in Path(base).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or it is just being removed
            _remove_left(folder)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))


def _base() -> str:
    """A folder of this user's alone, in memory, if the machine has one."""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return folder if folder and os.access(folder, os.W_OK) else tempfile.gettempdir()


def _remove_left(folder: Path) -> None:
    """If it is ours, and nobody holds it. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if found.st_uid == os.getuid() and time.time() - found.st_mtime > _YOUNG_S:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(handle)
