"""The command line: `python3 -m loadgen --help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from contracts.errors import EXIT_STOPPED, BenchmarkInvalid, OrchError, UsageError
from contracts.files import PROJECT
from contracts.summary import Summary
from loadgen import console
from loadgen.arguments import parse, points
from loadgen.caches import own_caches
from loadgen.load import runner
from loadgen.load.worker import TOO_MANY_ERRORS
from loadgen.measure import self_check, validity
from loadgen.measure.energy_shares import with_energy
from loadgen.measure.provenance import About, provenance, read_context
from loadgen.measure.summarise import summarise
from loadgen.options import Options
from loadgen.outputs import run_files

PROGRESS_PERIOD_S, LAST_LINE_S = 0.2, 5.0
SPARE_FILES = 64  # interpreter, event loop, results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _command(words)
    except OrchError as error:
        console.print_error(str(error))
        return error.exit_code
    except OSError as error:
        console.print_error(f"cannot write the results: {error}")
        return OrchError.exit_code
    except KeyboardInterrupt:  # before it began, or a second time while it wrote
        return EXIT_STOPPED


def _command(words: list[str]) -> int:
    if words[:1] in (["report"], ["compare"]):
        return _show(words)
    if words[:1] == ["snapshot"]:
        from loadgen.outputs import prometheus

        return prometheus.main(words[1:])
    return _measure(words)


def _show(words: list[str]) -> int:
    """Load what draws only when something is drawn; its caches, which it would have in the home,
    are beside the results for as long as it takes, and gone if it is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    beside = Path(words[-1])
    with own_caches(beside if beside.is_dir() else None):
        from loadgen.compare import comparison
        from loadgen.outputs import html

        command = {"report": html.main, "compare": comparison.main}[words[0]]
        return command(words[1:])


def _measure(words: list[str]) -> int:
    given = parse(words)
    context = read_context(given.context) if given.context else None
    runs = points(given)
    _prepare(given.out, runs)
    about = About(words, context)
    if given.sweep or given.sweep_rate:
        return _sweep(runs, given, about)
    _, code = _one(runs[0], given, about)
    if not given.no_report:
        _write_report(given.out)
    return code


def _prepare(out: Path, runs: Sequence[Options]) -> None:
    if (out / "summary.json").exists():
        raise UsageError(f"{out} holds the results of another run; name another folder.")
    for options in runs:
        _raise_file_limit(options)
    for options in runs:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {options.out} cannot be made: {error.strerror}.") from error


def _raise_file_limit(options: Options) -> None:
    """Allow an open file for each request in flight; if there are replicas, connections that wait
    for their turn come on top. An open loop without a limit takes all that it may have."""
    most = options.max_concurrency if options.open_loop else options.clients
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = hard if most is None else most * min(2, len(options.replicas)) + SPARE_FILES
    if most is not None and hard != resource.RLIM_INFINITY and hard < need:
        raise UsageError(
            f"{most} clients need {need} open files, but the limit is {hard}; "
            "raise it (ulimit -Hn) or take fewer clients."
        )
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _one(options: Options, given: argparse.Namespace, about: About) -> tuple[Summary, int]:
    """Carry out one run, write its files and table, and return its summary and exit code."""
    started_at = datetime.now(timezone.utc)
    watch = _Watch(given)
    measured = runner.run(options, watch.attach, watch.detach)
    watch.conclude()
    summary = self_check.withhold(summarise(measured, options))
    summary = replace(
        summary,
        replicas=with_energy(summary.replicas, measured.energy, about.context),
        validity=validity.judge(summary, measured, options),
        provenance=provenance(options, measured, started_at, about),
    )
    run_files.write_files(options, measured, summary)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not given.quiet:
        console.print_line(run_files.table(summary))
    _export_figures(options, given, summary)
    return summary, _exit_code(measured.stopped or watch.told_late, summary)


