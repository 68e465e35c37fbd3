"""The head of a GGUF file: what a model says of itself, and how many bytes each of its tensors has.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The weights are not read, so
that a file of a hundred GiB costs what a small one does.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

Number = int | float | bool
Value = Number | str | tuple[Number, ...]

#: Bytes that are read at first, and at most. A vocabulary of 256,000 tokens takes about 10 MB.
_AT_FIRST, _AT_MOST = 16 << 20, 128 << 20
#: More than any model has; a file that says more is broken.
_MOST_KEYS, _MOST_TENSORS = 100_000, 1_000_000
#: Longer arrays are of a vocabulary: nothing is made of them but their length.
_MOST_ELEMENTS = 4096
_MOST_DIMENSIONS = 4
#: The first of several files of a model, as llama.cpp names them; it has all that is not a tensor.
_FIRST_PART = re.compile(r"(.*)-00001-of-([0-9]{5})\.gguf", re.DOTALL)
_LATER_PART = re.compile(r"(.*)-(?!00001)[0-9]{5}(-of-[0-9]{5}\.gguf)", re.DOTALL)
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip


class BadGguf(ValueError):
    """A file that is no whole GGUF file, or of a kind that nobody reads here; says why."""


class _Short(Exception):
    """The bytes that were read end within the header."""


@dataclass(frozen=True)
class Header:
    """What a model says of itself. `metadata`: its keys but for those of the vocabulary; `lengths`:
    how long the values of keys are that are arrays; `tensors`: bytes of each, {} if only the
    beginning of the header is known; `weights`: bytes of all; `parameters`: 0 if not known."""

    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: Mapping[str, int]
    weights: int
    parameters: int = 0

    @property
    def architecture(self) -> str:
        """Such as `llama`; "" if it is not said."""
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str, default: int = 0) -> int:
        """The whole number of an architecture's key (`context_length`); of several the largest."""
        return max(self.numbers(key, default))

    def numbers(self, key: str, default: int = 0) -> tuple[int, ...]:
        """All of them: many models have one for each layer."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        several = value if isinstance(value, tuple) and value else (value,)
        return tuple(max(n, 0) if isinstance(n, int) else default for n in several)

    def has(self, key: str) -> bool:
        """Whether an architecture's key is there."""
        return f"{self.architecture}.{key}" in self.metadata


def read_header(path: Path) -> Header:
    """Return the header of a file; of the first of several with the tensors of all of them. Raises
    BadGguf, and OSError if it cannot be read."""
    first, *others = [_read(path), *map(_read_part, other_parts(path))]
    if others:
        parts = (first, *others)
        tensors = {name: size for part in parts for name, size in part.tensors.items()}
        first = replace(
            first,
            tensors=tensors,
            weights=sum(part.weights for part in parts),
            parameters=sum(part.parameters for part in parts),
        )
    return _with_layers(first)


def other_parts(path: Path) -> list[Path]:
    """Of the first of several files of a model the others, beside it; [] of any other file."""
    found = _FIRST_PART.fullmatch(path.name)
    if found is None:
        return []
    numbers = range(2, int(found[2]) + 1)
    return [path.with_name(f"{found[1]}-{n:05}-of-{found[2]}.gguf") for n in numbers]


def first_part(path: Path) -> Path | None:
    """Of a later one of several files of a model the first, if that is beside it; else None."""
    found = _LATER_PART.fullmatch(path.name)
    first = path.with_name(f"{found[1]}-00001{found[2]}") if found else None
    return first if first is not None and os.path.exists(first) else None  # noqa: PTH110


def _read_part(path: Path) -> Header:
    try:
        return _read(path)
    except (OSError, BadGguf) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadGguf(f"its part {path.name}: {why}") from error


def _read(path: Path) -> Header:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = b""
        for most in (_AT_FIRST, _AT_MOST):
            data += file.read(most - len(data))
            try:
                return _Bytes(data).header(size)
            except _Short:
                if len(data) < most:  # that was all of it
                    break
    if len(data) < _AT_MOST:
        raise BadGguf("it ends within its header")
    raise BadGguf(f"its header is longer than {_AT_MOST >> 20} MiB")


