"""The ledger of a campaign that is being carried out: each entry is on disk before it counts."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from campaign.units import LEDGER, Entry, Ledger, as_json, read
from ledger.journal import Journal


class Book:
    """A campaign's folder and its ledger, as the only writer; threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Open it. Raises JournalInUse if another command carries this campaign out, FileError if
        the ledger cannot be read or written."""
        self.folder = folder
        self._journal = Journal(folder / LEDGER)
        self._lock = threading.Lock()
        with contextlib.ExitStack() as unless_read:
            unless_read.callback(self._journal.close)
            self.ledger: Ledger = read(folder)
            unless_read.pop_all()

    def add(self, entry: Entry) -> None:
        """Write an entry down. Raises FileError."""
        with self._lock:
            self._journal.add(as_json(entry), on_disk=True)
            self.ledger.take(entry)

    def close(self) -> None:
        """Let others write."""
        self._journal.close()
