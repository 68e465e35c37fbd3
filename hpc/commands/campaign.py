"""`orch.py CAMPAIGN.json`: a campaign is checked, shown, and what is missing of it measured."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from campaign.book import Book
from campaign.missing import suspect_nodes
from campaign.units import Ledger, Planned, read
from contracts.errors import BenchmarkInvalid, DeadlineError, Interrupted, ServiceError, UsageError
from contracts.files import make_folder, write_atomically
from hpc.campaigns.conditions import planned_by
from hpc.campaigns.controller import Controller
from hpc.campaigns.deploying import Deployer, passed_on, same_again
from hpc.campaigns.fleet import Fleet, Size
from hpc.campaigns.grouping import Group
from hpc.campaigns.planning import cell_lines, changes, estimate, plan_lines
from hpc.campaigns.processes import runs
from hpc.campaigns.reading import load_campaign
from hpc.campaigns.repetitions import Work
from hpc.campaigns.reporting import options_of, report
from hpc.commands.deploy import plan_at
from hpc.console import Console
from hpc.endpoints import OutputDir
from hpc.site import Site, load_site
from ledger.journal import JournalInUse

#: Options of a deployment that a campaign has no use for.
_NOT_OURS = ("detach", "prepare", "no_benchmark", "keep_on_failure")


@dataclass(frozen=True)
class Progress:
    """What --json prints: how many repetitions of a campaign are how."""

    name: str
    folder: str
    total: int
    done: int
    invalid: int
    failed: int
    missing: int


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Carry out what is missing of a campaign.

    Raises UsageError before anything is submitted; ServiceError: something has failed;
    BenchmarkInvalid: something is not valid; DeadlineError: the budget is used up; Regression:
    something is worse than in the campaign of --against.
    """
    _check_options(given)
    site = load_site(given.site)
    checked = load_campaign(given.recipe, site.store)
    folder = output.path / "campaigns" / checked.name
    options_of(given, folder)
    sizes = _sizes(checked.groups, site, output, not given.no_monitoring)
    planned = planned_by(checked, site, not given.no_monitoring)
    fingerprints = {cell.key: cell.fingerprint for cell in planned.cells}
    work = Work(checked, fingerprints, sizes, output.path / "benchmarks")
    missing = _show(work, planned, read(folder), console, given.dry_run)
    if given.dry_run:
        console.say("nothing was submitted")
        return
    if missing and not given.yes:
        _ask(console)
    output.prepare()
    make_folder(folder)
    book = Book(folder)
    try:
        _check_alone(book, planned)
        write_atomically(folder / "campaign.json", json.dumps(checked.given, indent=2) + "\n")
        book.add(planned)
        _carry_out(work, book, given, output, console)
    finally:
        book.close()


def _check_options(given: argparse.Namespace) -> None:
    wrong = next((name for name in _NOT_OURS if getattr(given, name)), None)
    if wrong:
        option = f"--{wrong.replace('_', '-')}"
        raise UsageError(f"{option} is for a recipe, not for a campaign; leave it out.")


# --- before it starts ----------------------------------------------------------------------------


def _sizes(
    groups: Sequence[Group], site: Site, output: OutputDir, monitoring: bool
) -> dict[str, Size]:
    """What each group's deployment asks for. Raises UsageError: the site does not have it."""
    found: dict[str, Size] = {}
    problems: dict[str, None] = {}
    for group in groups:
        try:
            plan, scheduler = plan_at(group.recipe, site, output, monitoring)
        except UsageError as error:
            problems |= dict.fromkeys([f"{group.words}: {error.message}", *error.details])
            continue
        scheduler.close()
        beside = [plan.qdrant is not None, plan.monitoring.on]
        jobs = 1 + (plan.engine is not None) + sum(beside)
        found[group.id] = Size(jobs, plan.gpus * group.recipe.job.infrastructure.nodes)
    if problems:
        raise UsageError("the campaign does not fit this site:", list(problems))
    return found


