#!/usr/bin/env python3
"""What a batch makes of its replicas, and what it leaves to whoever asks meanwhile.

    .venv/bin/python benchmarks/batch.py [--runs 3] [--seconds 60]

Three servers with known times (known_server.c) behind the real door (doors.py). The throughput of a
batch, its start and end included, as a part of what the load generator gets through the same door
with twice as many clients as slots, so that an engine always has the next request at hand; then the
TTFT of one question every half second while a batch is worked off, as a multiple of that of an idle
deployment. Answers take 5 s, as a page of text does; the throughput of answers of 0.7 s is shown,
too: all end at the same moment here, and the next ones begin one after another, some 30 ms later.
Ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter

from door import Behind
from doors import Door, door
from known import MODEL, KnownServer, known_server
from measuring import PROJECT, Figures, load

REPLICAS, SLOTS = 3, 4
USUAL = {"ttft": 0.2, "itl": 0.05, "tokens": 100, "slots": SLOTS}
SHORT = {"ttft": 0.1, "itl": 0.02, "tokens": 30, "slots": SLOTS}
LEAST_OF_LOADGEN, MOST_OF_IDLE = 0.97, 1.3
QUESTIONS, GAP_S = 12, 0.5


@contextlib.contextmanager
def deployment(folder: Path, pace: dict[str, float]) -> Iterator[tuple[Door, KnownServer]]:
    """Replicas behind their door, and one of them."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(known_server(None, **pace)) for _ in range(REPLICAS)]
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        yield stack.enter_context(door(folder, addresses, SLOTS)), servers[0]


def batch(at: Door, folder: Path, lines: int, tokens: float) -> list[str]:
    """The command that works off so many lines."""
    given = folder / "in.jsonl"
    asked = {"prompt": "Tell a long story.", "max_tokens": tokens}
    given.write_text(f"{json.dumps(asked)}\n" * lines)
    command = [sys.executable, "-m", "batch", str(given), "--out", str(folder / f"{lines}.jsonl")]
    return [*command, "--url", at.url, "--token-file", str(at.token_file)]


def lines_of(seconds: float, pace: dict[str, float]) -> int:
    """How many lines keep all slots busy for so long."""
    answer_s = pace["ttft"] + pace["itl"] * pace["tokens"]
    return round(seconds / answer_s) * REPLICAS * SLOTS


def by_batch(at: Door, folder: Path, lines: int, tokens: float) -> float:
    """Lines per second."""
    began = perf_counter()
    subprocess.run(batch(at, folder, lines, tokens), cwd=PROJECT, check=True, capture_output=True)
    return lines / (perf_counter() - began)


def by_loadgen(at: Door, server: KnownServer, lines: int, tokens: float) -> float:
    """Requests per second, until the last one has ended: the throughput of its summary leaves the
    time out in which some clients have nothing to do any more, which a batch has, too."""
    made = load(
        Behind(server.port, server.pid, at.at), f"--token-file={at.token_file}", "--api=openai",
        f"--clients={2 * REPLICAS * SLOTS}", f"--requests={lines}",
        f"--num-predict={tokens}",
    )  # fmt: skip
    return lines / float(made.summary["seconds"]["total"])


def first_token_s(at: Door) -> float:
    """Seconds until the first line of a streamed answer."""
    host, _, port = at.at.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=60)
    fields = {"Authorization": f"Bearer {at.token_file.read_text().strip()}"}
    try:
        began = perf_counter()
        connection.request("POST", "/api/generate",
                           json.dumps({"model": MODEL, "prompt": "Why?"}), fields)  # fmt: skip
        answer = connection.getresponse()
        answer.readline()
        took = perf_counter() - began
        answer.read()
        return took
    finally:
        connection.close()


def asked(at: Door) -> float:
    """The median TTFT of some questions, a while apart."""
    found = []
    for _ in range(QUESTIONS):
        found.append(first_token_s(at))
        threading.Event().wait(GAP_S)
    return statistics.median(found)


def throughput(figures: Figures, folder: Path, seconds: float, pace: dict[str, float]) -> None:
    """Of a batch and of the load generator."""
    lines, tokens = lines_of(seconds, pace), pace["tokens"]
    with deployment(folder, pace) as (at, server):
        loadgen = by_loadgen(at, server, lines, tokens)
        made = by_batch(at, folder, lines, tokens)
    bound = LEAST_OF_LOADGEN if pace is USUAL else 0.0
    what = "answers of 5 s" if pace is USUAL else "answers of 0.7 s"
    figures.add(f"{what}: throughput by loadgen, requests/s", loadgen)
    figures.add(f"{what}: by a batch, of that", made / loadgen, at_least=bound)


def questions(figures: Figures, folder: Path) -> None:
    """While nobody else is there, and beside a batch."""
    with deployment(folder, USUAL) as (at, _):
        idle = asked(at)
        busy = batch(at, folder, lines_of(3600, USUAL), USUAL["tokens"])
        with subprocess.Popen(busy, cwd=PROJECT, stdout=subprocess.DEVNULL) as working:
            try:
                while json.loads(at.ask("/slots").body)["batch"] < REPLICAS * SLOTS:
                    threading.Event().wait(0.1)
                during = asked(at)
            finally:
                working.terminate()
    figures.add("TTFT of an idle deployment, s", idle)
    figures.add("TTFT beside a batch, of that", during / idle, at_most=MOST_OF_IDLE)


def measure(figures: Figures, folder: Path, seconds: float) -> None:
    """All of it once, each with a deployment of its own."""
    places = [folder / name for name in ("usual", "short", "questions")]
    for place in places:
        place.mkdir()
    throughput(figures, places[0], seconds, USUAL)
    throughput(figures, places[1], seconds, SHORT)
    questions(figures, places[2])


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=60.0, help="of a throughput's measurement")
    given = p.parse_args()
    figures = Figures()
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            measure(figures, Path(folder), given.seconds)
    return 0 if figures.report(f"medians of {given.runs} runs") else 1


if __name__ == "__main__":
    sys.exit(main())
