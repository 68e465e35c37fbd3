"""The command line's options, and what they ask for."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from loadgen.options import (
    APIS,
    ARRIVALS,
    DEFAULT_PROMPT,
    DEFAULT_TIMEOUT_S,
    RETRIEVAL,
    Options,
    UsageError,
    check_bounds,
    check_range,
    parse_goodput,
    parse_replicas,
    parse_service,
)
from loadgen.prompts import Prompts, Texts, Varied, check_prompt, read_prompts

#: What one process carries with ease, measured in benchmarks/truth.py: beyond it a second one is
#: taken where there is a core for it.
CLIENTS_PER_PROCESS, RATE_PER_PROCESS = 512, 1000.0

_EPILOG = """commands: `python3 -m loadgen report DIR` writes report.html again, `python3 -m loadgen
compare A B` says what changed, `python3 -m loadgen snapshot DIR` gets metrics.json. Exit codes:
0 valid, 6 not valid, 2 usage, 4 the target is not reachable or refuses, 130 stopped (what was
measured is kept, marked partial)."""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python3 -m loadgen",
        description="Load an LLM server and measure what its users see.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    _add_target(made)
    _add_load(made)
    _add_requests(made)
    _add_output(made)
    return made


def _add_target(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("what is measured")
    add = group.add_argument
    add("--url", action="append", required=True, help="http://HOST:PORT; several are replicas")
    add("--model", required=True)
    api = group.add_mutually_exclusive_group()
    api.add_argument("--api", choices=APIS, default="ollama", help="default: ollama")
    api.add_argument("--retrieval", dest="api", action="store_const", const=RETRIEVAL,
                     help="the URL is a client service's: /query with retrieval")  # fmt: skip
    add("--sits-on", choices=("gpu", "cpu"), help="not valid where the model sits elsewhere")
    add("--gpu-metrics", action="append", default=[], metavar="URL",
        help="/metrics of a DCGM exporter, for the energy; one for each GPU node")  # fmt: skip


def _add_load(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("load")
    add = group.add_argument
    how = group.add_mutually_exclusive_group()
    how.add_argument("--clients", type=int, metavar="N",
                     help="at once, each one request after another (default: 1)")  # fmt: skip
    how.add_argument("--rate", type=float, metavar="R", help="requests/s, whatever becomes of them")
    how.add_argument("--sweep", metavar="N,N…", help="a run for each number of clients")
    how.add_argument("--sweep-rate", metavar="R,R…", help="a run for each rate")
    add("--arrivals", choices=ARRIVALS, default="poisson", help="with a rate; default: poisson")
    add("--max-concurrency", type=int, metavar="N", help="with a rate: at most so many in flight")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--requests", type=int, metavar="N",
                        help="in all (default: one for each client)")  # fmt: skip
    length.add_argument("--duration", type=float, metavar="S", help="seconds of sending")
    add(
        "--warmup",
        type=int,
        default=1,
        help="requests to each replica, not counted; each process sends at least one (default: 1)",
    )
    add("--processes", type=int, metavar="N", help="of the load generator (default: by the load)")
    add("--no-reuse", action="store_true", help="a new connection for each request")
    add("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="of a request")
    add("--stop-on-errors", type=int, metavar="N", help="end the run when so many have failed")


def _add_requests(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("requests")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--prompt", metavar="TEXT")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="JSON Lines, used in turn")
    what.add_argument("--input-tokens", type=int, metavar="N",
                      help="built-in prompts of about N tokens, each another")  # fmt: skip
    add = group.add_argument
    add("--num-predict", type=int, help="tokens at most (default: the model decides)")
    add("--seed", type=int, default=0, help="request i has seed SEED + i (default: 0)")
    add("--goodput", metavar="SLO", help="ttft:0.5,itl:0.05: count requests within these seconds")


def _add_output(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("results").add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="where they go")
    add("--context", type=Path, metavar="FILE", help="JSON about the deployment, for the report")
    add("--prometheus", metavar="URL", help="keep what it saw meanwhile in metrics.json")
    add("--push-gateway", metavar="URL", help="a Pushgateway that is told the figures")
    add("--no-report", action="store_true", help="no report.html")
    add("--quiet", action="store_true", help="no table")
    add("--json-progress", action="store_true", help="a JSON line on stdout, 5 times a second")
    add("--die-with-stdin", action="store_true", help="stop when stdin is closed")


def points(given: argparse.Namespace) -> list[Options]:
    """The runs that were asked for: one, or one for each point of a sweep. Raises UsageError."""
    base = _base(given)
    if given.sweep:
        clients = [int(n) for n in _numbers("--sweep", given.sweep, int)]
        return [_closed(base, given, n, base.out / f"clients-{n}") for n in clients]
    if given.sweep_rate:
        rates = _numbers("--sweep-rate", given.sweep_rate, float)
        return [_open(base, given, rate, base.out / f"rate-{rate:g}") for rate in rates]
    if given.rate is not None:
        return [_open(base, given, given.rate, base.out)]
    return [_closed(base, given, 1 if given.clients is None else given.clients, base.out)]


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    try:
        values = [kind(item) for item in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no list of numbers such as 1,2,4,8.") from error
    if len(set(values)) < len(values):
        raise UsageError(f"{option} {text!r} names a point twice.")
    return [float(value) for value in values]


def _base(given: argparse.Namespace) -> Options:
    """All that does not depend on the load."""
    if not given.model:
        raise UsageError("--model is empty.")
    return Options(
        replicas=parse_replicas(given.url),
        model=given.model,
        out=given.out,
        prompts=_prompts(given),
        api=given.api,
        duration_s=_maybe_range("duration", given.duration),
        num_predict=_maybe_bounds("num_predict", given.num_predict),
        warmup=check_bounds("warmup", given.warmup),
        seed=check_bounds("seed", given.seed),
        timeout_s=check_range("timeout", given.timeout),
        reuse_connections=not given.no_reuse,
        stop_on_errors=_maybe_bounds("stop_on_errors", given.stop_on_errors),
        goodput=parse_goodput(given.goodput) if given.goodput else {},
        sits_on=given.sits_on,
        gpu_metrics=tuple(given.gpu_metrics),
        live=given.json_progress,
    )


def _maybe_bounds(name: str, value: int | None) -> int | None:
    return None if value is None else check_bounds(name, value)


def _maybe_range(name: str, value: float | None) -> float | None:
    return None if value is None else check_range(name, value)


def _prompts(given: argparse.Namespace) -> Prompts:
    if given.prompts:
        return Texts(read_prompts(given.prompts), source="file")
    if given.input_tokens is not None:
        return Varied(check_bounds("input_tokens", given.input_tokens), given.seed)
    return Texts((check_prompt(DEFAULT_PROMPT if given.prompt is None else given.prompt),))


def _closed(base: Options, given: argparse.Namespace, clients: int, out: Path) -> Options:
    if given.max_concurrency is not None:
        raise UsageError("--max-concurrency goes with --rate; --clients is that number already.")
    requests = given.requests
    if requests is None and given.duration is None:
        requests = clients
    return dataclasses.replace(
        base,
        out=out,
        clients=check_bounds("clients", clients),
        requests=_maybe_bounds("requests", requests),
        processes=_processes(given.processes, clients / CLIENTS_PER_PROCESS, clients),
    )


def _open(base: Options, given: argparse.Namespace, rate: float, out: Path) -> Options:
    if given.requests is None and given.duration is None:
        raise UsageError("--rate needs an end: give --duration or --requests.")
    most = _maybe_bounds("max_concurrency", given.max_concurrency)
    return dataclasses.replace(
        base,
        out=out,
        clients=None,
        rate=check_range("rate", rate),
        arrivals=given.arrivals,
        max_concurrency=most,
        requests=_maybe_bounds("requests", given.requests),
        processes=_processes(given.processes, rate / RATE_PER_PROCESS, most),
    )


def _processes(given: int | None, load: float, most: int | None) -> int:
    """As many as are asked for, else as the load needs and there are cores; none without work."""
    if given is None:
        wanted = min(max(1, -int(-load // 1)), len(os.sched_getaffinity(0)))
    else:
        wanted = check_bounds("processes", given)
    return wanted if most is None else max(1, min(wanted, most))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was given; argparse exits with 2. Raises UsageError."""
    given = parser().parse_args(arguments)
    for option in ("--prometheus", "--push-gateway"):
        name = option[2:].replace("-", "_")
        url = getattr(given, name)
        setattr(given, name, url and parse_service(option, url))
    return given
