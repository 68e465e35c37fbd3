"""Finding files: folders and the links in them, each file once, and what is not read by its name.

What is no link goes before what is one, so that a file has the name that it has without links.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import NoDocuments

_Identity = tuple[int, int]


@dataclass(frozen=True)
class Skipped:
    """What was left out, a file or a part of one. `kind`: empty, binary, too large, unreadable,
    not known, duplicate, refused, or, of a file that is else read, part."""

    source: str
    kind: str
    words: str


def source_name(path: Path) -> str:
    """Return a file's name in the store: its path; bytes that are no UTF-8 are written \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def find_files(paths: Iterable[Path]) -> list[Path | Skipped]:
    """Return the files at and below `paths`, absolute, sorted, each once, and what cannot be read;
    hidden ones are left out.

    Raises NoDocuments if a path does not exist, or there is no file at all.
    """
    search = _Search()
    for path in paths:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            words = f"there is no {path}; name a file or a folder that exists."
            raise NoDocuments(words) from error
        except OSError as error:
            raise NoDocuments(f"{path} cannot be read: {error.strerror}.") from error
        search.add(path.resolve())
    search.follow_links()
    if not search.found:
        raise NoDocuments(f"there is no file in {', '.join(map(str, paths))}.")
    return [search.found[path] for path in sorted(search.found)]


class _Search:
    """What was found up to now; a file or folder is known by its device and inode."""

    def __init__(self) -> None:
        self.found: dict[Path, Path | Skipped] = {}
        self._files: dict[_Identity, Path] = {}
        self._folders: dict[_Identity, Path] = {}
        self._links: deque[Path] = deque()

    def add(self, path: Path) -> None:
        """Look at a file, or at all in a folder but its links."""
        waiting = [path]
        while waiting:
            here = waiting.pop()
            if not here.is_dir():
                self._add_file(here)
                continue
            for entry in reversed(self._entries(here)):
                if entry.is_symlink():
                    self._links.appendleft(entry)
                else:
                    waiting.append(entry)

    def follow_links(self) -> None:
        """Look at what links lead to, also those that are found on the way."""
        while self._links:
            link = self._links.popleft()
            if not link.is_dir():
                self._add_file(link)
            elif (target := link.resolve()) in link.parent.resolve().joinpath("x").parents:
                self._skip(link, "duplicate", f"it leads back to {target}, a folder that it is in")
            else:
                self.add(link)

    def _entries(self, folder: Path) -> list[Path]:
        """Sorted; none if the folder was looked at before."""
        try:
            first = self._folders.setdefault(_identity(folder), folder)
            if first != folder:
                self._skip(folder, "duplicate", f"it is the same folder as {first}")
            elif folder not in self.found:
                return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        except OSError as error:
            self._skip(folder, "unreadable", f"the folder cannot be read: {error.strerror}")
        return []

    def _add_file(self, path: Path) -> None:
        try:
            first = self._files.setdefault(_identity(path), path)
        except FileNotFoundError:
            why = "it is a link to nothing" if path.is_symlink() else "it has gone"
            self._skip(path, "unreadable", why)
        except OSError as error:
            self._skip(path, "unreadable", f"it cannot be read: {error.strerror}")
        else:
            self.found.setdefault(path, path)
            if first != path:
                self._skip(path, "duplicate", f"it is the same file as {first}")

    def _skip(self, path: Path, kind: str, words: str) -> None:
        self.found[path] = Skipped(source_name(path), kind, words)


def _identity(path: Path) -> _Identity:
    known = path.stat()
    return known.st_dev, known.st_ino