def beginning(data: bytes, size: int) -> Header:
    """Return what the first bytes of a file of `size` bytes say. Architectures' keys come first, so
    that a few thousand bytes say how large a cache is. Raises BadGguf."""
    source = _Bytes(data)
    try:
        return _with_layers(source.header(size))
    except _Short:
        return _with_layers(Header(source.metadata, source.lengths, {}, size))


def _with_layers(header: Header) -> Header:
    if not header.number("block_count"):
        raise BadGguf("it does not say how many layers the model has")
    return header


class _Bytes:
    """Bytes that are taken one after another."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.metadata: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}

    def header(self, size: int) -> Header:
        """All of the header of a file of `size` bytes. Raises BadGguf or _Short."""
        if self._take(4) != b"GGUF":
            raise BadGguf("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise BadGguf(f"its version is {version}, but 2 and 3 are read")
        count, keys = self._count("Q", _MOST_TENSORS), self._count("Q", _MOST_KEYS)
        for _ in range(keys):
            self._pair()
        parameters, offsets = 0, dict[str, int]()
        for _ in range(count):
            name, elements, offset = self._tensor()
            offsets[name] = offset
            parameters += elements
        if len(offsets) != count:
            raise BadGguf("two of its tensors have one name")
        return self._header(size, offsets, parameters)

    def _header(self, size: int, offsets: Mapping[str, int], parameters: int) -> Header:
        """With each tensor's bytes: those up to the next one."""
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise BadGguf(f"its alignment is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        weights = max(size - begin, 0)
        starts = sorted(offsets.values())
        if starts and starts[-1] >= weights:
            raise BadGguf("it ends before its tensors do")
        ends = dict(pairwise([*starts, weights]))
        tensors = {name: ends[start] - start for name, start in offsets.items()}
        return Header(self.metadata, self.lengths, tensors, weights, parameters)

    def _pair(self) -> None:
        key, kind = self._text(), self._number("I")
        if kind == _STRING:
            self.metadata[key] = self._text()
        elif kind == _ARRAY:
            self._array(key)
        else:
            self.metadata[key] = self._values(kind, 1)[0]

    def _array(self, key: str) -> None:
        kind, count = self._number("I"), self._count("Q", _AT_MOST)
        self.lengths[key] = count
        if kind == _STRING:
            self._skip_texts(count)
        elif count <= _MOST_ELEMENTS:
            self.metadata[key] = self._values(kind, count)
        else:
            self._take(count * struct.calcsize(self._format(kind)))

    def _tensor(self) -> tuple[str, int, int]:
        """Name, number of elements, and where it begins."""
        name, dimensions = self._text(), self._count("I", _MOST_DIMENSIONS)
        elements = 1
        for _ in range(dimensions):
            elements *= self._number("Q")
        self._number("I")  # how its elements are packed
        return name, elements, self._number("Q")

    def _values(self, kind: int, count: int) -> tuple[Number, ...]:
        of = struct.Struct(f"<{count}{self._format(kind)}")
        return of.unpack(self._take(of.size))

    def _format(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise BadGguf(f"a key of it has a value of the unknown kind {kind}")
        return _NUMBERS[kind]

    def _count(self, kind: str, most: int) -> int:
        count = self._number(kind)
        if count > most:
            raise BadGguf(f"it says that it has {count} of what are at most {most}")
        return count

    def _number(self, kind: str) -> int:
        of = struct.Struct(f"<{kind}")
        return int(of.unpack(self._take(of.size))[0])

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", "replace")

    def _skip_texts(self, count: int) -> None:
        """A vocabulary has hundreds of thousands: each costs one look at its length."""
        data, at = self._data, self._at
        try:
            for _ in range(count):
                at += 8 + _LENGTH(data, at)[0]
        except (struct.error, OverflowError):
            raise _Short from None
        self._at = at

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _Short
        taken = self._data[self._at : end]
        self._at = end
        return taken


_LENGTH = struct.Struct("<Q").unpack_from
