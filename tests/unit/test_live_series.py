"""The series of the live state: what requests came to, in the steps in which it happened."""

from __future__ import annotations

import pytest

from client.live.series import Answer, Recorder, percentile
from contracts.histograms import Histogram, Tally
from contracts.live.state import POINTS, STEP_S


class Clock:
    """A time that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def recorder(clock: Clock) -> Recorder:
    return Recorder(clock)


def test_nothing_is_told_of_a_step_that_is_not_over(recorder: Recorder, clock: Clock) -> None:
    assert (recorder.last(), recorder.whole()) == (None, None)
    clock.now += STEP_S
    assert recorder.last() is not None


def test_tokens_count_when_they_came_and_not_when_the_answer_ended(
    recorder: Recorder, clock: Clock
) -> None:
    clock.now = 1012.0
    recorder.add(Answer(first_at=1002.0, last_at=1012.0, tokens=100, ttft_s=0.5))
    clock.now = 1015.0
    series = recorder.whole()
    assert series is not None
    assert series.start == 1000.0
    assert series.tokens_per_s == (6.0, 10.0, 4.0)  # 3, 5 and 2 s of 10 tokens a second each
    assert [value is not None for value in series.ttft_p50] == [True, False, False]
    assert series.itl_p50[1] == pytest.approx(0.1, abs=0.05)


def test_a_step_that_was_told_and_has_changed_is_told_again(
    recorder: Recorder, clock: Clock
) -> None:
    clock.now = 1007.0
    recorder.whole()
    recorder.add(Answer(first_at=1006.0, last_at=1007.0, tokens=3, ttft_s=0.5))
    assert not recorder.changed
    recorder.add(Answer(first_at=1002.0, last_at=1007.0, tokens=3, ttft_s=0.5))
    assert recorder.changed
    recorder.whole()
    assert not recorder.changed


def test_of_answers_in_one_piece_tokens_alone_count(recorder: Recorder, clock: Clock) -> None:
    recorder.add(Answer(first_at=1000.0, last_at=1004.0, tokens=10))
    clock.now = 1005.0
    point = recorder.last()
    assert point is not None
    assert (point.ttft_p50, point.itl_p50, point.tokens_per_s) == (None, None, 2.0)


def test_benchmarks_that_ask_engines_themselves_count_by_what_is_new(
    recorder: Recorder, clock: Clock
) -> None:
    tally = Tally(output_tokens=50)
    tally.histograms["ttft"].add(0.2)
    recorder.note(3, 4, tally)
    clock.now = 1005.0
    point = recorder.last()
    assert point is not None
    assert (point.tokens_per_s, point.queued, point.in_flight) == (10.0, 3, 4)
    assert point.ttft_p50 == pytest.approx(0.175)
    recorder.note(0, 0, tally)
    clock.now = 1010.0
    point = recorder.last()
    assert point is not None
    assert (point.tokens_per_s, point.ttft_p50) == (0.0, None)


def test_15_minutes_are_kept(recorder: Recorder, clock: Clock) -> None:
    for _ in range(POINTS + 40):
        clock.now += STEP_S
        recorder.last()
    series = recorder.whole()
    assert series is not None
    assert len(series.queued) == POINTS
    assert series.start + POINTS * STEP_S == clock.now


@pytest.mark.parametrize("jump", [-3600.0, 7200.0])
def test_a_clock_that_is_set_begins_anew(recorder: Recorder, clock: Clock, jump: float) -> None:
    clock.now += jump
    assert recorder.last() is None


def test_a_percentile_lies_within_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    assert percentile(histogram, 0.5) is None
    histogram.add_all([0.5] * 50 + [3.0] * 50)
    assert percentile(histogram, 0.5) == 1.0
    assert percentile(histogram, 0.99) == pytest.approx(3.96)
    histogram.add_all([9.0] * 1000)
    assert percentile(histogram, 0.99) == 4.0
