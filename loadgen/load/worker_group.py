"""Several processes that carry one schedule together, begin at the same instant, and are watched
and stopped as one. The clock (CLOCK_MONOTONIC) is the same for all of them, so that their records
need no more than to be put together.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from time import perf_counter

from contracts.errors import OrchError, TargetError
from contracts.histograms import Tally
from loadgen.load.progress import Counts, RunProgress
from loadgen.load.worker import TOO_MANY_ERRORS, Worker, new_event_loop
from loadgen.measurements import WorkerResult
from loadgen.options import Options

REPORT_PERIOD_S = 0.2
#: Between the message to start and the start: time for the message to reach all of them.
NOTICE_S = 0.1
_FORK = multiprocessing.get_context("fork")  # a start of milliseconds; we have no threads yet


class WorkerLost(OrchError):
    """A process of ours ended, and we do not know why."""


def _listen(pipe: Pipe, on_readable: Callable[..., None], *arguments: object) -> None:
    """Call `on_readable` when something has come. What is sent and received there may be long,
    and is waited for: the loop would have it otherwise."""
    asyncio.get_running_loop().add_reader(pipe.fileno(), on_readable, *arguments)
    os.set_blocking(pipe.fileno(), True)


# --- in a worker ---


class _Process:
    """Runs one Worker as the group says: ready → go → part; stop at any time."""

    def __init__(self, options: Options, process: int, pipe: Pipe) -> None:
        self._worker = Worker(options, process)
        self._pipe = pipe
        self._go: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Run to the end. What went wrong goes to the group."""
        loop = asyncio.get_running_loop()
        _listen(self._pipe, self._on_message)
        try:
            await self._worker.prepare()
            self._pipe.send(("ready", self._worker.warmup_seconds))
            start = await self._go
            reports = asyncio.ensure_future(self._report())
            parts = await self._worker.measure(start)
            reports.cancel()
            self._send_progress()
            self._pipe.send(("part", (parts[0], self._worker.stopped)))
        except OrchError as error:
            self._pipe.send(("error", error))
        finally:
            loop.remove_reader(self._pipe.fileno())
            await self._worker.close()

    def _on_message(self) -> None:
        try:
            word, value = self._pipe.recv()
        except (EOFError, OSError):  # the group is no more
            word, value = "stop", "its parent ended"
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        if word == "stop":
            self._worker.stop(value)
        if not self._go.done():
            self._go.set_result(value if word == "go" else perf_counter())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_PERIOD_S)
            self._send_progress()

    def _send_progress(self) -> None:
        progress = self._worker.progress
        ttfts = list(progress.ttfts)
        progress.ttfts.clear()
        self._pipe.send(("progress", (progress.counts(), ttfts)))


def _work(options: Options, process: int, pipe: Pipe, others: list[Pipe]) -> None:
    for end in others:  # else none of us would see the group's end
        end.close()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C reaches us too; the group says

    async def run() -> None:
        await _Process(options, process, pipe).run()

    loop = new_event_loop()
    try:
        loop.run_until_complete(run())
    except (BrokenPipeError, ConnectionResetError):  # nobody is left to read it
        pass
    os._exit(0)


# --- in the group ---


@dataclass
class _Member:
    process: BaseProcess
    pipe: Pipe
    counts: Counts = field(default_factory=Counts)
    part: WorkerResult | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class WorkerGroup:
    """Does what a Worker does, with several processes."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._members: list[_Member] = []
        self._error: OrchError | None = None
        self.stopped: str | None = None
        self.warmup_seconds = 0.0
        self.progress = RunProgress(options.requests, Tally() if options.live else None)
        self._start_all()

    def _start_all(self) -> None:
        ours: list[Pipe] = []
        for number in range(self._options.workers):
            here, there = _FORK.Pipe()
            ours.append(here)
            process = _FORK.Process(
                target=_work, args=(self._options, number, there, list(ours)), daemon=True
            )
            process.start()
            there.close()
            self._members.append(_Member(process, here))

    def stop(self, reason: str) -> None:
        """End the run now."""
        if self.stopped is None:
            self.stopped = reason
            self._send("stop", reason)

    async def prepare(self) -> None:
        """Return when all are ready. Raises TargetError."""
        for member in self._members:
            _listen(member.pipe, self._on_report, member)
        await asyncio.gather(*(member.ready.wait() for member in self._members))
        self._raise()

    async def measure(self, start: float) -> list[WorkerResult]:
        """Start all at the same instant, a moment after `start`, and wait for them."""
        self.progress.measure_from(start)
        self._send("go", start)
        await asyncio.gather(*(member.finished.wait() for member in self._members))
        self._raise()
        return [member.part for member in self._members if member.part is not None]

    async def close(self) -> None:
        """End what still runs."""
        loop = asyncio.get_running_loop()
        for member in self._members:
            loop.remove_reader(member.pipe.fileno())
            member.pipe.close()
            if member.part is None:
                member.process.kill()
            member.process.join()

    def _send(self, word: str, value: object) -> None:
        for member in self._members:
            try:
                member.pipe.send((word, value))
            except OSError:
                pass  # it is gone, which its pipe shows

    def _on_report(self, member: _Member) -> None:
        try:
            word, value = member.pipe.recv()
        except (EOFError, OSError):
            word, value = "error", WorkerLost("a process of the load generator was killed.")
        if word == "progress":
            self._note(member, value)
        if word == "ready":
            self.warmup_seconds = max(self.warmup_seconds, value)
            member.ready.set()
        if word in ("part", "error"):
            asyncio.get_running_loop().remove_reader(member.pipe.fileno())
            if word == "part":
                member.part, stopped = value
                if stopped is not None:  # by itself, or by our message
                    self.stop(stopped)
            else:
                self._fail(value)
            member.finished.set()

    def _fail(self, error: OrchError) -> None:
        self._error = self._error or error
        for member in self._members:  # nobody waits for the others any more
            member.ready.set()
            member.finished.set()

    def _raise(self) -> None:
        if isinstance(self._error, (TargetError, WorkerLost)):
            raise self._error

    def _note(self, member: _Member, value: tuple[Counts, list[float]]) -> None:
        member.counts, ttfts = value
        self.progress.add_up([m.counts for m in self._members])
        self.progress.ttfts.extend(ttfts)
        limit = self._options.stop_on_errors
        if limit is not None and self.progress.failed >= limit:
            self.stop(TOO_MANY_ERRORS)
