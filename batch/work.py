"""A batch from its beginning to its end: check, put in order what is there, ask for the rest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from time import monotonic

from batch import progress
from batch.arguments import Options
from batch.asking.conditions import ask_server, read_conditions
from batch.asking.door import Door
from batch.asking.sending import Sender
from batch.asking.slots import LOOK_S, Slots
from batch.files import Files
from batch.given.check import Checked, check
from batch.given.lines import Unit
from batch.given.reading import Broken, Input
from batch.kept.entries import now
from batch.kept.recovery import Bits, Recovered
from batch.kept.store import Store
from batch.state import BatchState, BatchStatus, write_state
from contracts.errors import EXIT_SOME_FAILED, DeadlineError, UsageError
from contracts.files import remove_whole
from ledger.conditions import Conditions

#: Seconds of answers that the loss of a node may take with it: who writes may have to wait for it.
SYNC_S = 5.0


class Work:
    """One run. `state` is what the state file says."""

    def __init__(self, options: Options, files: Files, door: Door) -> None:
        self._options, self._files, self._door = options, files, door
        self._progress = progress.Progress()
        self.state = BatchState()
        #: As the runs before have left it.
        self._known = BatchState()

    def run(self, given: Input, store: Store) -> int:
        """Work it off, and return the exit code: 0, or 4 if lines have failed.

        Raises OrchError, also DeadlineError when the time is over.
        """
        with contextlib.suppress(OSError):  # with what a kill has left half-written
            remove_whole(self._files.state)
        self.tell("checking")
        checked, index = check(given)
        try:
            self.tell("checking", total=checked.lines)
            model, conditions = self._conditions(checked)
            known, changed = store.begin(checked, index, conditions, self._options.accept_changes)
        finally:
            index.close()
        self._say_what_is_there(known, changed, checked)
        self.tell(
            "in_progress",
            completed=known.reused,
            reused=known.reused,
            input_tokens=known.input_tokens,
            output_tokens=known.output_tokens,
        )
        self._known = self.state
        slots = Slots(self._options.slots)
        sender = Sender(self._door, store, _missing(given, known.done), model, slots)
        sender.start()
        try:
            self._follow(sender, store, given)
        finally:
            sender.end(None)
            self._progress.end()
        return self._close(sender)

    def tell(self, state: BatchStatus, **what: object) -> None:
        """Write the state file; where there is no room for it, the answers' file will say so."""
        self.state = self.state.model_copy(update={**what, "state": state, "at": now()})
        try:
            write_state(self._files.state, self.state)
        except OSError:
            pass

    # --- before ---

    def _conditions(self, checked: Checked) -> tuple[str | None, Conditions]:
        """The model of lines that name none, and what decides the answers."""
        options, model = self._options, self._options.model
        named = model is not None or checked.nameless is None
        found = read_conditions(options.conditions) if options.conditions else None
        if found is None or not named:
            begun = monotonic()
            said = ask_server(
                self._door.connection(), lambda why: self._wait(why, monotonic() - begun)
            )
            model = model or (None if named else said.get("model"))
            found = said if found is None else found
        if model is None and checked.nameless is not None:
            raise UsageError(
                f"line {checked.nameless} of {checked.path} names no model, and "
                f"{self._door.shown} does not say which it has; give it by --model NAME."
            )
        return model, found if model is None else {**found, "model": model}

    def _wait(self, why: str, lasted_s: float) -> None:
        self._check_time()
        self.tell("checking", problem=f"{self._door.shown} does not answer: {why}")
        self._progress.silence(self._door.shown, why, lasted_s)

    def _say_what_is_there(self, known: Recovered, changed: bool, checked: Checked) -> None:
        missing = checked.lines - known.reused
        if changed:
            progress.print_line(
                f"{checked.path} was changed since the last run: {known.reused:,} answers are of "
                f"lines that are there still, {missing:,} lines are asked."
            )
        elif known.reused:
            progress.print_line(
                f"{known.reused:,} of {checked.lines:,} lines are answered already; "
                f"{missing:,} are asked."
            )
        if known.others or known.unknown:
            progress.print_line(
                f"{known.others + known.unknown:,} lines of {self._files.answers} answer no line "
                f"of the input, and were taken out; they are kept in {self._files.before.name}."
            )

    # --- while it works ---

    def _follow(self, sender: Sender, store: Store, given: Input) -> None:
        """Return when all lines are through. Raises OrchError for what has ended it before."""
        rates, synced = progress.Rates(), monotonic()
        while not sender.over.wait(LOOK_S):
            self._check_time()
            _check_unchanged(given)
            if monotonic() - synced >= SYNC_S:
                store.sync()
                synced = monotonic()
            self._look(sender, rates)
        self._look(sender, rates)
        if sender.error is not None:
            raise sender.error
        store.sync()
        _check_unchanged(given)  # one that was cut has come to its end too early

    def _check_time(self) -> None:
        until = self._options.until
        if until is not None and time.time() >= until:
            raise DeadlineError(
                "--until came before all lines were answered; the same command does what is "
                "missing."
            )

    def _look(self, sender: Sender, rates: progress.Rates) -> None:
        tally, known = sender.tally, self._known
        rates.sample(tally)
        failed, completed = tally.failed.total(), known.completed + tally.answered
        rate, why = rates.answers, sender.outage.why
        left = known.total - completed - failed
        silent = f"{self._door.shown} takes nothing: {why}" if why else None
        self.tell(
            "in_progress",
            completed=completed,
            failed=failed,
            rate=round(rate, 3),
            input_tokens=known.input_tokens + tally.input_tokens,
            output_tokens=known.output_tokens + tally.output_tokens,
            eta_s=round(left / rate, 1) if rate else None,
            problem=silent,
        )
        self._progress.show(self.state, rates, tally.failed)
        if why:
            self._progress.silence(self._door.shown, why, sender.outage.lasted_s)

    # --- after ---

    def _close(self, sender: Sender) -> int:
        state, failed = self.state, sender.tally.failed
        before = f" ({state.reused:,} of them before)" if state.reused else ""
        said = f"{state.completed:,} of {state.total:,} lines are answered in {self._files.answers}"
        if not failed:
            self.tell("completed", eta_s=0.0)
            progress.print_line(f"{said}{before}.")
            return 0
        why = (
            f"{state.failed:,} failed ({progress.classes(failed)}): "
            f"{self._files.errors} says why, and the same command asks again"
        )
        self.tell("completed", eta_s=0.0, problem=f"{why}.")
        progress.print_line(f"{said}{before}; {why}.")
        return EXIT_SOME_FAILED


def _check_unchanged(given: Input) -> None:
    """Raises UsageError."""
    if given.changed:
        raise UsageError(
            f"{given.path} was changed while it was worked off; give the same command again, which "
            "asks what is missing."
        )


def _missing(given: Input, done: Bits) -> Iterator[Unit]:
    """What is to be asked still. Raises UsageError if the file is no longer what was checked."""
    for line in given.lines():
        if isinstance(line, Broken):
            raise UsageError(
                f"{given.path} was changed while it was worked off (line {line.number} {line.why});"
                " correct it, then give the same command again."
            )
        if line.number not in done:
            yield line
