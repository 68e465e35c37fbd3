#!/usr/bin/env python3
"""Tokens per second as deployed, and with the best number of threads that one can set by hand.

    .venv/bin/python benchmarks/threads.py [--runs 5] [--tokens 100] [--model FILE.gguf]

Cases: one core given (as by taskset) and one replica; all cores, and one to three replicas. Each is
a deployment of its own on the local site. All replicas are asked at once, directly, in turn as
deployed and with `options.num_thread` of 1 to the number of cores, so often as `--runs` says;
Ollama loads the model anew for another number, which is not counted. A figure is the median of the
sums over the replicas. Ends with 1 where one as deployed is below 0.95 of the best by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
SMALL = PROJECT / ".tools" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
AT_LEAST = 0.95
#: Where threads are too many an answer may never come; such a number of threads has no speed.
PATIENCE_S = 100.0


@dataclass(frozen=True)
class Case:
    """Cores that the deployment may use, and replicas on them."""

    cores: frozenset[int]
    replicas: int

    def __str__(self) -> str:
        return f"{len(self.cores)} core(s), {self.replicas} replica(s)"


def orch(folder: Path, *words: str, cores: frozenset[int]) -> str:
    """What orch.py prints, run on some cores."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "orch.py"), *words, "--output-dir", str(folder / "output")],
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"orch.py {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def deployed(case: Case, model: Path) -> Iterator[dict[str, Any]]:
    """The record of a deployment on the local site, as long as it lives."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = {
            "job": {
                "name": "threads",
                "infrastructure": {"nodes": case.replicas},
                "service": {"model": str(model)},
                "security": "none",  # the engines are asked directly
                "monitoring": {"enabled": False},
            }
        }
        path = folder / "recipe.json"
        path.write_text(json.dumps(recipe))
        try:
            said = orch(folder, str(path), "--site", "local", "--json", cores=case.cores)
            yield json.loads(said)
        finally:
            orch(folder, "--stop", "all", cores=case.cores)


def ask(url: str, model: str, tokens: int, options: dict[str, int]) -> dict[str, Any] | None:
    """What Ollama says with its answer; None where none comes."""
    body = {
        "model": model,
        "prompt": "Tell a long story.",
        "stream": False,
        "options": {"num_predict": tokens, "seed": 1, "temperature": 0, **options},
    }
    request = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            said: dict[str, Any] = json.load(answer)
            return said
    except TimeoutError:
        return None


def together(record: dict[str, Any], tokens: int, options: dict[str, int]) -> float:
    """The sum over all replicas, which answer at the same time."""
    urls = record["endpoints"]["ollama"]
    with ThreadPoolExecutor(len(urls)) as pool:
        # Loads the model with these options; none is to load while others are measured.
        loaded = list(pool.map(lambda url: ask(url, record["model"], 1, options), urls))
        if None in loaded:
            return 0.0
        answers = list(pool.map(lambda url: ask(url, record["model"], tokens, options), urls))
    # As Ollama counts and times them, without the prompt's.
    return sum(said["eval_count"] / said["eval_duration"] * 1e9 for said in answers if said)


def compare(case: Case, given: argparse.Namespace) -> bool:
    """Measure one case and print its line; whether it is as it is to be."""
    by_hand = range(1, len(os.sched_getaffinity(0)) + 1)
    ways = {"deployed": {}, **{str(n): {"num_thread": n} for n in by_hand}}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    with deployed(case, given.model) as record:
        for run in range(given.runs):
            for way in sorted(ways, reverse=run % 2 == 1):
                # What gives no answer is not tried again: it takes minutes each time.
                if 0.0 not in speeds[way]:
                    speeds[way].append(together(record, given.tokens, ways[way]))
    medians = {way: statistics.median(values) if 0.0 not in values else 0.0
               for way, values in speeds.items()}  # fmt: skip
    best = max(medians[str(n)] for n in by_hand)
    ratio = medians["deployed"] / best if best else 0.0
    good = ratio >= AT_LEAST
    figures = "  ".join(f"{way}: {value:7.1f}" for way, value in medians.items())
    print(f"{case!s:<24} {figures}   {ratio:.3f} of the best {'OK' if good else 'MISSED'}",
          flush=True)  # fmt: skip
    return good


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=5, help="of each number of threads")
    p.add_argument("--tokens", type=int, default=100, help="of an answer")
    p.add_argument("--model", type=Path, default=SMALL)
    given = p.parse_args()
    every = frozenset(os.sched_getaffinity(0))
    cases = [Case(frozenset({min(every)}), 1), *(Case(every, count) for count in (1, 2, 3))]
    print(f"tokens/s of all replicas, medians of {given.runs} runs; numbers: threads set by hand")
    good = [compare(case, given) for case in cases]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
