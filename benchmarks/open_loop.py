"""Streams in an open loop at the door of a deployment, whose address changes while they go on.

Each stream has a connection of its own and is asked when it is due, whatever became of those before
it. As a client may, it goes where an answer says that the door is (the header `orch-address`, or
307), and where it is refused it looks for the newest address. What it does not do is ask again for
an answer that began, or failed: such a one is counted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import sleep, time
from urllib.parse import urlsplit

#: Of a stream that stands still, or a door that does not answer, the longest wait in seconds.
PATIENCE_S = 60.0
#: How often a stream goes to another door before it has its answer.
MOVES = 4
OLLAMA, OPENAI = "/api/chat", "/v1/chat/completions"
#: What the last line of a whole answer has in it.
ENDS = {OLLAMA: b'"done":true', OPENAI: b"[DONE]"}
#: What a line has in it that brings a token: the first one of OpenAI's streams need not.
TOKEN = re.compile(rb'"content": ?"[^"]')


@dataclass
class Stream:
    """One of them. Times are seconds since 1970, `first` that of its first token; `doors`: the
    addresses that it was sent to, of which the last one answered; `why` it has no end of its own,
    if so."""

    number: int
    api: str
    tokens: int
    due: float
    sent: float = 0.0
    first: float = 0.0
    end: float = 0.0
    doors: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.end) and not self.why

    @property
    def cut(self) -> bool:
        """Whether it began, and was not brought to its end; a `why` without that: it failed."""
        return bool(self.first and self.why)

    @property
    def ttft(self) -> float:
        """Seconds from when it was due to its first token."""
        return self.first - self.due

    def __str__(self) -> str:
        kind = "cut" if self.cut else "failed" if self.why else "ok"
        return f"stream {self.number} {self.api} {kind} at {self.doors[-1:]}: {self.why}"


class Moved(Exception):
    """The door is at this address now."""


class OpenLoop:
    """Sends streams from `start` until `stop`; `streams` are those that were due so far.

    `find` gives the newest address, as `http://host:port`; `tokens`: the least and the most that a
    stream asks for, by the seed; `apis`: those that are asked by.
    """

    def __init__(
        self,
        url: str,
        token: str,
        model: str,
        find: Callable[[], str],
        rate: float = 8.0,
        tokens: tuple[int, int] = (8, 32),
        apis: tuple[str, ...] = (OPENAI,),
        seed: int = 0,
    ) -> None:
        self.url, self.streams = url, list[Stream]()
        self._numbers = itertools.count()
        self._token, self._model, self._find = token, model, find
        self._rate, self._tokens, self._apis = rate, tokens, apis
        self._dice = random.Random(seed)
        self._ended = threading.Event()
        self._sending: list[threading.Thread] = []
        self._clock = threading.Thread(target=self._send_all, daemon=True)

    def __enter__(self) -> OpenLoop:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[Stream]:
        """No further streams; returns all once the open ones have ended."""
        self._ended.set()
        self._clock.join()
        for thread in self._sending:
            thread.join()
        return self.streams

    def ask(self, tokens: int, api: str = OPENAI) -> Stream:
        """One stream more, beside the loop's; it is in `streams`, too."""
        return self._begin(Stream(next(self._numbers), api, tokens, time()))

    def _send_all(self) -> None:
        due = time()
        while not self._ended.is_set():
            sleep(max(0.0, due - time()))
            api = self._dice.choice(self._apis)
            tokens = self._dice.randint(*self._tokens)
            self._begin(Stream(next(self._numbers), api, tokens, due))
            due += self._dice.expovariate(self._rate)

    def _begin(self, stream: Stream) -> Stream:
        self.streams.append(stream)
        thread = threading.Thread(target=self._carry_out, args=(stream,), daemon=True)
        self._sending.append(thread)
        thread.start()
        return stream

    def _carry_out(self, stream: Stream) -> None:
        stream.sent = time()
        url = self.url
        for _ in range(MOVES):
            stream.doors.append(url)
            try:
                self._ask_at(url, stream)
            except Moved as moved:
                url = self.url = str(moved)
                continue
            except ConnectionRefusedError:
                found = self._find()
                stream.why = f"refused, and the newest address is {found or 'none'}"
                if found in ("", url):
                    break
                url = self.url = found
                continue
            except (OSError, HTTPException) as error:
                stream.why = f"{type(error).__name__}: {error}"
            break
        stream.end = time()

    def _ask_at(self, url: str, stream: Stream) -> None:
        """Raises Moved, OSError, HTTPException."""
        message = {"role": "user", "content": f"Say {stream.number}"}
        body: dict[str, object] = {"model": self._model, "messages": [message], "stream": True}
        if stream.api == OLLAMA:
            body["options"] = {"num_predict": stream.tokens}
        else:
            body["max_tokens"] = stream.tokens
        at = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        with contextlib.closing(at):
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            at.request("POST", stream.api, json.dumps(body), headers)
            self._read(at.getresponse(), stream)

    def _read(self, answer: HTTPResponse, stream: Stream) -> None:
        if answer.status == 307:
            place = urlsplit(answer.getheader("Location") or "")
            raise Moved(f"{place.scheme}://{place.netloc}")
        if now_at := answer.getheader("orch-address"):
            self.url = now_at
        if answer.status != 200:
            stream.why = f"{answer.status}: {answer.read()[:300].decode(errors='replace')}"
            return
        stream.why, last = "", b""
        for line in answer:
            if not stream.first and TOKEN.search(line):
                stream.first = time()
            last = line if line.strip() else last
        if ENDS[stream.api] not in last:
            stream.why = f"it ended with {last[-200:].decode(errors='replace')!r}"


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed; NaN if there are none."""
    ordered = sorted(values)
    return ordered[int((len(ordered) - 1) * share)] if ordered else float("nan")
