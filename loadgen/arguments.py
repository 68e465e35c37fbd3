"""The command line's options, and what they ask for."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

from contracts.conversations import Conversation
from contracts.errors import UsageError
from contracts.json_object import JsonObject
from contracts.knobs import DEFAULT_PROMPT
from contracts.load import APIS, LoadSpec
from engines.http.headers import Headers, headers_of
from engines.http.tls import context_of
from engines.registry import ENGINES, RETRIEVAL
from loadgen.console import print_error
from loadgen.flags import add_flags, flag, given_load, validate_load
from loadgen.load.prompts import Prompts, Texts, Varied, read_prompts, texts_of
from loadgen.options import Options, parse_metrics, parse_replicas, parse_service

#: What one process carries with ease, measured in benchmarks/truth.py: beyond it a second one is
#: taken if there is a core for it.
CLIENTS_PER_PROCESS, RATE_PER_PROCESS = 512, 1000.0

_EPILOG = """commands: `python3 -m loadgen report DIR` writes report.html again, `python3 -m loadgen
compare A B` says what changed, `python3 -m loadgen snapshot DIR` gets metrics.json. Exit codes:
0 valid, 6 not valid, 2 usage, 4 the target is not reachable or refuses, 130 stopped (what was
measured is kept, marked partial)."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python3 -m loadgen",
        description="Load an LLM server and measure what its users see.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    _add_target(parser)
    add_flags(parser)
    _add_runs(parser)
    _add_output(parser)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    add = group.add_argument
    add("--url", action="append", required=True,
        help="http://HOST:PORT, https://HOST/v1, …; several are replicas")  # fmt: skip
    add("--model", required=True)
    api = group.add_mutually_exclusive_group()
    api.add_argument("--api", choices=APIS, default="ollama", help="default: ollama")
    api.add_argument("--retrieval", dest="api", action="store_const", const=RETRIEVAL,
                     help="the URL is a client service's: /query with retrieval")  # fmt: skip
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="with the API key alone, which requests "
        "carry as Authorization: Bearer (default: $OPENAI_API_KEY or $OLLAMA_API_KEY, by --api)",
    )
    add(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'|@FILE",
        help="that requests carry, too; @FILE: a file's, one a line, which others do not see",
    )
    add("--addresses", type=Path, metavar="FILE", help="with host:port of each --url, a line "
        "each, read while one does not answer: it may come again at another port")  # fmt: skip
    add("--ca", metavar="FILE", help="of CAs to trust for https (default: the system's)")
    add("--api-key", "--token", dest="shown_key", help=argparse.SUPPRESS)
    add("--sits-on", choices=("gpu", "cpu"), help="not valid if the model sits elsewhere")
    add("--gpu-metrics", action="append", default=[], metavar="URL",
        help="/metrics of a DCGM exporter, for the energy; one for each GPU node")  # fmt: skip


def _add_runs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runs").add_argument
    add("--sweep", metavar="N,N…", help="a run for each number of clients")
    add("--sweep-rate", metavar="R,R…", help="a run for each rate")
    add(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="JSON Lines, used in turn: prompts, or messages with tools",
    )
    add("--no-reuse", action="store_true", help="a new connection for each request")
    add("--stop-on-errors", type=int, metavar="N", help="end the run when so many have failed")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    add = group.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="where they go")
    add("--context", type=Path, metavar="FILE", help="JSON about the deployment, for the report")
    add("--prometheus", metavar="URL", help="keep what it saw meanwhile in metrics.json")
    add("--push-gateway", metavar="URL", help="a Pushgateway that is told the figures")
    add_login(group)
    add("--no-report", action="store_true", help="no report.html")
    add("--quiet", action="store_true", help="no table")
    add("--json-progress", action="store_true", help="a JSON line on stdout, 5 times a second")
    add("--die-with-stdin", action="store_true", help="stop when stdin is closed")


def points(given: argparse.Namespace) -> list[Options]:
    """Return the runs asked for: one, or one for each point of a sweep. Raises UsageError."""
    loads: dict[str, JsonObject]
    load = given_load(given)
    _check_exclusive(given, load)
    if given.sweep:
        counts = [int(n) for n in _numbers("--sweep", given.sweep, int)]
        loads = {f"clients-{n}": {**load, "clients": n} for n in counts}
    elif given.sweep_rate:
        rates = _numbers("--sweep-rate", given.sweep_rate, float)
        loads = {f"rate-{rate:g}": {**load, "rate": rate} for rate in rates}
    else:
        loads = {"": load}
    validated = {name: validate_load(load) for name, load in loads.items()}
    prompts = _prompts(given, next(iter(validated.values())))
    shared = _shared(given)
    return [
        Options.model_validate(
            {
                **load.model_dump(exclude={"prompt", "input_tokens"}, exclude_none=True),
                **shared,
                "prompts": prompts,
                "out": given.out / name,
                "workers": _workers(load),
            }
        )
        for name, load in validated.items()
    ]


