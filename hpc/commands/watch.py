"""--watch: a deployment as it lives."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from contracts.errors import Interrupted
from contracts.job_files import user_token_file
from contracts.live.state import WHOLE, State
from hpc.console import Console
from hpc.deployments.refreshing import chosen_record
from hpc.endpoints import OutputDir
from hpc.watching.before import Before
from hpc.watching.events import Event, events
from hpc.watching.words import changes
from hpc.web import NoAnswer

#: Seconds between looks while there is no client service that tells.
LOOK_S = 1.0


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Show a deployment until it ends or Ctrl-C is pressed, which leaves it alone. Raises
    UsageError."""
    record = chosen_record(given.watch, output)
    watch = Watch(Before(record, output), output, console, given.json)
    try:
        with watch.shown():
            watch.follow()
    except Interrupted:
        console.say(f"{record.id} goes on; {output.command('--status', record.id)} says how it is")
        return
    watch.conclude()


class Watch:
    """Somebody watches."""

    def __init__(self, before: Before, output: OutputDir, console: Console, in_json: bool) -> None:
        self._before, self._output, self._console = before, output, console
        self._in_json = in_json
        self._state = before.look()
        self._said: State | None = None
        self._note = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what is known as long as the block runs."""
        if self._in_json or not self._console.interactive:
            yield
            return
        from hpc.watching.screen import Screen  # rich takes a while

        with self._console.show(lambda: Screen(self._state, self._note), 2):
            yield

    def follow(self) -> None:
        """Until it ends: what its client service tells, and in between what others know."""
        while True:
            seen, url = self._before.look(), self._before.url
            if url is None or self._note:
                self._take((WHOLE, seen.model_dump(mode="json", by_alias=True)))
            if self._before.ended():
                return
            while url is not None:
                url = self._follow_service(url)
            if self._before.ended():
                return
            time.sleep(LOOK_S)

    def _follow_service(self, url: str) -> str | None:
        """Until it ends, or has handed over: return where to, else None."""
        token = user_token_file(self._output.path, self._before.record.id)
        try:
            for event in events(url, token):
                self._note = ""
                self._take(event)
                handover = self._state.handover
                if handover is not None and handover.address not in (None, url):
                    return handover.address
        except NoAnswer as error:
            self._note = f"{error.message}; it is tried again"
        else:
            self._note = f"{url}/events has ended; it is looked for again"
        return None

    def _take(self, event: Event) -> None:
        name, data = event
        try:
            self._state = self._state.after(name, data)
        except ValidationError as error:
            raise NoAnswer(f"{name} is not as this version knows it: {error}") from error
        if self._in_json:
            self._console.line_of_json({"event": name, "data": data})
        elif not self._console.interactive:
            for who, what in changes(self._said, self._state):
                self._console.tell(who, what)
            self._said = self._state

    def conclude(self) -> None:
        """Say that it has ended, and how."""
        record = self._before.record
        error = record.as_json().get("error") or ""
        if self._in_json:
            told = {"id": record.id, "state": record.state, "error": error}
            self._console.line_of_json({"event": "ended", "data": told})
            return
        self._console.say(f"{record.id} is {record.state}{f': {error}' if error else ''}")
        for service, state in record.job_states.items():
            self._console.say(f"  {service} job {record.jobs[service]}: {state}")
