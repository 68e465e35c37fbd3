"""The command line: arguments, dispatch, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.errors import OrchError

if TYPE_CHECKING:
    from hpc.console import Console
    from hpc.endpoints import OutputDir
    from hpc.plan import Plan
    from hpc.records import Record
    from hpc.scheduler import Scheduler

_EPILOG = """exit codes: 0 ok, 2 recipe, site or usage wrong (nothing submitted), 3 the scheduler
refused or cannot be reached, 4 a service failed, 5 a deadline passed, 6 the benchmark is not
valid, 130 interrupted (own jobs cancelled)"""


def parser() -> argparse.ArgumentParser:
    """The parser of orch.py's command line; its help fits one screen."""
    p = argparse.ArgumentParser(
        prog="orch.py",
        usage="orch.py RECIPE [options] | --attach | --status | --stop ID | --logs ID",
        description="Bring up an LLM inference and benchmarking service from one recipe.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    p.add_argument("recipe", nargs="?", metavar="RECIPE", help="JSON recipe, see recipe_ex/")
    p.add_argument("--no-monitoring", action="store_true", help="leave the monitoring stack out")
    p.add_argument("--site", metavar="NAME", help="profile in sites/, or the path of one")
    p.add_argument("--output-dir", metavar="DIR", default="output", help="default: output")
    p.add_argument("--dry-run", action="store_true", help="render and print the plan only")
    p.add_argument("--prepare", action="store_true", help="fetch images and model, submit nothing")
    p.add_argument("--detach", action="store_true", help="return once the jobs are submitted")
    p.add_argument("--no-benchmark", action="store_true", help="leave the benchmark out")
    p.add_argument("--keep-on-failure", action="store_true", help="do not cancel what is left")
    p.add_argument("--queue-timeout", type=_seconds, metavar="S", default=86400.0,
                   help="longest wait in the queue (default: 86400)")  # fmt: skip
    p.add_argument("--start-timeout", type=_seconds, metavar="S", default=1800.0,
                   help="longest start-up, model pull included (default: 1800)")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print the record(s) as JSON on stdout")
    p.add_argument("--attach", nargs="?", const="", metavar="ID",
                   help="take up a detached deployment (default: newest)")  # fmt: skip
    p.add_argument("--status", nargs="?", const="", metavar="ID", help="say how deployments are")
    p.add_argument("--stop", metavar="ID", help="stop a deployment, or 'all'")
    p.add_argument("--logs", nargs="+", metavar="ID", help="print the logs [of one SERVICE]")
    p.add_argument("--ingest", nargs="+", metavar=("PATH", "ID"),
                   help="documents for retrieval (default: newest deployment)")  # fmt: skip
    return p


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run orch.py with `argv`; returns the exit code. No failure of ours shows a traceback."""
    arguments = parser().parse_args(argv)
    from hpc.console import Console

    console = Console(quiet_stdout=arguments.json)
    try:
        _check(arguments)
        return _run(arguments, console)
    except OrchError as error:
        _explain(error, console)
        return error.exit_code


_COMMANDS = ("attach", "status", "stop", "logs", "ingest")


def _check(arguments: argparse.Namespace) -> None:
    """Exactly one thing to do."""
    commands = [getattr(arguments, name) for name in _COMMANDS]
    wanted = [arguments.recipe, *(command for command in commands if command is not None)]
    if len([w for w in wanted if w is not None]) == 1:
        return
    from hpc.errors import UsageError

    raise UsageError(
        f"give one recipe, or one of {', '.join(f'--{name}' for name in _COMMANDS)}; see "
        "orch.py --help."
    )


def _explain(error: OrchError, console: Console) -> None:
    from hpc.errors import Detached, Interrupted, UsageError

    if isinstance(error, Detached):
        console.error("the terminal is gone; the deployment goes on: pick it up with --attach")
    elif isinstance(error, Interrupted):
        console.error("interrupted; our own jobs were cancelled")
    else:
        console.error(error.message, error.details)
        if isinstance(error, UsageError):
            console.error("nothing was submitted")


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from hpc import signals
    from hpc.endpoints import OutputDir

    signals.install()
    output = OutputDir(Path(arguments.output_dir).absolute())
    if arguments.recipe is not None:
        return _deploy(arguments, output, console)
    if arguments.attach is not None:
        return _attach(arguments, output, console)
    if arguments.status is not None:
        return _status(arguments, output, console)
    if arguments.stop is not None:
        return _stop(arguments, output, console)
    if arguments.ingest is not None:
        return _ingest(arguments, output, console)
    return _logs(arguments, output, console)


def _deploy(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.deploy import begin, dry_run, plan_of, prepare_all

    plan, scheduler = plan_of(
        Path(arguments.recipe), arguments.site, output, not arguments.no_monitoring
    )
    output.prepare()
    if arguments.dry_run or arguments.prepare:
        (dry_run if arguments.dry_run else prepare_all)(plan, output, console)
        return 0
    _carry_out(arguments, output, console, begin(plan, output), scheduler, plan)
    return 0


def _attach(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.control import scheduler_of

    record = _live_record(arguments.attach, output)
    _carry_out(arguments, output, console, record, scheduler_of(record, output))
    return 0


def _live_record(deployment_id: str, output: OutputDir) -> Record:
    """The deployment of that id, or the newest; it lives, as the scheduler says. Raises
    UsageError."""
    from hpc.control import refresh
    from hpc.errors import UsageError
    from hpc.records import find_record, load_records

    if deployment_id:
        record = find_record(output.path, deployment_id)
    else:
        live = [record for record in load_records(output.path) if record.live]
        if not live:
            raise UsageError(f"no deployment in {output.path} is live; start one with a recipe.")
        record = live[-1]
    refresh([record], output)
    if not record.live:
        raise UsageError(f"{record.id} is {record.state}; start a new deployment with a recipe.")
    return record


def _ingest(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.errors import UsageError
    from hpc.ingest import ingest_paths, record_of
    from hpc.recipe import parse_recipe

    if len(arguments.ingest) > 2:
        raise UsageError("--ingest takes one path and at most one deployment.")
    path, deployment_id = [*arguments.ingest, ""][:2]
    record = _live_record(deployment_id, output)
    recipe = parse_recipe(record.data["recipe"], "the deployment's recipe")
    retrieval, url = recipe.job.service.wanted_retrieval, record.data["endpoints"]["client"]
    if retrieval is None:
        raise UsageError(f"{record.id} has no retrieval; its recipe lacks job.service.retrieval.")
    if url is None:
        raise UsageError(f"{record.id} is {record.state}, not ready; wait with --attach.")
    progress = ingest_paths(url, [Path(path)], retrieval, console)
    _print_json(arguments, console, record_of(progress))
    return 0


def _carry_out(
    arguments: argparse.Namespace,
    output: OutputDir,
    console: Console,
    record: Record,
    scheduler: Scheduler,
    plan: Plan | None = None,
) -> None:
    """Submit where there is a plan, and follow unless --detach was given."""
    from hpc.deploy import Limits, Run

    limits = Limits(arguments.queue_timeout, arguments.start_timeout, not arguments.no_benchmark)
    try:
        with Run(record, scheduler, output, console, arguments.keep_on_failure) as run:
            if plan is not None:
                run.submit(plan)
            if not arguments.detach:
                run.follow(limits)
    finally:
        scheduler.close()
        _print_json(arguments, console, record.data)
    if arguments.detach:
        console.say(f"{record.id} goes on by itself; {output.command('--attach', record.id)}")


def _status(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.control import refresh, status_lines
    from hpc.errors import SchedulerError
    from hpc.records import find_record, load_records

    one = arguments.status
    records = [find_record(output.path, one)] if one else load_records(output.path)
    problem = None
    try:
        refresh(records, output)
    except SchedulerError as error:
        problem = error
    if arguments.json:
        _print_json(arguments, console, [record.data for record in records])
    else:
        for line in status_lines(records):
            console.say(line)
    if problem is not None:
        raise SchedulerError(f"{problem.message}; what is unchecked is as it was last recorded.")
    return 0


def _stop(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.control import stop_many
    from hpc.records import find_record, load_records

    if arguments.stop == "all":
        records = load_records(output.path)
    else:
        records = [find_record(output.path, arguments.stop)]
    stop_many(records, output, console)
    _print_json(arguments, console, [record.data for record in records])
    return 0


def _logs(arguments: argparse.Namespace, output: OutputDir, console: Console) -> int:
    from hpc.control import log_paths
    from hpc.errors import UsageError
    from hpc.records import find_record

    if len(arguments.logs) > 2:
        raise UsageError("--logs takes a deployment and at most one service.")
    record = find_record(output.path, arguments.logs[0])
    service = arguments.logs[1] if len(arguments.logs) > 1 else None
    for path in log_paths(record, output, service):
        console.say(f"==> {path} <==")
        console.say(path.read_text(errors="replace").rstrip("\n"))
    return 0


def _print_json(arguments: argparse.Namespace, console: Console, data: object) -> None:
    if arguments.json:
        import json

        console.json(json.dumps(data, indent=2))


if __name__ == "__main__":
    sys.exit(main())
