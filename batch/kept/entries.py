"""The entries of a batch's ledger, and what an answer's line says of itself.

A ledger holds, in the order in which it happened:
`begin`: a run, with its input and its conditions; `unit`: a line that is done, with the place of
its answer, or that has failed; `rewritten`: the answers were written anew, so that all places of
units before are void.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from batch.given.check import Checked
from contracts.json_object import JsonObject
from engines.json_values import count_of, object_or_empty, part_of, text_of
from ledger.conditions import Conditions, fingerprint

REWRITTEN: JsonObject = {"entry": "rewritten"}
#: Digits of the conditions' fingerprint in an answer's id.
_OF_CONDITIONS = 8
_HEAD = re.compile(rb'\{"id":"batch_req_([0-9a-f]{32})([0-9a-f]{8})([0-9a-f]{8})",')


def now() -> str:
    """Return the time, as files have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Begin:
    """A run: its conditions, their fingerprint, those before that were accepted, and its input's
    digest."""

    conditions: Conditions
    accepted: Sequence[str]
    digest: str

    @property
    def key(self) -> str:
        """Fingerprint of the conditions."""
        return fingerprint(dict(self.conditions))

    def entry(self, given: Checked) -> JsonObject:
        """Return the ledger's entry."""
        return {
            "entry": "begin",
            "at": now(),
            "input": {
                "path": str(given.path),
                "bytes": given.size,
                "lines": given.lines,
                "digest": given.digest,
            },
            "conditions": dict(self.conditions),
            "accepted": list(self.accepted),
        }


def begin_of(entry: JsonObject) -> Begin:
    """Return the run that an entry is of."""
    accepted = entry.get("accepted")
    return Begin(
        {name: str(value) for name, value in part_of(entry, "conditions").items()},
        [str(one) for one in accepted] if isinstance(accepted, list) else [],
        str(part_of(entry, "input").get("digest")),
    )


@dataclass(frozen=True, slots=True)
class Done:
    """An answer that is there: the line's custom_id and key, the fingerprint of its conditions, how
    often it was asked, where its line is in the answers, and the tokens that were counted."""

    custom_id: str
    key: str
    conditions: str
    attempt: int
    at: int
    size: int
    checksum: str
    input_tokens: int
    output_tokens: int

    def moved(self, at: int) -> Done:
        """Return the same at another place."""
        return Done(self.custom_id, self.key, self.conditions, self.attempt, at, self.size,
                    self.checksum, self.input_tokens, self.output_tokens)  # fmt: skip

    def entry(self) -> JsonObject:
        """Return the ledger's entry."""
        return {
            "entry": "unit",
            "unit": self.key,
            "custom_id": self.custom_id,
            "conditions": self.conditions,
            "state": "done",
            "attempt": self.attempt,
            "at": self.at,
            "bytes": self.size,
            "crc32": self.checksum,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


def done_of(entry: JsonObject) -> Done | None:
    """Return what an entry says of an answer; None if it says that there is none, or nothing that
    can be used."""
    counts = ("at", "bytes", "attempt", "input_tokens", "output_tokens")
    at, size, attempt, read, written = (count_of(entry, key) for key in counts)
    texts = [text_of(entry, key) for key in ("custom_id", "unit", "conditions", "crc32")]
    custom_id, key, conditions, checksum = texts
    if entry.get("state") != "done" or at is None or not size or not custom_id or not key:
        return None
    if not re.fullmatch("[0-9a-f]{32}", key):
        return None
    return Done(custom_id, key, conditions or "", attempt or 1, at, size, checksum or "",
                read or 0, written or 0)  # fmt: skip


def failed_entry(custom_id: str, key: str, conditions: str, attempt: int, code: str) -> JsonObject:
    """Return the ledger's entry of a line that has failed in the end."""
    return {
        "entry": "unit",
        "unit": key,
        "custom_id": custom_id,
        "conditions": conditions,
        "state": "failed",
        "attempt": attempt,
        "error": code,
    }


def line_of(key: str, conditions: str, rest: JsonObject) -> bytes:
    """Return the line of an answer. Its id has the line's key, the beginning of the conditions'
    fingerprint and a checksum of the rest, so that it proves itself what it is."""
    try:
        text = json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which models write at times
        text = json.dumps(rest, separators=(",", ":")).encode()
    text = text[1:] + b"\n"
    mark = f"batch_req_{key}{conditions[:_OF_CONDITIONS]}{checksum_of(text)}"
    return b'{"id":"%b",%b' % (mark.encode(), text)


def proved(line: bytes, at: int, runs: Sequence[str]) -> Done | None:
    """Return what an answer's own line says, which has no entry since we were killed between the
    two; None if it does not prove that it is whole and of one of the `runs` (fingerprints of
    conditions)."""
    head = _HEAD.match(line)
    if head is None or checksum_of(line[head.end() :]) != head[3].decode():
        return None
    conditions = next((run for run in runs if run.startswith(head[2].decode())), None)
    answer = object_or_empty(line)
    custom_id = text_of(answer, "custom_id")
    if conditions is None or not custom_id:
        return None
    tokens = tokens_of(part_of(part_of(answer, "response"), "body"))
    key = head[1].decode()
    return Done(custom_id, key, conditions, 1, at, len(line), checksum_of(line), *tokens)


def checksum_of(line: bytes) -> str:
    """Return the CRC-32 of bytes, by which torn ones are known."""
    return f"{zlib.crc32(line):08x}"


def tokens_of(body: JsonObject) -> tuple[int, int]:
    """Return how many tokens were read and written for an answer, as the server has counted them:
    OpenAI's usage, that of its responses, or Ollama's counts."""
    usage = part_of(body, "usage") or body
    read, written = (
        next((n for name in names if (n := count_of(usage, name)) is not None), 0)
        for names in (
            ("prompt_tokens", "input_tokens", "prompt_eval_count"),
            ("completion_tokens", "output_tokens", "eval_count"),
        )
    )
    return read, written
