"""One pass over the input before anything is sent: broken lines, and custom_ids given twice."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batch.given.partitions import Partitions, parts_for
from batch.given.reading import Broken, Input, hash_of
from contracts.errors import UsageError

#: How many lines are named.
MOST_NAMED = 20
#: Hash of the custom_id, key, and number of the line.
HASH_SIZE, KEY_SIZE, NUMBER_SIZE = 16, 16, 8
_SIZE = HASH_SIZE + KEY_SIZE + NUMBER_SIZE


@dataclass(frozen=True)
class Checked:
    """An input that can be worked off. `lines`: those that hold something; `last_line`: the number
    of the last of them; `nameless`: the number of the first that names no model, None if all do;
    `digest`: of all bytes."""

    path: Path
    size: int
    lines: int
    last_line: int
    nameless: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of a line: its key, and its number."""

    key: bytes
    number: int


class Index:
    """All lines of an input, to be found by their custom_ids."""

    def __init__(self, parts: int) -> None:
        """Raises FileError."""
        self._records = Partitions(parts, _SIZE)

    def add(self, custom_id: str, key: str, number: int) -> None:
        """Raises FileError."""
        line = number.to_bytes(NUMBER_SIZE, "big")
        self._records.add(hash_of(custom_id) + bytes.fromhex(key) + line)

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._records)

    def part(self, number: int, twice: Callable[[int, int], object]) -> dict[bytes, Entry]:
        """Return the lines of a part by the hashes of their custom_ids. `twice` is told of each
        line whose custom_id an earlier one has, with the number of that. Raises FileError."""
        found: dict[bytes, Entry] = {}
        for record in self._records.part(number):
            name, key = record[:HASH_SIZE], record[HASH_SIZE : HASH_SIZE + KEY_SIZE]
            line = int.from_bytes(record[HASH_SIZE + KEY_SIZE :], "big")
            first = found.setdefault(name, Entry(key, line))
            if first.number != line:
                twice(line, first.number)
        return found

    def close(self) -> None:
        """Remove what was kept."""
        self._records.close()


def check(given: Input) -> tuple[Checked, Index]:
    """Return what is known of an input, and its lines.

    Raises UsageError naming the first lines that are wrong, and how many are; FileError.
    """
    problems, index = _Problems(), Index(parts_for(given.size))
    with contextlib.ExitStack() as unless_good:
        unless_good.callback(index.close)
        checked = _read(given, problems, index)
        for part in range(len(index)):
            index.part(part, problems.twice)
        problems.check(given.path)
        if not checked.lines:
            raise _empty(given.path)
        unless_good.pop_all()
    return checked, index


def check_first(path: Path, number: int) -> None:
    """Look at so many lines alone: most files are wrong from their beginning on, and the whole of
    a long one takes time. Raises UsageError naming the first line that is wrong."""
    with Input(path) as given:
        first = list(islice(given.lines(), number))
    if not first:
        raise _empty(path)
    problems, known = _Problems(), dict[str, int]()
    for line in first:
        if isinstance(line, Broken):
            problems.add(line.number, line.why)
        elif (earlier := known.setdefault(line.custom_id, line.number)) != line.number:
            problems.twice(line.number, earlier)
    problems.check(path)


def _read(given: Input, problems: _Problems, index: Index) -> Checked:
    digest = hashlib.blake2b(digest_size=16)
    lines, last, nameless = 0, 0, None
    for line in given.lines(digest.update):
        lines, last = lines + 1, line.number
        if isinstance(line, Broken):
            problems.add(line.number, line.why)
            continue
        if nameless is None and not line.names_model:
            nameless = line.number
        index.add(line.custom_id, line.key, line.number)
    return Checked(given.path, given.size, lines, last, nameless, digest.hexdigest())


def _empty(path: Path) -> UsageError:
    return UsageError(f"the batch {path} is empty; write a prompt in each line.")


class _Problems:
    """The first lines that are wrong, and how many."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[tuple[int, str]] = []  # a heap of the negative numbers

    def add(self, number: int, why: str) -> None:
        self._count += 1
        push = heapq.heappush if len(self._first) < MOST_NAMED else heapq.heappushpop
        push(self._first, (-number, why))

    def twice(self, number: int, first: int) -> None:
        self.add(number, f"has the custom_id of line {first}: give it another")

    def check(self, path: Path) -> None:
        """Raises UsageError if there is one."""
        if self._count:
            raise UsageError(self._sentence(path), list(self._rest()))

    def _sentence(self, path: Path) -> str:
        number, why = max(self._first)
        if self._count == 1:
            return f"line {-number} of {path} {why}; nothing was sent."
        return (
            f"{self._count} lines of {path} cannot be asked, so nothing was sent; correct them"
            + (f" (the first {MOST_NAMED}):" if self._count > MOST_NAMED else ":")
        )

    def _rest(self) -> Iterator[str]:
        if self._count > 1:
            for number, why in sorted(self._first, reverse=True):
                yield f"line {-number} {why}"
