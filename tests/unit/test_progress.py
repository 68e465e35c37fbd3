"""What orch shows of a benchmark that runs: rows of a table, and lines for a log."""

import threading

import pytest

from hpc.console import Console
from hpc.following.answers import ProgressSoFar
from hpc.following.progress import Progress
from hpc.lines import Lines


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def progress(clock, lines):
    return Progress(lines.append, clock)


def state(done, planned=100, **figures):
    known = {"phase": "measure", "planned": planned, "done": done, "failed": 1}
    return ProgressSoFar(**{**known, "elapsed_seconds": 12.3, **figures})


FIGURES = {"requests_per_second": 8.04, "ttft_p50": 0.21234, "output_tokens_per_second": 515.0}


def test_the_table_has_requests_done_rate_and_ttft_so_far(progress):
    progress.take(state(40, **FIGURES))
    header, row = progress.rows()
    assert dict(zip(header, row, strict=True)) == {
        "requests done": "40 of 100",
        "failed": "1",
        "rate": "8.0 requests/s",
        "TTFT p50": "0.2123 s",
        "output": "515.0 tokens/s",
        "elapsed": "12 s",
    }


def test_before_anything_is_known_the_table_has_dashes(progress):
    assert progress.rows()[1] == ["0", "0", "-", "-", "-", "-"]


def test_a_run_by_time_has_no_number_of_requests_to_come(progress):
    progress.take(state(40, planned=None, **FIGURES))
    assert progress.rows()[1][0] == "40"


def seconds_of(progress, clock, seconds, lines, told=None):
    """Let time pass, with one look each second; by seconds, the lines that came."""
    came = []
    for second in range(1, seconds + 1):
        clock.now += 1
        before = len(lines)
        progress.tick() if told is None else progress.take(told(second))
        came += [second] * (len(lines) - before)
    return came


def test_a_log_gets_a_line_every_ten_seconds_at_the_latest(progress, clock, lines):
    seconds_of(progress, clock, 30, lines, lambda second: state(2 * second, in_flight=4, **FIGURES))
    assert lines == [
        f"{done} of 100 requests done, 1 failed, 4 in flight; so far 8.0 requests/s, "
        "TTFT p50 0.2123 s, 515.0 tokens/s"
        for done in (18, 36, 54)
    ]


def test_a_run_in_which_nothing_ends_says_so_and_for_how_long(progress, clock, lines):
    progress.take(state(3, in_flight=4))
    came = seconds_of(progress, clock, 45, lines, lambda _: state(3, in_flight=4))
    assert came == [9, 18, 27, 36, 45]
    assert "4 in flight, none has ended for 45 s" in lines[-1]


def test_a_client_service_that_does_not_answer_stops_no_lines(progress, clock, lines):
    """Nothing is taken in meanwhile; the clock alone goes on."""
    came = seconds_of(progress, clock, 60, lines)
    assert len(came) == 6 and max(b - a for a, b in zip([0, *came], came, strict=False)) <= 10
    assert "none has ended for 54 s" in lines[-1]


def test_the_warm_up_is_told_as_such(progress, clock, lines):
    seconds_of(progress, clock, 10, lines, lambda _: state(0, phase="warmup"))
    assert lines[0].startswith("warming up: 0 of 100 requests done")


def test_a_queue_is_told_of_less_often_than_a_start(clock, lines):
    queued = [True]
    every = Lines(lines.append, lambda: "waits", clock, lambda: 60.0 if queued[0] else 8.5)
    assert seconds_of(every, clock, 130, lines) == [60, 120]
    queued[0] = False
    assert seconds_of(every, clock, 20, lines) == [1, 10, 19]


def test_a_plain_log_is_ticked_while_the_block_waits(monkeypatch):
    """Whatever the block does: here it waits for the ticks themselves."""
    monkeypatch.setattr("hpc.lines.TICK_S", 0.001)
    ticks, enough = [], threading.Event()

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            enough.set()

    with Console().live(lambda: [["a"]], tick):
        assert enough.wait(30)
    after = len(ticks)
    threading.Event().wait(0.02)
    assert len(ticks) == after
