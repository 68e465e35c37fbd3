"""What orch shows of a benchmark that runs: rows of a table, and lines for a log."""

import pytest

from hpc.progress import Progress


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
    return {**known, "elapsed_seconds": 12.3, **figures}


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


def test_a_log_gets_a_line_when_another_tenth_is_done_and_ten_seconds_have_passed(
    progress, clock, lines
):
    for second in range(30):
        clock.now += 1
        progress.take(state(2 * second, **FIGURES))
    assert lines == [
        f"{done} of 100 requests done, 1 failed; so far 8.0 requests/s, TTFT p50 0.2123 s, "
        "515.0 tokens/s"
        for done in (18, 38, 58)
    ]


def test_a_log_of_a_slow_run_gets_a_line_a_minute_all_the_same(progress, clock, lines):
    for _ in range(125):
        clock.now += 1
        progress.take(state(3))
    assert lines == ["3 of 100 requests done, 1 failed; so far -, TTFT p50 -, -"] * 2
