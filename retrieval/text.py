"""From bytes to text, and what can be stored of it."""

from __future__ import annotations

import re

from retrieval.errors import Unusable

#: Byte-order marks. That of UTF-16 LE begins that of UTF-32 LE, which is therefore before it.
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32", "utf-32"),
    (b"\x00\x00\xfe\xff", "UTF-32", "utf-32"),
    (b"\xff\xfe", "UTF-16", "utf-16"),
    (b"\xfe\xff", "UTF-16", "utf-16"),
    (b"\xef\xbb\xbf", "UTF-8", "utf-8-sig"),
    (b"\x84\x31\x95\x33", "GB18030", "gb18030"),
    (b"+/v8", "UTF-7", "utf-7"),
    (b"+/v9", "UTF-7", "utf-7"),
)
#: Halves of surrogate pairs are no text, and what is written in C stops at NUL.
_NOT_STORED = re.compile("[\0\ud800-\udfff]")
#: All that Unicode's line breaking (UAX 14) must break at; the last two end a page or paragraph.
_LINE_END = re.compile("\r\n|[\r\v\x85\u2028]")
_PARAGRAPH_END = re.compile("[\f\u2029]")


def decoded(data: bytes) -> str:
    """Decode text by its byte-order mark; without one it is UTF-8. Raises Unusable."""
    name, encoding = _encoding(data)
    if not name and b"\0" in data:
        raise Unusable("binary", "it is binary, not text (or UTF-16 without a byte-order mark)")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        hint = "" if name else " and has no byte-order mark; save it as UTF-8"
        words = f"it is not {name or 'UTF-8'} (byte {error.start}){hint}"
        raise Unusable("binary", words) from error


def _encoding(data: bytes) -> tuple[str, str]:
    for mark, name, encoding in _MARKS:
        # UTF-16 may begin with its mark and a NUL, too.
        if data.startswith(mark) and (name != "UTF-32" or len(data) % 4 == 0):
            return name, encoding
    return "", "utf-8"


def storable(text: str) -> str:
    """Return the same with U+FFFD for what cannot be stored."""
    return _NOT_STORED.sub("\ufffd", text)


def with_plain_line_ends(text: str) -> str:
    """Return it with one newline for each end of a line, two for that of a paragraph or page."""
    return _PARAGRAPH_END.sub("\n\n", _LINE_END.sub("\n", text))


def is_visible(text: str) -> bool:
    """Return whether it is more than blanks, marks without width and controls."""
    return any(char.isprintable() and not char.isspace() for char in text)


def on_one_line(text: str, most: int = 400) -> str:
    """Shorten for people to about so many characters; those that move a cursor written out."""
    shown = text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
