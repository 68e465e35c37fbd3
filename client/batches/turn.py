"""Whose turn it is to work batches off: that of one client service at a time."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


class Turn:
    """A file of the batches' folder, locked: a service that was begun before us may not have ended
    yet, nor what it has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The file, which whatever works a batch off keeps open; None: it is not our turn.
        self.handle: int | None = None

    def take(self) -> bool:
        """Return whether it is ours from now on, once there is a folder. Raises OSError."""
        if not self._folder.is_dir():
            return False
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        handle = os.open(self._folder / "lock", how, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        except OSError as error:  # a file system without locks
            _log.warning("batches: nothing is locked in %s: %s", self._folder, error)
        self.handle = handle
        return True

    def give_up(self) -> None:
        """Let the next one have it."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