def _export_figures(options: Options, given: argparse.Namespace, summary: Summary) -> None:
    """Load what it takes only if it is asked for. Whatever fails takes nothing from the results."""
    out, login = options.out, options.monitoring_login
    if given.push_gateway:
        from loadgen.outputs import push

        # Of a sweep each point is a run.
        run = out.resolve().name if out == given.out else f"{given.out.resolve().name}.{out.name}"
        _warn(push.push(given.push_gateway, run, summary, login))
    if given.prometheus:
        from loadgen.outputs import prometheus

        try:
            _warn(prometheus.write_snapshot(out, summary, given.prometheus, login))
        except OSError as error:
            _warn(f"cannot write {prometheus.FILE}: {error}.")


def _warn(problem: str | None) -> None:
    if problem is not None:
        console.print_error(problem)


def _exit_code(stopped: str | None, summary: Summary) -> int:
    if stopped is not None and stopped != TOO_MANY_ERRORS:
        return EXIT_STOPPED
    return 0 if summary.validity.valid else BenchmarkInvalid.exit_code


def _sweep(runs: Sequence[Options], given: argparse.Namespace, about: About) -> int:
    """Carry out a run for each point, then put them together. A stop ends it with what there is."""
    started_at, found, codes = datetime.now(timezone.utc), [], []
    for options in runs:
        if not given.quiet:
            console.print_line(f"\n{options.out.name}")
        summary, code = _one(options, given, about)
        found.append((options, summary))
        codes.append(code)
        if code == EXIT_STOPPED:
            break
    run_files.write_sweep(given.out, found, started_at, about)
    if not given.no_report:
        _write_report(given.out)
    if not given.quiet:
        console.print_line("\n" + run_files.sweep_table(found))
    return max(codes)


def _write_report(out: Path) -> None:
    """Write report.html of a run, or of a sweep and all its points. In a process of its own: what
    it takes to draw is none of the load generator's memory. A report that cannot be made takes
    nothing from the results."""
    command = [sys.executable, "-m", "loadgen", "report", str(out.absolute())]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or ["it gave no reason"]
        console.print_error(f"there is no report.html: {words[-1].removeprefix('loadgen: ')}")


# --- while it runs ---


class _Watch:
    """What goes on beside a run: signals, the parent's pipe, and progress."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._workers: runner.Workers | None = None
        #: As Measured.stopped, if that came when all was measured.
        self.told_late: str | None = None

    def attach(self, workers: runner.Workers) -> None:
        """Watch a run; called in its loop."""
        self._workers = workers
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, workers.stop, f"by {number.name}")
        if self._given.die_with_stdin:
            _stop_with_stdin(loop, workers)
        if self._given.json_progress:
            os.set_blocking(1, False)  # a reader that sleeps must not stop the clients
            self._print_periodically(loop)

    def detach(self) -> None:
        """Have SIGTERM wait until the results are written; called in the loop, whose handlers go
        with it. Whoever cancels a job tells all of its processes, also one that has just stopped
        since its parent ended."""
        with _held():  # in between, it would end us at once
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self.told_late = "by SIGTERM"

    def _print_periodically(self, loop: asyncio.AbstractEventLoop) -> None:
        self._print_progress()
        loop.call_later(PROGRESS_PERIOD_S, self._print_periodically, loop)

    def conclude(self) -> None:
        """Print the last line, with the counts as they are in the end; a reader has time for it."""
        if self._given.json_progress:
            select.select([], [1], [], LAST_LINE_S)
            self._print_progress()

    def _print_progress(self) -> None:
        assert self._workers is not None
        try:
            os.write(1, json.dumps(self._workers.progress.as_dict()).encode() + b"\n")
        except OSError:
            pass  # nobody reads, or too slowly: the next line says more


def _stop_with_stdin(loop: asyncio.AbstractEventLoop, workers: runner.Workers) -> None:
    """Stop when the pipe closes: when the parent ends, however it ends, also when it is killed."""

    def wait() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass  # there is no stdin: as good as closed
        try:
            loop.call_soon_threadsafe(workers.stop, "its parent ended")
        except RuntimeError:
            pass  # the loop is closed: the run is over already

    with _held():  # a thread has the mask of who starts it
        threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """SIGTERM comes after this. For all of the process only as long as no other thread takes it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


if __name__ == "__main__":
    sys.exit(main())
