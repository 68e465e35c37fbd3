"""The command line: `python -m client.compatible --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from client.compatible.bearers import Report, Reporter, report_nothing
from client.compatible.engine_client import EngineClient
from client.compatible.http_server import Handler
from client.compatible.serving import serve
from client.compatible.socket_address import parse_socket
from contracts.errors import OrchError, UsageError
from engines.http.headers import headers_of
from engines.http.sockets import in_words
from engines.servers.deployable import DEPLOYED

OLLAMA = "ollama"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        listen = parse_socket(given.listen, "--listen")
        uvloop.run(serve(listen, _handler(given)))
    except OrchError as error:
        print(f"client.compatible: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m client.compatible",
        description="The APIs of OpenAI and Anthropic in front of an engine: made of Ollama's, or "
        "passed on to what speaks them itself.",
    )
    where = "HOST:PORT or unix:PATH"
    p.add_argument("--listen", required=True, metavar="ADDRESS", help=f"where it listens: {where}")
    p.add_argument("--engine", required=True, metavar="ADDRESS", help=f"where that is: {where}")
    p.add_argument(
        "--kind", choices=DEPLOYED, default=OLLAMA, help="what that is (default: %(default)s)"
    )
    p.add_argument("--model", required=True, help="that of requests that name none")
    p.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the token that the engine asks for"
    )
    p.add_argument(
        "--report", type=Path, metavar="FILE",
        help="a named pipe that is told of the tokens of each answer",
    )  # fmt: skip
    p.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS",
        help="what an answer may take (default: %(default)g)",
    )  # fmt: skip
    return p


def _engine(given: argparse.Namespace) -> EngineClient:
    """Raises UsageError."""
    if not 0 < given.timeout < 1e6:
        raise UsageError(f"--timeout is {given.timeout:g}, but must be a number of seconds.")
    headers, warnings = headers_of([], given.token_file, "ollama", {})
    for warning in warnings:
        print(f"client.compatible: {warning}", file=sys.stderr)  # noqa: T201
    return EngineClient(parse_socket(given.engine, "--engine"), headers, given.timeout)


def _handler(given: argparse.Namespace) -> Handler:
    """What answers, by what the engine speaks. Raises UsageError."""
    engine, kind = _engine(given), DEPLOYED[given.kind]
    report = _report_to(given.report) if given.report else report_nothing
    if kind.api == OLLAMA:
        from client.compatible.routes import Routes  # one of the two is needed: both are large

        return Routes(engine, given.model, report).handle
    from client.compatible.passing.routes import PassingRoutes

    return PassingRoutes(engine, kind.title, given.model, report).handle


def _report_to(pipe: Path) -> Report:
    """Raises UsageError."""
    try:
        return Reporter(pipe)
    except OSError as error:
        raise UsageError(f"--report {pipe} cannot be opened: {in_words(error)}.") from error


if __name__ == "__main__":
    sys.exit(main())
