"""Output to people: a live table on a terminal, plain lines with timestamps elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from hpc import signals
from hpc.lines import Lines, ticking, waited

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

Rows = Sequence[Sequence[str]]


class Console:
    """Where everything that people read goes.

    `quiet_stdout` keeps stdout for JSON: people's lines then go to stderr.
    """

    def __init__(self, quiet_stdout: bool = False) -> None:
        self._stream: TextIO = sys.stderr if quiet_stdout else sys.stdout
        self._live: Live | None = None

    @property
    def interactive(self) -> bool:
        """Whether a person looks at a terminal."""
        return self._stream.isatty()

    def tell(self, source: str, text: str) -> None:
        """A line of progress: time, who, what."""
        self.say(f"{time.strftime('%H:%M:%S')}  {source:<8} {text}")

    def say(self, text: str = "") -> None:
        """A line as it is."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            _write(self._stream, text)

    def error(self, message: str, details: Sequence[str] = ()) -> None:
        """What went wrong, on stderr."""
        for line in (f"orch: {message}", *(f"  {line}" for line in details)):
            _write(sys.stderr, line)

    @contextmanager
    def waiting(self, source: str, what: str) -> Iterator[None]:
        """Say now and then that `what` is waited for, and since when, while the block runs."""
        began = time.monotonic()
        lines = Lines(
            lambda line: self.tell(source, line),
            lambda: f"waits for {what} ({waited(began, time.monotonic())})",
        )
        with ticking(lines.tick):
            yield

    def json(self, data: object) -> None:
        """The result for programs, on stdout."""
        _write(sys.stdout, json.dumps(data, indent=2))

    def line_of_json(self, data: object) -> None:
        """One of many results for programs, on a line of stdout."""
        _write(sys.stdout, json.dumps(data))

    @contextmanager
    def live(
        self, rows: Callable[[], Rows], tick: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Show the table that `rows()` gives while the block runs. Not on a terminal: call `tick`
        each second, which says a line if one is due."""
        if not self.interactive:
            with ticking(tick):
                yield
            return
        with self.show(lambda: _table(rows())):
            yield

    @contextmanager
    def show(self, what: Callable[[], RenderableType], per_second: float = 8) -> Iterator[None]:
        """Show on the terminal what `what()` gives, so often a second, while the block runs."""
        from rich.console import Console as Terminal
        from rich.live import Live

        live = Live(
            get_renderable=what,
            console=Terminal(file=cast(TextIO, _Patient(self._stream))),
            refresh_per_second=per_second,
            transient=True,
        )
        try:
            with signals.held():  # it starts a thread (see signals.start)
                live.start()
            self._live = live
            yield
        finally:
            self._live = None
            live.stop()


def _table(rows: Rows) -> Table:
    from rich.table import Table

    header, *body = rows
    table = Table(box=None, pad_edge=False)
    for column in header:
        table.add_column(column, overflow="fold")
    for row in body:
        table.add_row(*row)
    return table


class _Patient:
    """A stream that is written to as `_write` does it; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write; a terminal that is lost takes it, too."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, likewise."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def _write(stream: TextIO, text: str) -> None:
    """A reader that has gone away (a closed pipe, a lost terminal) does not end a deployment."""
    with suppress(OSError, ValueError):
        stream.write(text + "\n")
        stream.flush()


def columns(rows: Rows) -> list[str]:
    """Lines in which the cells of each column start at one place."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