def _show(work: Work, planned: Planned, ledger: Ledger, console: Console, cells: bool) -> int:
    """Print the plan; how many repetitions are missing. `ledger` is that of earlier commands."""
    said = changes(ledger.planned, planned, ledger)
    ledger.take(planned)
    found = estimate(work, ledger)
    for line in plan_lines(work, ledger, found):
        console.say(line)
    for words in said:
        console.tell("WARNING", words)
    if cells:
        for line in cell_lines(work, ledger):
            console.say(line)
    return found.runs


def _ask(console: Console) -> None:
    """Raise UsageError unless somebody says yes."""
    if not sys.stdin.isatty():
        raise UsageError(
            "nobody can be asked whether to start (no terminal): give --yes, or --dry-run to see "
            "the cells."
        )
    console.say("start it? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("it is not started.")


def _check_alone(book: Book, planned: Planned) -> None:
    """Raise JournalInUse if another command of this machine carries it out: a file system without
    locks lets it be opened twice."""
    before = book.ledger.planned
    if before is not None and before.process != planned.process and runs(before.process):
        raise JournalInUse(
            f"process {before.process.pid} works on {book.folder}; wait for its end, or end it, "
            "and give the same command again."
        )


# --- while it goes on ----------------------------------------------------------------------------


def _carry_out(
    work: Work, book: Book, given: argparse.Namespace, output: OutputDir, console: Console
) -> None:
    stop = threading.Event()
    deployer = Deployer(passed_on(given, output, given.site), book.folder, stop)
    groups = {group.id: group for group in work.checked.groups}
    fleet = Fleet(groups, work.sizes, book, deployer, output, console)
    controller = Controller(work, book, fleet, console, stop)
    with _signals(stop) as came:
        controller.run()
        progress = _progress(work, book)
        console.tell("orch", _in_words(progress))
        for words in suspect_nodes(book.ledger):
            console.tell("WARNING", words)
        worse = report(book.folder, options_of(given, book.folder), console)
    if given.json:
        console.json(asdict(progress))
    again = output.command(str(given.recipe), *same_again(given, given.site))
    if came:
        console.tell("orch", f"what is missing is measured by the same command: {again}")
        raise Interrupted(came[0])
    _judge(progress, controller.spent, again)
    if worse is not None:
        raise worse


def _judge(progress: Progress, spent: str | None, again: str) -> None:
    """Raise what is not as it should be."""
    if progress.missing and spent is not None:
        raise DeadlineError(
            f"the budget came first: {spent}, and {progress.missing} of {progress.total} runs are "
            f"missing; allow more in campaign.budget, then: {again}"
        )
    if progress.missing:
        raise ServiceError(
            f"{progress.missing} of {progress.total} runs are missing still: their deployments had "
            "other conditions each time, which is said above; see to it that these stay as they "
            f"are, then: {again}"
        )
    if progress.failed:
        raise ServiceError(
            f"{progress.failed} of {progress.total} runs have failed (they are marked in the "
            f"report); each is tried twice in all, by: {again}"
        )
    if progress.invalid:
        raise BenchmarkInvalid(
            f"{progress.invalid} of {progress.total} runs are not valid (they are marked in the "
            f"report); each is tried twice in all, by: {again}"
        )


@contextmanager
def _signals(stop: threading.Event) -> Iterator[list[int]]:
    """INT and TERM end the campaign in order; which one came first. A lost terminal does not."""
    came: list[int] = []

    def handle(signum: int, _frame: object) -> None:
        came.append(signum)
        stop.set()

    before = {one: signal.signal(one, handle) for one in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield came
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# --- its end -------------------------------------------------------------------------------------


def _progress(work: Work, book: Book) -> Progress:
    ledger = book.ledger
    states = Counter(one.state for unit, one in ledger.last().items() if unit in set(ledger.wanted))
    total = len(ledger.wanted)
    return Progress(
        work.checked.name,
        str(book.folder),
        total,
        states["done"],
        states["invalid"],
        states["failed"],
        total - states.total(),
    )


def _in_words(progress: Progress) -> str:
    parts = {"done": progress.done, "not valid": progress.invalid, "failed": progress.failed,
             "missing": progress.missing}  # fmt: skip
    said = ", ".join(f"{n} {word}" for word, n in parts.items() if n or word == "done")
    return f"{progress.name}: of {progress.total} runs {said}; in {progress.folder}"
