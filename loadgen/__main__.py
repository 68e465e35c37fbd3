"""The command line: `python3 -m loadgen --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from loadgen import engine, metrics, report, validity
from loadgen.options import (
    DEFAULT_PROMPT,
    DEFAULT_TIMEOUT_S,
    LoadgenError,
    Options,
    UsageError,
    check_bounds,
    check_prompt,
    parse_replicas,
    read_prompts,
)

EXIT_NOT_VALID = 6
EXIT_STOPPED = 130
PROGRESS_PERIOD_S = 0.2
SPARE_FILES = 64  # interpreter, event loop, results


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python3 -m loadgen",
        description="Load an Ollama server with N clients at once and measure what they see.",
        epilog="Exit codes: 0 valid, 6 not valid, 2 usage, 4 the target is not reachable or "
        "refuses, 130 stopped (what was measured is kept, marked partial).",
    )
    add = made.add_argument
    add("--url", action="append", required=True, help="http://HOST:PORT; several are replicas")
    add("--model", required=True)
    add("--api", choices=["ollama"], default="ollama")
    add("--clients", type=int, default=1, help="at once (default: 1)")
    add("--requests", type=int, help="in all (default: one for each client)")
    prompt = made.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default=DEFAULT_PROMPT, metavar="TEXT")
    prompt.add_argument("--prompts", type=Path, metavar="FILE", help="JSON Lines, used in turn")
    add("--num-predict", type=int, help="tokens at most (default: the model decides)")
    add("--warmup", type=int, default=1, help="requests to each replica, not counted (default: 1)")
    add("--seed", type=int, default=0, help="request i has seed SEED + i (default: 0)")
    add("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="of a request")
    add("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add("--quiet", action="store_true", help="no table")
    add("--json-progress", action="store_true", help="a JSON line on stdout, 5 times a second")
    add("--die-with-stdin", action="store_true", help="stop when stdin is closed")
    return made


def parse(arguments: Sequence[str] | None) -> tuple[Options, argparse.Namespace]:
    """Options of the run, and what else was given. Raises UsageError; argparse exits with 2."""
    given = parser().parse_args(arguments)
    if not 0 < given.timeout <= 86_400:
        raise UsageError(f"--timeout is {given.timeout:g}, but must be up to 86400 seconds.")
    if not given.model:
        raise UsageError("--model is empty.")
    clients, tokens = check_bounds("clients", given.clients), given.num_predict
    options = Options(
        replicas=parse_replicas(given.url),
        model=given.model,
        out=given.out,
        prompts=read_prompts(given.prompts) if given.prompts else (check_prompt(given.prompt),),
        clients=clients,
        requests=check_bounds("requests", clients if given.requests is None else given.requests),
        num_predict=tokens if tokens is None else check_bounds("num_predict", tokens),
        warmup=check_bounds("warmup", given.warmup),
        seed=check_bounds("seed", given.seed),
        timeout_s=given.timeout,
    )
    return options, given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        options, given = parse(arguments)
        _prepare(options)
        return _run(options, given)
    except LoadgenError as error:
        report.complain(str(error))
        return error.exit_code
    except OSError as error:
        report.complain(f"cannot write the results: {error}")
        return LoadgenError.exit_code
    except KeyboardInterrupt:  # before it began, or a second time while it wrote
        return EXIT_STOPPED


def _prepare(options: Options) -> None:
    if (options.out / "summary.json").exists():
        raise UsageError(f"{options.out} holds the results of another run; name another folder.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {options.out} cannot be made: {error.strerror}.") from error
    # Where there are replicas, connections that wait for their turn come on top of those in use.
    need = options.clients * min(2, len(options.replicas)) + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        raise UsageError(
            f"{options.clients} clients need {need} open files, but the limit is {hard}; "
            "raise it (ulimit -Hn) or take fewer clients."
        )
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _run(options: Options, given: argparse.Namespace) -> int:
    began = datetime.now(timezone.utc)
    measured = engine.run(options, lambda running: _attach(running, given))
    summary = metrics.summarise(measured)
    reasons = validity.reasons_against(summary)
    summary["validity"] = {
        "valid": not reasons,
        "reasons": reasons,
        "notes": validity.notes(summary),
    }
    summary["provenance"] = provenance(options, began)
    report.write_files(options.out, measured, summary)
    if not given.quiet:
        report.say(report.table(summary))
    if measured.stopped is not None:
        return EXIT_STOPPED
    return EXIT_NOT_VALID if reasons else 0


def provenance(options: Options, began: datetime) -> dict[str, Any]:
    """Where the figures come from: options, machine, versions, wall-clock time."""
    asked = asdict(options) | {"replicas": [replica.url for replica in options.replicas]}
    asked |= {"out": str(options.out), "prompts": [prompt[:200] for prompt in options.prompts[:10]]}
    return {
        "began": began.isoformat(timespec="milliseconds"),
        "ended": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "event_loop": engine.EVENT_LOOP,
        "options": asked,
    }


# --- while it runs ---


def _attach(running: engine.Engine, given: argparse.Namespace) -> None:
    """Signals, the parent's pipe and progress, in the loop that is to run."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.stop, f"by {number.name}")
    if given.die_with_stdin:
        _stop_with_stdin(loop, running)
    if given.json_progress:
        os.set_blocking(1, False)  # a reader that sleeps must not stop the clients
        _progress(loop, running)


def _stop_with_stdin(loop: asyncio.AbstractEventLoop, running: engine.Engine) -> None:
    """The pipe closes when the parent ends, however it ends: also when it is killed."""

    def wait() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass  # there is no stdin: as good as closed
        try:
            loop.call_soon_threadsafe(running.stop, "its parent ended")
        except RuntimeError:
            pass  # the loop is closed: the run is over already

    threading.Thread(target=wait, daemon=True).start()


def _progress(loop: asyncio.AbstractEventLoop, running: engine.Engine) -> None:
    line = json.dumps(running.progress.as_dict())
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass  # nobody reads, or too slowly: the next line says more
    loop.call_later(PROGRESS_PERIOD_S, _progress, loop, running)


if __name__ == "__main__":
    sys.exit(main())
