"""What orch prints when it is done: endpoints, lines to copy, the benchmark's main figures."""

from __future__ import annotations

import getpass
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.console import columns
from hpc.endpoints import MONITORING_SERVICES, OutputDir
from hpc.readiness import ModelInfo, same_precision
from hpc.recipe import Recipe, full_model_name
from hpc.records import Record


def endpoint_lines(record: Record, output: OutputDir) -> list[str]:
    """The endpoints, a curl line, the tunnel to them, and how to stop."""
    endpoints = record.data["endpoints"]
    client = endpoints["client"]
    rows = [["client", client]]
    rows += [["ollama", url] for url in endpoints["ollama"]]
    if "qdrant" in endpoints:
        key = output.path / "scripts" / f"{record.id}.qdrant.key"
        rows.append(["qdrant", f"{endpoints['qdrant']}   # API key in {key}"])
    watch = [name for name in MONITORING_SERVICES if name in endpoints]
    rows += [[name, endpoints[name]] for name in watch]
    if "grafana" in watch:
        password = output.path / "grafana_data" / record.jobs["monitoring"] / "password"
        rows.append(["", f"user admin, password in {password}"])
    rows.append(["ask", _curl(client)])
    if record.data["site"]["scheduler"] == "slurm":
        rows.append(["tunnel", _tunnel(client, *(endpoints[name] for name in watch))])
    rows.append(["stop", output.command("--stop", record.id)])
    return [f"{record.id} is ready", *(f"  {line}" for line in columns(rows))]


def _curl(client: str) -> str:
    proxied = any(os.environ.get(name) for name in ("http_proxy", "HTTP_PROXY", "all_proxy"))
    data = shlex.quote(json.dumps({"prompt": "What is a supercomputer?"}))
    return (
        f"curl -s {'--noproxy * ' if proxied else ''}{client}/query "
        f"-H 'Content-Type: application/json' -d {data}"
    ).replace("--noproxy *", "--noproxy '*'")


def _tunnel(*urls: str) -> str:
    login = f"{getpass.getuser()}@{os.uname().nodename}"
    hosts = [url.removeprefix("http://").rpartition(":") for url in urls]
    forwards = " ".join(f"-L {port}:{host}:{port}" for host, _, port in hosts)
    return f"ssh -N {forwards} {login}   # then http://localhost:{hosts[0][2]} at home"


def precision_problem(recipe: Recipe, model: ModelInfo) -> str | None:
    """A sentence where the recipe's precision is not the one of the loaded model."""
    asked = recipe.job.service.precision
    if asked is None or same_precision(asked, model.quantization):
        return None
    name = full_model_name(recipe.job.service.model)
    base = name.rpartition(":")[0]
    return (
        f"the recipe says precision {asked}, but {model.name} is {model.quantization or 'unknown'}:"
        f" use a model of that precision (a tag such as {base}:…-{asked.lower()}, listed at "
        f"https://ollama.com/library/{base.rpartition('/')[2]}/tags), or correct the recipe"
    )


def placement_problem(gpus: int, model: ModelInfo) -> str | None:
    """A sentence where GPUs were asked for and the model does not sit on them."""
    if gpus == 0 or model.where == "gpu":
        return None
    gib = 1024**3
    return (
        f"{gpus} GPU(s) per node were asked for, but {model.name} sits on {model.where}: "
        f"{model.size_vram / gib:.2f} of {model.size / gib:.2f} GiB are in GPU memory; look for "
        'the cause in the Ollama log, ask for "gpus": 0, or accept it with "allow_cpu": true'
    )


def source_lines(answer: Mapping[str, Any]) -> list[str]:
    """The sources that an answer had, and the time of each step; none where it had none."""
    sources = answer.get("sources")
    if not sources:
        return []
    rows = [
        [f"[{one['number']}]", f"{one['score']:.3f}", _short(one["source"]), one["heading"]]
        for one in sources
    ]
    timings = answer.get("timings") or {}
    steps = ", ".join(f"{name} {_number(seconds)} s" for name, seconds in timings.items())
    return ["sources:", *(f"  {line}" for line in columns(rows)), f"  steps: {steps}"]


def _short(path: str) -> str:
    """As it is named from here, where that is below."""
    return path.removeprefix(f"{Path.cwd()}/")


def benchmark_lines(result: dict[str, Any], folder: Path) -> list[str]:
    """The main figures of a benchmark; latencies in seconds."""
    head = (
        f"benchmark: {result.get('successful')} of {result.get('total_queries')} requests "
        f"succeeded, {result.get('n_clients')} clients, {_number(result.get('total_time'))} s"
    )
    rows = [["", "mean", "p50", "p90", "p95", "p99"]]
    latency = result.get("latency_seconds") or {}
    for name, label in _LATENCIES:
        rows.append([label, *_spread(latency.get(name) or {})])
    rows += _steps(result.get("server_seconds") or {})
    throughput = result.get("throughput") or {}
    rates = [
        [_number(throughput.get("requests_per_second")), "requests/s"],
        [_number(throughput.get("output_tokens_per_second")), "output tokens/s, all clients"],
    ]
    notes = [f"note: {note}" for note in (result.get("validity") or {}).get("notes") or []]
    figures = columns(rows) + columns(rates) + notes
    return [head, *(f"  {line}" for line in figures), f"  in {folder}"]


def partial_line(requests: Mapping[str, Any] | None, folder: Path) -> str:
    """What is left of a benchmark that was cut short; `requests` as in its summary."""
    if requests is None:
        return f"the benchmark was cut short, and left no results in {folder}"
    errors = ", ".join(f"{kind}: {n}" for kind, n in requests["errors"].items())
    return (
        f"the benchmark was cut short: {requests['succeeded']} of {requests['planned']} requests "
        f"succeeded, {requests['failed']} failed{f' ({errors})' if errors else ''}; "
        f"they are in {folder}"
    )


_LATENCIES = (
    ("ttft", "TTFT [s]"),
    ("itl", "ITL [s]"),
    ("tpot", "TPOT [s]"),
    ("e2e", "E2E [s]"),
)


def _steps(server: Mapping[str, Any]) -> list[list[str]]:
    """Where the time goes; no rows where there was no retrieval."""
    if not (server.get("embed") or {}).get("n"):
        return []
    steps = ("embed", "search", "prefill", "decode", "queue")
    return [[f"{step} [s]", *_spread(server.get(step) or {})] for step in steps]


def _spread(figures: dict[str, Any]) -> Sequence[str]:
    return [_number(figures.get(key)) for key in ("mean", "p50", "p90", "p95", "p99")]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "n/a"
