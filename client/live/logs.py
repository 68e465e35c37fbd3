"""The ends of the jobs' logs, without what is secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from contracts.jobs.ids import number_of
from contracts.live.state import LOG_LINES, Log
from engines.http.headers import HIDDEN

#: What is read of a file's end, and kept of a line.
_BYTES, _LINE = 16_384, 300
#: Tokens as lib/service.sh makes them (43 letters and digits), what follows the word by which one
#: is sent, and the keys of others.
_SECRETS = re.compile(
    r"\b[A-Za-z0-9]{43}\b|(?<=[Bb]earer )\S+|(?<=[Bb]asic )\S+|\b(?:hf|sk)[-_][A-Za-z0-9_-]{16,}"
)
#: What Ollama says of each look at it, which the door takes every second.
_LOOKS = re.compile(r"\[GIN\] .*\| (GET|HEAD) ")


def masked(line: str) -> str:
    """Return a line without tokens."""
    return _SECRETS.sub(HIDDEN, line)


class Logs:
    """Reads what has changed."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "logs"
        self._known: dict[Path, tuple[tuple[int, int], tuple[str, ...]]] = {}

    def ends(self, ids: Mapping[str, str]) -> tuple[Log, ...]:
        """Return the last lines of each job: of its output and, after them, of its errors."""
        found = []
        for service, job_id in ids.items():
            name = f"{service}_{number_of(job_id)}"
            errors = self._end(self._folder / f"{name}.err")[-LOG_LINES // 2 :]
            lines = self._end(self._folder / f"{name}.out")[-(LOG_LINES - len(errors)) :]
            if lines or errors:
                found.append(Log(service=service, lines=(*lines, *errors)))
        return tuple(found)

    def _end(self, path: Path) -> tuple[str, ...]:
        try:
            found = path.stat()
            version = (found.st_mtime_ns, found.st_size)
            known = self._known.get(path)
            if known is not None and known[0] == version:
                return known[1]
            with path.open("rb") as file:
                file.seek(max(0, found.st_size - _BYTES))
                data = file.read(_BYTES)
        except OSError:
            return ()
        lines = data.decode("utf-8", "replace").splitlines()
        if found.st_size > _BYTES:
            lines = lines[1:]  # the first is a part of one, perhaps of a token
        told = [line for line in lines if not _LOOKS.match(line)]
        kept = tuple(masked(line)[:_LINE] for line in told[-LOG_LINES:])
        self._known[path] = (version, kept)
        return kept
