"""Running Slurm's commands: one at a time, with a limit, and an end when something is urgent."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from contracts.errors import SchedulerUnavailable

#: Longer than Slurm's own patience with a controller that does not answer: squeue tries for
#: MessageTimeout (10 s by default), some commands twice.
COMMAND_TIMEOUT_S = 60


class Commands:
    """Runs commands in `environment`, one at a time, whatever the number of threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._turn = threading.Lock()
        #: Held while a command is started, and while the one that runs is looked at.
        self._starting = threading.Lock()
        self._squeue_process: subprocess.Popen[str] | None = None
        #: The thread for which the others' squeue makes way.
        self._first: int | None = None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What it printed, and its exit code. Raises SchedulerUnavailable when it cannot be run, or
        does not come to its end."""
        with self._turn:
            return _answer(self._start(command), command)

    def _start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        is_squeue = command[0] == "squeue"
        with self._starting:
            if is_squeue and self._first not in (None, threading.get_ident()):
                raise SchedulerUnavailable("squeue was not asked: jobs are being cancelled")
            try:
                # A session of its own: Ctrl-C is for us to handle, not for an sbatch in flight.
                process = subprocess.Popen(
                    command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise SchedulerUnavailable(f"{command[0]} cannot be run: {error}") from error
            self._squeue_process = process if is_squeue else None
            return process

    @contextmanager
    def before_others(self) -> Iterator[None]:
        """End the squeue of another thread, and let none begin while the block runs."""
        self._first = threading.get_ident()
        try:
            self.end_squeue()
            yield
        finally:
            self._first = None

    def end_squeue(self) -> None:
        """End the squeue that is under way."""
        with self._starting:
            if self._squeue_process is not None:
                _kill(self._squeue_process)


def _answer(
    process: subprocess.Popen[str], command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise SchedulerUnavailable(
            f"{command[0]} did not answer within {COMMAND_TIMEOUT_S} s"
        ) from error
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _kill(process: subprocess.Popen[str]) -> None:
    """End it with its children: when squeue is a wrapper, they hold its pipes."""
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