#: Options that are no knobs, and what each does not go with.
_EXCLUSIVE = {
    "sweep": ("sweep_rate", "clients", "rate"),
    "sweep_rate": ("clients", "rate"),
    "prompts": ("prompt", "input_tokens"),
}


def _check_exclusive(given: argparse.Namespace, load: JsonObject) -> None:
    for name, others in _EXCLUSIVE.items():
        for other in others:
            if getattr(given, name) is not None and getattr(given, other) is not None:
                raise UsageError(f"{flag(name)} does not go with {flag(other)}.")
    if "keep_alive" in load and given.api == "openai":
        raise UsageError("--keep-alive is Ollama's; --api openai has no such thing.")
    if "through" in load and given.api == RETRIEVAL:
        raise UsageError("--through does not go with --retrieval, which asks a client service.")


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    try:
        values = [kind(item) for item in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no list of numbers such as 1,2,4,8.") from error
    if len(set(values)) < len(values):
        raise UsageError(f"{option} {text!r} names a point twice.")
    return [float(value) for value in values]


def _shared(given: argparse.Namespace) -> dict[str, object]:
    """All that does not depend on the load."""
    if not given.model:
        raise UsageError("--model is empty.")
    replicas = parse_replicas(given.url, given.api)
    if given.ca or any(replica.secure for replica in replicas):
        context_of(given.ca)  # what is wrong with it is said before anything begins
    if given.stop_on_errors is not None and given.stop_on_errors < 1:
        raise UsageError(f"--stop-on-errors is {given.stop_on_errors}, but must be at least 1.")
    return {
        "replicas": replicas,
        "addresses": given.addresses,
        "model": given.model,
        "api": given.api,
        "reuse_connections": not given.no_reuse,
        "stop_on_errors": given.stop_on_errors,
        "sits_on": given.sits_on,
        "gpu_metrics": tuple(parse_metrics(url) for url in given.gpu_metrics),
        "monitoring_login": monitoring_login(given),
        "live": given.json_progress,
        "headers": tuple(_headers(given)),
        "ca": given.ca,
    }


def add_login(parser: argparse._ActionsContainer) -> None:
    """Let the parser know the option of what monitoring asks for."""
    parser.add_argument("--monitoring-login", type=Path, metavar="FILE",
        help="the header that Prometheus, Pushgateway and exporters ask for, as curl reads it "
        "from a file")  # fmt: skip


def monitoring_login(given: argparse.Namespace) -> Headers:
    """Return what the file of that option holds. Raises UsageError."""
    if given.monitoring_login is None:
        return ()
    found, warnings = headers_of([f"@{given.monitoring_login}"], None, "", {})
    for warning in warnings:
        print_error(warning)
    return found


def _headers(given: argparse.Namespace) -> Headers:
    if given.shown_key is not None:
        raise UsageError(
            "a key in the command line can be read by everybody on this machine: give it by "
            "--token-file FILE, $OPENAI_API_KEY or $OLLAMA_API_KEY."
        )
    found, warnings = headers_of(given.header, given.token_file, given.api, os.environ)
    for warning in warnings:
        print_error(warning)
    return found


def _prompts(given: argparse.Namespace, load: LoadSpec) -> Prompts:
    if given.prompts:
        return _of_file(given.prompts, given.api)
    if load.input_tokens is not None:
        return Varied(load.input_tokens, load.seed)
    return Texts((load.prompt or DEFAULT_PROMPT,))


def _of_file(path: Path, api: str) -> Prompts:
    """Prompts; if one of them is a conversation, all are asked as such."""
    found = read_prompts(path)
    texts = [one for one in found if isinstance(one, str)]
    if len(texts) == len(found):
        return Texts(texts, source="file")
    route = ENGINES[api].chat
    if route is None:
        raise UsageError(f"--prompts {path} holds messages; --{api} takes texts alone.")
    of_prompt = Conversation.of_prompt
    return texts_of([of_prompt(x) if isinstance(x, str) else x for x in found], route)


def _workers(load: LoadSpec) -> int:
    """As many processes as are asked for, else as the load needs and there are cores; none without
    work."""
    needed = (load.rate or 0) / RATE_PER_PROCESS + (load.clients or 0) / CLIENTS_PER_PROCESS
    wanted = load.processes or min(max(1, math.ceil(needed)), len(os.sched_getaffinity(0)))
    most = load.max_concurrency if load.open_loop else load.clients
    return wanted if most is None else max(1, min(wanted, most))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what was given; argparse exits with 2. Raises UsageError."""
    given = build_parser().parse_args(arguments)
    for option in ("--prometheus", "--push-gateway"):
        name = option[2:].replace("-", "_")
        url = getattr(given, name)
        setattr(given, name, url and parse_service(option, url))
    return given
