"""JSON Lines (https://jsonlines.org): a line ends at a line feed and nowhere else.

What else Unicode has for ends of lines is text; a byte-order mark and blank lines mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from loadgen.measurements import RequestLine


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that hold something, as they stand there, by their number from 1
    on.

    Raises OSError.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip() if number > 1 else line.removeprefix(b"\xef\xbb\xbf").strip()
            if text:
                yield number, text


def requests(folder: Path) -> Iterator[RequestLine]:
    """Return the lines of a run's requests.jsonl. Raises OSError, and ValueError for a line that is
    no JSON."""
    return (json.loads(line) for _, line in numbered(folder / "requests.jsonl"))
