"""The load generators that peers.py compares: how each is installed, called, and what it reports.

Versions are pinned. Each peer lives in a virtual environment of its own in the cache folder (with
what it needs, guidellm takes more than 5 GB), so that they go with no copy of the project.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from known import MODEL

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PROMPT = "Why is the sea salt?"


@dataclass(frozen=True)
class Load:
    """`clients` at once, each `rounds` requests one after another, to the server at `url`; a round
    takes `round_s` seconds, of `tokens` tokens. Files go into `folder`."""

    url: str
    clients: int
    rounds: int
    round_s: float
    tokens: int
    folder: Path

    @property
    def requests(self) -> int:
        """In all."""
        return self.clients * self.rounds

    def prompts(self, key: str) -> Path:
        """A file with a line for each request, a JSON object with the prompt under `key`."""
        path = self.folder / "prompts.jsonl"
        path.write_text((json.dumps({key: PROMPT}) + "\n") * self.requests)
        return path

    def tokenizer(self) -> str:
        """Name of a tokenizer that knows no word, in the cache that the environment names: for who
        insists on one, and has the server count all the same."""
        model = self.folder / "hub" / "models--peers--none"
        files = model / "snapshots" / "0"
        files.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(files.name)
        (files / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"}
        (files / "tokenizer_config.json").write_text(json.dumps(kind))
        return "peers/none"

    def environment(self) -> dict[str, str]:
        """Of a tool: no network but the server, no proxy, no telemetry. What it leaves behind
        (aiperf does, among temporary files) goes with the load's folder."""
        folder = str(self.folder)
        ours = {"HF_HOME": folder, "TMPDIR": folder, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        return {**os.environ, "NO_PROXY": "*", "no_proxy": "*", **ours}


_TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
}


@dataclass(frozen=True)
class Ttft:
    """What a tool reports of the time to first token, in seconds."""

    mean: float
    p99: float


@dataclass(frozen=True)
class Tool:
    """`command` makes its arguments (the first is the program), `read` reads its TTFT from the
    load's folder. `packages` are what pip installs; `program` is in its environment."""

    name: str
    program: str
    command: Callable[[Load], Sequence[str]]
    read: Callable[[Path], Ttft]
    packages: tuple[str, ...] = ()

    def installed(self) -> str | None:
        """Its program, installed where it was not; None, with a line why, where that fails."""
        if not self.packages:
            return self.program
        folder = _cache() / "peers" / self.name
        wanted, found = "\n".join(self.packages), folder / "packages"
        if not found.exists() or found.read_text() != wanted:
            problem = _install(folder, self.packages)
            if problem:
                print(f"{self.name} does not install and is left out: {problem}", flush=True)
                return None
            found.write_text(wanted)
        return str(folder / "bin" / self.program)


def _cache() -> Path:
    """Where scripts/common.sh has it, too."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ORCH_CACHE_DIR") or base / "orch")


def _install(folder: Path, packages: Sequence[str]) -> str | None:
    """Make a virtual environment with `packages`; the last line of what went wrong."""
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(folder / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--clear", f"--python={sys.executable}", str(folder)],
        [uv, "pip", "install", "--quiet", f"--python={python}", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return None


# --- ours ---


def _loadgen(load: Load) -> list[str]:
    return [
        "-m", "loadgen", f"--url={load.url}", f"--model={MODEL}", "--api=openai", "--processes=1",
        f"--clients={load.clients}", f"--requests={load.requests}", f"--num-predict={load.tokens}",
        f"--prompt={PROMPT}", f"--out={load.folder}", "--quiet", "--no-report",
    ]  # fmt: skip


def _loadgen_says(folder: Path) -> Ttft:
    found = json.loads((folder / "summary.json").read_text())["latency_seconds"]["ttft"]
    if found["p99"] is None:
        raise LookupError("so few requests have no p99: take more --rounds")
    return Ttft(found["mean"], found["p99"])


# --- peers ---


def _guidellm(load: Load) -> list[str]:
    return [
        "run",
        "--backend", f"kind=openai_http,target={load.url},model={MODEL}:latest",
        "--data", f"kind=json_file,path={load.prompts('prompt')}",
        "--profile", f"kind=concurrent,streams={load.clients}",
        "--constraint", f"kind=max_requests,count={load.requests}",
        "--output", f"kind=json,path={load.folder / 'report.json'}",
        "--disable-console",
    ]  # fmt: skip


def _guidellm_says(folder: Path) -> Ttft:
    report = json.loads((folder / "report.json").read_text())
    found = report["benchmarks"][0]["metrics"]["time_to_first_token_ms"]["successful"]
    return Ttft(found["mean"] / 1000, found["percentiles"]["p99"] / 1000)


def _aiperf(load: Load) -> list[str]:
    return [
        "profile", "--model", MODEL, "--url", load.url, "--endpoint-type", "chat", "--streaming",
        "--use-server-token-count", "--tokenizer", load.tokenizer(),
        "--custom-dataset-type", "single_turn", "--input-file", str(load.prompts("text")),
        "--concurrency", str(load.clients), "--request-count", str(load.requests),
        "--output-artifact-dir", str(load.folder),
        "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics",
    ]  # fmt: skip


def _aiperf_says(folder: Path) -> Ttft:
    found = json.loads((folder / "profile_export_aiperf.json").read_text())["time_to_first_token"]
    return Ttft(found["avg"] / 1000, found["p99"] / 1000)


def _locust(load: Load) -> list[str]:
    return [
        "--headless", "--only-summary", f"--locustfile={HERE / 'peer_locustfile.py'}",
        f"--host={load.url}", f"--users={load.clients}", f"--spawn-rate={load.clients}",
        f"--run-time={load.rounds * load.round_s:.0f}s", f"--csv={load.folder / 'locust'}",
    ]  # fmt: skip


def _locust_says(folder: Path) -> Ttft:
    with (folder / "locust_stats.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["Type"] == "TTFT")
    return Ttft(float(row["Average Response Time"]) / 1000, float(row["99%"]) / 1000)


OURS = Tool("loadgen", sys.executable, _loadgen, _loadgen_says)
TOOLS = (
    OURS,
    Tool("guidellm", "guidellm", _guidellm, _guidellm_says, ("guidellm==0.8.1",)),
    Tool("aiperf", "aiperf", _aiperf, _aiperf_says, ("aiperf==0.13.0",)),
    Tool("locust", "locust", _locust, _locust_says, ("locust==2.47.0",)),
)
#: Peers that are not tried, and why.
LEFT_OUT = {"vllm bench serve": "it comes only with vLLM's engine and CUDA, which are gigabytes"}
