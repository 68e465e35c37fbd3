"""Deployments for benchmarks: by orch.py on the local site, measured straight at their engines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
SMALL = PROJECT / ".tools" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
#: By recipes' names, those whose programs scripts/get_*.sh put there, and their endpoints.
ENGINES = {"ollama": "ollama", "llama.cpp": "llamacpp"}


@dataclass(frozen=True)
class Deployed:
    """One that is ready; `urls` are its engines'."""

    output: Path
    id: str
    model: str
    urls: list[str]

    def load(self, clients: int, requests: int, tokens: int, seed: int = 0) -> dict[str, Any]:
        """The summary of a load on its engines, by the API that all of them speak; always the same
        question, answered as the model finds it likeliest. Ends the program if one fails."""
        token = self.output / "deployments" / self.id / "internal.token"
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(sys.executable, "-m", "loadgen", "--api=openai", f"--model={self.model}"),
                *(f"--url={url}" for url in self.urls),
                *(f"--token-file={token}", f"--clients={clients}", f"--requests={requests}"),
                *(f"--num-predict={tokens}", "--temperature=0", f"--seed={seed}", "--warmup=1"),
                *("--prompt=Tell a long story.", f"--out={folder}", "--no-report", "--quiet"),
            ]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            if done.returncode not in (0, 6):
                sys.exit(f"The load generator ended with {done.returncode}: {done.stderr}")
            summary: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())
        if summary["requests"]["failed"]:
            sys.exit(f"Requests failed: {summary['requests']['errors']}")
        return summary

    def speed(self, clients: int, requests: int, tokens: int) -> float:
        """Output tokens per second of all engines under such a load."""
        found = self.load(clients, requests, tokens)
        return float(found["throughput"]["output_tokens_per_second"])


def orch(output: Path, *words: str, cores: frozenset[int] | None = None) -> str:
    """What orch.py prints, run on some cores, or all."""
    on = cores or frozenset(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, str(PROJECT / "orch.py"), *words, "--output-dir", str(output)],
        preexec_fn=lambda: os.sched_setaffinity(0, on),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"orch.py {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def deployed(
    engine: str,
    service: Mapping[str, Any],
    infrastructure: Mapping[str, Any] | None = None,
    cores: frozenset[int] | None = None,
) -> Iterator[Deployed]:
    """A deployment of an engine, as long as it lives: also if we are told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with tempfile.TemporaryDirectory() as name:
        output, recipe = Path(name) / "output", Path(name) / "recipe.json"
        job = {
            "name": "measured",
            "infrastructure": dict(infrastructure or {}),
            "service": {"engine": engine, "model": str(SMALL), **service},
            "monitoring": {"enabled": False},
        }
        recipe.write_text(json.dumps({"job": job}))
        try:
            said = orch(output, str(recipe), "--site", "local", "--json", cores=cores)
            record = json.loads(said)
            urls = record["endpoints"][ENGINES[engine]]
            yield Deployed(output, record["id"], record["model"], urls)
        finally:
            orch(output, "--stop", "all")
