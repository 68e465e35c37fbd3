#!/usr/bin/env python3
"""How soon the slot of a real engine is free when a client leaves.

    .venv/bin/python benchmarks/cancel.py --output-dir DIR [--runs 3]

DIR is that of a deployment that runs, with one slot (num_parallel 1) and a model that answers at
length; nothing else asks it. By each API, streamed or not, a client leaves a second after it has
asked for a long answer, and another one asks at once for a token: what that takes longer than on an
idle engine is how long the slot was held. While a long prompt is read Ollama does not stop (its
issue 11889): that is told, too, and has no bound.

Ends with 1 where a slot was held for more than a second.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from contextlib import closing
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from doors import Door
from measuring import Figures

WAYS = ("/query", "/api/chat", "/v1/chat/completions")
MOST_S, LEAVES_AFTER_S = 1.0, 1.0
STORY, TOKENS, WORDS = "Write a very long story about a river, with many chapters.", 1000, 100


def deployed(output: Path) -> tuple[Door, str]:
    """The door of the newest deployment, and its model."""
    newest = max((output / "deployments").glob("*.json"), key=lambda path: path.stat().st_mtime)
    record = json.loads(newest.read_text())
    at = record["endpoints"]["client"].removeprefix("http://")
    return Door(at, output, record["id"], 0), record["model"]


def body_of(way: str, model: str, prompt: str, tokens: int, stream: bool) -> dict[str, Any]:
    """What is asked by that way."""
    options = {"num_predict": tokens, "temperature": 0}
    if way == "/query":
        return {"prompt": prompt, "stream": stream, "options": options}
    chat = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    if way == "/api/chat":
        return {**chat, "options": options}
    return {**chat, "max_tokens": tokens, "temperature": 0}


def leave(at: Door, way: str, body: dict[str, Any]) -> None:
    """Ask, and be gone a second later."""
    host, _, port = at.at.rpartition(":")
    text, token = json.dumps(body).encode(), at.token_file.read_text().strip()
    head = f"POST {way} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\nContent-Length: {len(text)}\r\n\r\n"
    with closing(socket.create_connection((host, int(port)))) as sock:
        sock.sendall(head.encode() + text)
        sleep(LEAVES_AFTER_S)


def next_one(at: Door, model: str) -> float:
    """Seconds until the next one has its only token. Ends the program if it is refused."""
    began = perf_counter()
    answer = at.ask("/api/chat", body_of("/api/chat", model, "Hi", 1, False), 600)
    if answer.status != 200:
        sys.exit(f"The door answered {answer.status}: {answer.body.decode(errors='replace')}")
    return perf_counter() - began


def measure(figures: Figures, at: Door, model: str, run: int) -> None:
    """Each way once."""
    for number, way in enumerate(WAYS):
        for stream in (True, False):
            name = f"{way}, {'streamed' if stream else 'whole'}"
            idle = next_one(at, model)
            leave(at, way, body_of(way, model, STORY, TOKENS, stream))
            held = next_one(at, model) - idle
            figures.add(f"{name}: left in its answer, s", held, at_most=MOST_S)
            new = f"{run}{number}{stream:d}"  # from its first word on
            prompt = " ".join(f"{new}w{word}" for word in range(WORDS))
            leave(at, way, body_of(way, model, prompt, 1, stream))
            figures.add(f"{name}: left in its prompt, s", next_one(at, model) - idle)


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--output-dir", type=Path, required=True)
    p.add_argument("--runs", type=int, default=3)
    given = p.parse_args()
    figures = Figures()
    for run in range(given.runs):
        measure(figures, *deployed(given.output_dir.resolve()), run)
    return 0 if figures.report("Slots held by who has left: median (lowest to highest run)") else 1


if __name__ == "__main__":
    sys.exit(main())
