"""The live state on a terminal, as wide as that is."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from contracts.live.state import Batch, Job, Series, State
from hpc.times import format_time
from hpc.watching.words import benchmark_words, handover_words

#: From so many columns on tables have all that there is to say.
WIDE = 110
_BARS = " ▁▂▃▄▅▆▇█"
_COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "ended": "red"}
#: Of the series: the key, what it is called, the factor by which it is shown, and its unit.
_CURVES = (
    ("ttft_p50", "TTFT p50", 1000.0, "ms"),
    ("ttft_p99", "TTFT p99", 1000.0, "ms"),
    ("itl_p50", "ITL p50", 1000.0, "ms"),
    ("tokens_per_s", "tokens/s", 1.0, ""),
    ("in_flight", "in flight", 1.0, ""),
    ("queued", "queue", 1.0, ""),
)


class Screen:
    """What is shown of a state. All that it says is text, never rich's markup."""

    def __init__(self, state: State, note: str = "") -> None:
        self._state, self._note = state, note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's: lines for a terminal of that width and height."""
        width, state = options.max_width, self._state
        parts: list[RenderableType] = [_head(state), _jobs(state.jobs, width >= WIDE)]
        if state.replicas:
            parts.append(_replicas(state, width >= WIDE))
        if state.series is not None:
            parts.append(_curves(state.series, max(10, width - 32)))
        work = _work(state)
        if work:
            parts.append(_lines(work))
        for warning in state.warnings:
            parts.append(Text(f"! {warning.what} {warning.remedy}", style="yellow"))
        for log in state.logs if options.max_height > 30 else ():
            parts.append(_log(log.service, log.lines[-3:]))
        note = self._note or "Ctrl-C ends this; the deployment goes on"
        parts.append(Text(note, style="dim"))
        yield Group(*parts)


def _head(state: State) -> Text:
    found = state.deployment
    head = Text(overflow="fold")
    head.append(f"{found.id}  ", style="bold")
    head.append(found.state, style=_COLOURS.get(found.state, "cyan"))
    head.append(f"  {found.model} ({found.engine})")
    if found.address:
        head.append(f"  {found.address}")
    if found.idle is not None and found.idle.ends is not None:
        head.append(f"  idle in {_left(found.idle.ends)}")
    if found.reason:
        head.append(f"\n{found.reason}")
    return head


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _jobs(jobs: Sequence[Job], wide: bool) -> Table:
    table = _table("job", "id", "state", "left", *(["node"] if wide else []), "what")
    for job in jobs:
        left = _left(job.ends) if job.ends is not None else _expected(job)
        words = job.reason
        if job.successor is not None:
            words += f"; then {job.successor.id}, which {job.successor.reason}"
        if not wide and job.host:
            words += f" on {job.host}"
        node = [Text(job.host or "-")] if wide else []
        table.add_row(*map(Text, (job.service, job.id, job.state, left)), *node, Text(words))
    return table


def _expected(job: Job) -> str:
    return "-" if job.expected is None else f"in {_left(job.expected)}"


def _left(at: float) -> str:
    return format_time(max(0, int(at - time.time())))


def _replicas(state: State, wide: bool) -> Table:
    more = ["gpus"] if wide else []
    table = _table("replica", "on", "weights", "flight", "queue", *more, "")
    for one in state.replicas:
        cells = [one.address, one.device or "-", one.quantization or "-"]
        cells += [str(one.in_flight), str(one.queued)]
        cells += [", ".join(one.gpus) or "-"] if wide else []
        style = "" if one.ok else "red"
        table.add_row(*map(Text, cells), Text(one.reason or "well", style=style))
    return table


def _curves(series: Series, width: int) -> Table:
    """The last values that a width has room for, with the last one."""
    table = _table("15 minutes", "", "now")
    for key, name, factor, unit in _CURVES:
        values: Sequence[float | None] = getattr(series, key)
        last = values[-1] if values else None
        shown = "-" if last is None else f"{last * factor:.4g} {unit}".rstrip()
        table.add_row(Text(name), Text(bars(values, width), no_wrap=True), Text(shown))
    return table


def bars(values: Sequence[float | None], width: int) -> str:
    """Return values as bars of one line, the largest as the highest; of several that share a place
    the largest counts."""
    each = -(-len(values) // width) or 1
    places = [values[at : at + each] for at in range(0, len(values), each)]
    tops = [max((value for value in place if value is not None), default=None) for place in places]
    most = max((top for top in tops if top is not None), default=0.0)
    return "".join(_bar(top, most) for top in tops)


def _bar(value: float | None, most: float) -> str:
    if value is None or most <= 0:
        return _BARS[0]
    return _BARS[max(1, round(value / most * (len(_BARS) - 1)))] if value > 0 else _BARS[1]


def _work(state: State) -> list[str]:
    found = []
    if state.benchmark is not None:
        found.append(f"benchmark {benchmark_words(state.benchmark)}")
    found += [_batch(one) for one in state.batches[:3]]
    if (campaign := state.campaign) is not None:
        planned = "" if campaign.planned is None else f" of {campaign.planned}"
        found.append(f"campaign {campaign.name}, {campaign.group}: {campaign.done}{planned} done")
    if state.handover is not None:
        found.append(f"hand-over {handover_words(state.handover)}")
    return found


def _batch(one: Batch) -> str:
    return f"batch {one.id} {one.state}: {one.completed} of {one.total}, {one.failed} failed"


def _lines(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines), overflow="fold")


def _log(service: str, lines: Sequence[str]) -> Text:
    text = Text(overflow="ellipsis", no_wrap=True, style="dim")
    text.append("\n".join(f"{service}: {line}" for line in lines))
    return text
