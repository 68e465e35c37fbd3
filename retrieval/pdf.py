"""The pages of PDF files, read by a process of its own with bounds on its time and memory.

There are files that no reader comes to the end of, and such that need more memory than there is:
neither may end or stop an ingest. Run as a program this module reads a file from standard input,
and writes a line of JSON for each page, and one at the end.
"""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

from contracts.files import PROJECT
from retrieval.errors import Unusable

#: Processor time of a file: so much, and so much more for each megabyte.
SECONDS, SECONDS_PER_MB = 20, 10
MEMORY_BYTES = 4 * 2**30
#: A machine with other work gives a process so much less than a processor.
_PATIENCE = 10


@dataclass
class Pages:
    """Texts by the number of their page, and a sentence on each page that cannot be read."""

    texts: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Line(TypedDict, total=False):
    """What the program says of a page, or of the file: `pages`, once all of it was read."""

    page: int
    text: str
    problem: str
    password: str
    pages: int


def read_pages(data: bytes) -> Pages:
    """Return all pages that can be read. Raises Unusable if the file is no PDF file that can be."""
    seconds = SECONDS + SECONDS_PER_MB * len(data) // 10**6
    output, end = _run(data, seconds)
    pages = Pages()
    last: _Line = {}
    for last in _lines(output):
        if "text" in last:
            pages.texts[last["page"]] = last["text"]
        elif "page" in last:
            pages.problems.append(f"page {last['page']} cannot be read: {last['problem']}")
    if "pages" in last:
        return pages
    why = last.get("password") or f"it is no PDF file that can be read: {last.get('problem', end)}"
    if not pages.texts:
        raise Unusable("unreadable", why)
    pages.problems.append(f"what comes after page {max(pages.texts)} cannot be read: {end}")
    return pages


def _run(data: bytes, seconds: int) -> tuple[bytes, str]:
    """What the program wrote, and how it ended."""
    command = [sys.executable, "-m", "retrieval.pdf", str(seconds)]
    too_long = f"it takes longer than {seconds} s"
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            timeout=_PATIENCE * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return error.output or b"", too_long
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return done.stdout, too_long
    return done.stdout, f"its reader ended with code {done.returncode}"


def _lines(output: bytes) -> Iterator[_Line]:
    """Without the last one if it is not whole."""
    for line in output.split(b"\n")[:-1]:
        yield json.loads(line)


# --- the program ---


def main() -> None:
    """Read standard input as a PDF file; the argument is the seconds that it may take."""
    _bound(int(sys.argv[1]))
    try:
        for line in _read(sys.stdin.buffer.read()):
            _write(line)
    except Exception as error:  # noqa: BLE001  # whatever the parser raises for a broken file
        _write({"problem": _in_words(error)})


def _bound(seconds: int) -> None:
    """The limits that the system keeps; no core is written if they are met."""
    wanted = (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    )
    for which, value in wanted:
        hard = resource.getrlimit(which)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (most, hard))


def _read(data: bytes) -> Iterator[_Line]:
    import pypdf  # takes a tenth of a second, which only this process needs

    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        yield {"password": "it is a PDF file that asks for a password"}
        return
    number = 0  # if there are no pages
    for number, page in enumerate(reader.pages, 1):
        try:
            yield {"page": number, "text": page.extract_text()}
        except Exception as error:  # noqa: BLE001  # of one page; the others may be whole
            yield {"page": number, "problem": _in_words(error)}
    yield {"pages": number}


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _write(line: _Line) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
