"""--watch: the live state on a terminal and in lines, and before there is a client service."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console as Terminal

from contracts.live.state import Job, State
from hpc.deployments.records import Record, create_record
from hpc.endpoints import OutputDir
from hpc.watching.before import Before
from hpc.watching.screen import Screen, bars
from hpc.watching.words import changes

EXAMPLE = State.model_validate_json(Path(__file__).with_name("live_state.json").read_text("utf-8"))


def drawn(width: int, state: State = EXAMPLE) -> str:
    terminal = Terminal(file=StringIO(), width=width, height=60, color_system=None)
    terminal.print(Screen(state))
    assert isinstance(terminal.file, StringIO)
    return terminal.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_left_out(width: int) -> None:
    text = drawn(width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    told = (
        *("degraded", "4711", "PENDING", "Q4_1", "TTFT p50", "40 of 64 requests", "250 of 1000"),
        *("quantizations", "waiting", "gpu1"),
    )
    assert [one for one in told if one not in words] == []


def test_what_a_log_says_is_no_markup() -> None:
    log = EXAMPLE.logs[0].model_copy(update={"lines": ("[red]not red[/red]",)})
    assert "[red]not red[/red]" in drawn(100, EXAMPLE.model_copy(update={"logs": (log,)}))


def test_bars_show_the_highest_of_each_place() -> None:
    assert bars([0.0, 1.0, 2.0], 10) == "▁▄█"
    assert bars([None, 4.0, None], 10) == " █ "
    assert bars([0.0, 8.0, 0.0, 0.0], 2) == "█▁"
    assert bars([], 10) == ""


def test_first_all_that_matters_is_said_then_what_changes() -> None:
    first = dict(changes(None, EXAMPLE))
    assert first["state"].startswith("example-1224-100000-1a2b is degraded: ")
    assert first["monitoring"] == (
        "job 4713 waits in the queue: jobs of higher priority come first"
    )
    assert list(changes(EXAMPLE, EXAMPLE)) == []
    ended = Job(service="ollama", id="4711", state="FAILED", reason="has ended", host="gpu1")
    after = EXAMPLE.model_copy(update={"jobs": (ended, *EXAMPLE.jobs[1:])})
    assert list(changes(EXAMPLE, after)) == [("ollama", "job 4711 has ended on gpu1")]


def test_a_benchmark_is_told_at_each_tenth() -> None:
    run = EXAMPLE.benchmark
    assert run is not None
    one_more = EXAMPLE.model_copy(update={"benchmark": run.model_copy(update={"done": 41})})
    assert list(changes(EXAMPLE, one_more)) == []
    tenth = EXAMPLE.model_copy(update={"benchmark": run.model_copy(update={"done": 45})})
    assert [who for who, _ in changes(EXAMPLE, tenth)] == ["bench"]


def test_who_stops_a_deployment_says_how_it_has_ended_unless_he_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That its jobs have ended, which he has seen to, is no failure."""

    def refresh(records: list[Record], _output: OutputDir) -> None:
        records[0].update(state="failed")

    monkeypatch.setattr("hpc.watching.before.refresh", refresh)
    output = OutputDir(tmp_path)
    output.prepare()
    record = create_record(tmp_path, "d-1", {"site": {"scheduler": "local"}, "model": "m"})
    before = Before(record, output)
    record.update(state="stopping")
    assert not before.ended() and before.record.state == "stopping"
    monkeypatch.setattr("hpc.watching.before.STOPS_S", 0.0)
    assert before.ended() and before.record.state == "failed"
