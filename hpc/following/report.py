"""What orch prints when it is done: endpoints, lines to copy, the benchmark's main figures."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.figures import MAIN
from contracts.live.copy_lines import tunnel, ways_to_ask
from contracts.summary import Distribution
from engines.servers.deployable import DEPLOYED
from hpc.console import columns
from hpc.endpoints import MONITORING_SERVICES
from hpc.following.answers import Answered, RequestsSent, Result
from hpc.scheduler.registry import kind_of
from hpc.service import Launched, Service

if TYPE_CHECKING:
    from hpc.deployments.facts import ReplicaFacts


def endpoint_lines(launched: Launched, services: Sequence[Service]) -> list[str]:
    """The endpoints, a curl line, the tunnel to them, and how to stop."""
    record, endpoints = launched.record, launched.record.endpoints
    notes = {name: note for s in services for name, note in s.notes(launched).items()}
    notes |= {one["url"]: share_of(one) for one in record.replicas}
    rows = []
    for name, at in endpoints.items():
        for url in [at] if isinstance(at, str) else at or ():
            note = notes.get(name) or notes.get(url)
            rows.append([name, f"{url}   # {note}" if note else url])
    token = launched.token_file.with_name("user.token")
    rows += ways_to_ask(
        launched.client,
        token,
        queries=launched.recipe.job.service.server is None,
        native=_speaks_ollama(launched),
    )
    if not kind_of(record.scheduler).this_machine:
        watch = [u for name in MONITORING_SERVICES if isinstance(u := endpoints.get(name), str)]
        rows.append(["tunnel", tunnel_line(launched.client, *watch)])
    rows.append(["stop", launched.output.command("--stop", record.id)])
    return [f"{record.id} is ready", *(f"  {line}" for line in columns(rows))]


def share_of(replica: ReplicaFacts) -> str:
    """What a replica has of its node, for people."""
    cpus, gpus = replica["cpus"], replica["gpus"]
    what = [f"CPUs {cpus}" if cpus else "the job's CPUs", f"GPUs {gpus}" if gpus else ""]
    return f"{replica['node']}: {', '.join(filter(None, what))}"


def _speaks_ollama(launched: Launched) -> bool:
    return DEPLOYED[launched.recipe.job.service.engine].api == "ollama"


def tunnel_line(*urls: str) -> str:
    """The line that opens a tunnel to URLs of this cluster at home, through this machine."""
    return tunnel(f"{getpass.getuser()}@{os.uname().nodename}", *urls)


def source_lines(answer: Answered) -> list[str]:
    """The sources that an answer had, and the time of each step; none when it had none."""
    if not answer.sources:
        return []
    rows = [
        [f"[{one.number}]", f"{one.score:.3f}", _short(one.source), one.heading]
        for one in answer.sources
    ]
    steps = ", ".join(f"{name} {_number(seconds)} s" for name, seconds in answer.timings.items())
    return ["sources:", *(f"  {line}" for line in columns(rows)), f"  steps: {steps}"]


def _short(path: str) -> str:
    """As it is named from here, when that is below."""
    return path.removeprefix(f"{Path.cwd()}/")


def benchmark_lines(result: Result, folder: Path) -> list[str]:
    """The main figures of a benchmark; latencies in seconds."""
    clients, rate = result.n_clients, result.load.rate
    who = f"{clients} clients" if rate is None else f"{rate:g} requests/s asked for"
    head = (
        f"benchmark: {result.successful} of {result.total_queries} requests "
        f"succeeded, {who}, {_number(result.total_time)} s"
    )
    rows = [["", "mean", "p50", "p90", "p95", "p99"]]
    for figure in MAIN:
        rows.append([f"{figure.label} [s]", *_spread(result.latency_seconds.get(figure.key))])
    rows += _steps(result)
    throughput = result.throughput
    rates = [
        [_number(throughput.requests_per_second), "requests/s"],
        [_number(throughput.output_tokens_per_second), "output tokens/s, all clients"],
    ]
    notes = [f"note: {note}" for note in result.validity.notes]
    figures = columns(rows) + columns(rates) + notes
    return [head, *(f"  {line}" for line in figures), f"  in {folder}"]


def partial_line(requests: RequestsSent | None, folder: Path) -> str:
    """What is left of a benchmark that was cut short; `requests` as in its summary."""
    if requests is None:
        return f"the benchmark was cut short, and left no results in {folder}"
    errors = ", ".join(f"{kind}: {n}" for kind, n in requests.errors.items())
    return (
        f"the benchmark was cut short: {requests.succeeded} of {requests.planned} requests "
        f"succeeded, {requests.failed} failed{f' ({errors})' if errors else ''}; "
        f"they are in {folder}"
    )


def _steps(result: Result) -> list[list[str]]:
    """What takes the time; no rows when there was no retrieval."""
    embed = result.server_seconds.get("embed")
    if embed is None or not embed.n:
        return []
    steps = ("embed", "search", "prefill", "decode", "queue")
    return [[f"{step} [s]", *_spread(result.server_seconds.get(step))] for step in steps]


def _spread(found: Distribution | None) -> Sequence[str]:
    spread = found or Distribution()
    return [_number(spread.at(name)) for name in ("mean", "p50", "p90", "p95", "p99")]


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
