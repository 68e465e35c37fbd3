"""The input, line by line: any length of it in little memory."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from batch.given.lines import BrokenLine, Unit, unit_of_json, unit_of_text
from contracts.errors import UsageError

#: Bytes of a line: more is no prompt, but a file without line feeds.
MOST_OF_A_LINE = 33_554_432
_JSON, _TEXT = (".jsonl", ".ndjson", ".json"), (".txt", ".text")
_PIECE = 1_048_576


@dataclass(frozen=True)
class Broken:
    """A line that cannot be asked, and why not."""

    number: int
    why: str


class Input:
    """The file, open, so that it stays the same file when it is replaced."""

    def __init__(self, path: Path, endpoint: str | None = None) -> None:
        """`endpoint`: the path of all lines, if it is said. Raises UsageError."""
        self.path, self._endpoint = path, endpoint
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise UsageError(f"the batch {path} is no file; name one with a prompt a line.")
            self._file = path.open("rb", buffering=_PIECE)
        except OSError as error:
            raise UsageError(
                f"the batch {path} cannot be read: {error.strerror}; check the path."
            ) from error
        self._first = os.fstat(self._file.fileno())
        self._parse = self._parser()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._first.st_size

    @property
    def changed(self) -> bool:
        """Whether somebody has written to it since. Raises UsageError."""
        try:
            now = os.fstat(self._file.fileno())
        except OSError as error:  # a network file system on which it was removed
            raise self._unreadable(error) from error
        return (now.st_size, now.st_mtime_ns) != (self._first.st_size, self._first.st_mtime_ns)

    def lines(self, told: Callable[[bytes], object] | None = None) -> Iterator[Unit | Broken]:
        """Yield what each line asks for, or what is wrong with it; lines that hold nothing mean
        nothing. `told` is given all bytes that are read. Raises UsageError."""
        self._file.seek(0)
        number = 0
        while line := self._read():
            number += 1
            if told is not None:
                told(line)
            if len(line) > MOST_OF_A_LINE:
                self._pass_over(line, told)
                yield Broken(number, f"is longer than {MOST_OF_A_LINE >> 20} MiB")
                continue
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not (text := text.strip()):
                continue
            try:
                yield self._of_endpoint(self._parse(number, text))
            except BrokenLine as error:
                yield Broken(number, str(error))

    def _of_endpoint(self, unit: Unit) -> Unit:
        if self._endpoint not in (None, unit.path):
            raise BrokenLine(
                f'asks at "{unit.path}", but the endpoint of the batch is "{self._endpoint}"'
            )
        return unit

    def _read(self) -> bytes:
        try:
            return self._file.readline(MOST_OF_A_LINE + 1)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> UsageError:
        return UsageError(
            f"the batch {self.path} cannot be read any further: {error.strerror}; check its disk, "
            "then give the same command again."
        )

    def _pass_over(self, line: bytes, told: Callable[[bytes], object] | None) -> None:
        while line and not line.endswith(b"\n"):
            line = self._read()
            if told is not None:
                told(line)

    def _parser(self) -> Callable[[int, bytes], Unit]:
        """By the file's name, else by how its first line begins."""
        suffix = self.path.suffix.lower()
        if suffix in _JSON:
            return unit_of_json
        if suffix in _TEXT:
            return unit_of_text
        first = next((line for line in iter(self._read, b"") if line.strip()), b"")
        is_json = first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
        return unit_of_json if is_json else unit_of_text

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Input:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def hash_of(custom_id: str) -> bytes:
    """Return 16 bytes that stand for a custom_id."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
