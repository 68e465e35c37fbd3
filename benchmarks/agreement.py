#!/usr/bin/env python3
"""A sweep against the real Ollama: do our tokens per second agree with its own?

    .venv/bin/python benchmarks/agreement.py [--sweep 1,2,4,8] [--tokens 384] [--out DIR]

Starts the Ollama that `make ollama` brings (or PATH has) with the small real model of `make model`,
runs the load generator's sweep, and compares, point by point: tokens/s per request (1 / TPOT) with
eval_count by Ollama's own time, and tokens/s in total with Ollama's counts and durations. Ends with
1 where one is more than 2 % off.

Ollama has two answers to how long it generated: eval_duration leaves out the sampling of each token
(runner/llamarunner/runner.go of Ollama 0.17.4 adds up the decoding of batches alone), which takes
3 % of the time with this small model; total - load - prompt_eval_duration has it, and waits as
well. Per request we are to lie between the two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MODEL_FILE = PROJECT / ".tools" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TOLERANCE = 0.02
PORT = 11634


@contextlib.contextmanager
def ollama(folder: Path) -> Iterator[str]:
    """Ollama with the model, under the name `real`; its URL."""
    path = f"{os.environ['PATH']}:{PROJECT / '.tools' / 'bin'}"
    program = shutil.which("ollama", path=path)
    if program is None or not MODEL_FILE.exists():
        sys.exit("There is no Ollama or no model: run make ollama and make model first.")
    environment = os.environ | {
        "HOME": str(folder), "OLLAMA_MODELS": str(folder), "OLLAMA_HOST": f"127.0.0.1:{PORT}",
        "OLLAMA_NUM_PARALLEL": "8", "OLLAMA_KEEP_ALIVE": "-1", "NO_PROXY": "*",
    }  # fmt: skip
    (folder / "Modelfile").write_text(f"FROM {MODEL_FILE}\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([program, "serve"], env=environment, **quiet)
    try:
        _wait(f"http://127.0.0.1:{PORT}/api/version")
        create = [program, "create", "real", "-f", str(folder / "Modelfile")]
        subprocess.run(create, env=environment, check=True, **quiet)
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait()


def _wait(url: str) -> None:
    """Until it answers, for at most 10 s."""
    deadline = time.monotonic() + 10
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def compare(folder: Path) -> bool:
    """Print one point's figures, ours and Ollama's; whether they agree."""
    summary = json.loads((folder / "summary.json").read_text())
    requests = [json.loads(line) for line in (folder / "requests.jsonl").open()]
    ours = statistics.mean(1 / r["tpot"] for r in requests)
    decode = statistics.mean(r["output_tokens"] / r["server"]["decode"] for r in requests)
    theirs = statistics.mean(r["output_tokens"] / _decoding(r["server"]) for r in requests)
    total = summary["throughput"]["output_tokens_per_second"]
    counted = _in_total(requests, summary["seconds"]["measured"], summary["load"]["clients"])
    off = total / counted - 1
    print(
        f"{folder.name:<10} per request {ours:7.2f} tokens/s, "
        f"by Ollama {theirs:.2f} to {decode:.2f}   "
        f"in total {total:7.2f}, by Ollama {counted:7.2f} ({off:+.1%})   "
        f"{'valid' if summary['validity']['valid'] else summary['validity']['reasons']}"
    )
    low, high = theirs * (1 - TOLERANCE), decode * (1 + TOLERANCE)
    return low <= ours <= high and abs(off) <= TOLERANCE


def _decoding(server: dict[str, float]) -> float:
    """Ollama's time from the end of prefill to the end of the answer."""
    return server["total"] - server["load"] - server["prefill"]


def _in_total(requests: list[dict], window: float, clients: int) -> float:
    """Tokens per second of all clients, by Ollama's counts and durations alone, in the window."""
    shares = [max(0.0, min(1.0, (window - r["sent"]) / r["e2e"])) for r in requests]
    tokens = sum(r["output_tokens"] * share for r, share in zip(requests, shares, strict=True))
    busy = sum(r["server"]["total"] * share for r, share in zip(requests, shares, strict=True))
    return clients * tokens / busy


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--sweep", default="1,2,4,8")
    p.add_argument("--requests", type=int, default=8, help="at each point")
    p.add_argument("--tokens", type=int, default=384)
    p.add_argument("--out", type=Path, help="keep the results, with their reports, there")
    given = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ollama(Path(scratch)) as url:
        out = given.out or Path(scratch) / "sweep"
        command = [sys.executable, "-m", "loadgen", f"--url={url}", "--model=real", f"--out={out}"]
        command += [f"--sweep={given.sweep}", f"--requests={given.requests}", "--input-tokens=64"]
        command += [f"--num-predict={given.tokens}", "--quiet"]
        command += [] if given.out else ["--no-report"]
        subprocess.run(command, cwd=PROJECT, check=False)
        agree = [compare(out / f"clients-{n}") for n in given.sweep.split(",")]
        return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
