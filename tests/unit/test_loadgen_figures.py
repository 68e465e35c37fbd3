"""Figures made of known data: schedule, percentiles, concurrency, verdict."""

import copy
import statistics
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.metrics import Measured, Record, concurrency, distribution, percentile, summarise
from loadgen.ollama import Answer
from loadgen.options import Options, UsageError, parse_replica, read_prompts
from loadgen.schedule import closed_loop
from loadgen.validity import reasons_against

URL = "http://h:80"
FINITE = st.floats(min_value=0, max_value=1e6)


def test_percentiles_interpolate_as_numpys_linear_does():
    # numpy.percentile([15, 20, 35, 40, 50], [50, 90, 95, 99]) gives these.
    data = [15.0, 20.0, 35.0, 40.0, 50.0]
    found = [percentile(data, p) for p in (0, 50, 90, 95, 99, 100)]
    assert found == pytest.approx([15, 35, 46, 48, 49.6, 50])


@given(st.lists(FINITE, min_size=2, max_size=50), st.integers(1, 99))
def test_percentiles_agree_with_the_standard_librarys(data, percent):
    expected = statistics.quantiles(data, n=100, method="inclusive")[percent - 1]
    assert percentile(sorted(data), percent) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(FINITE, min_size=2, max_size=50))
def test_mean_and_deviation_agree_with_the_standard_librarys(data):
    found = distribution(data)
    assert found["mean"] == pytest.approx(statistics.fmean(data))
    assert found["std"] == pytest.approx(statistics.stdev(data), rel=1e-6, abs=1e-6)
    assert (found["min"], found["max"], found["n"]) == (min(data), max(data), len(data))


def test_one_value_has_no_deviation_and_none_has_no_figures():
    assert distribution([3.0])["std"] is None
    assert distribution([3.0])["p99"] == 3.0
    assert set(distribution([None]).values()) == {None, 0}


def test_concurrency_is_weighted_by_time():
    found = concurrency([(0.0, 4.0), (1.0, 3.0)], 4.0)
    assert found == {"mean": 1.5, "max": 2}


def test_a_request_that_begins_as_another_ends_is_not_beside_it():
    assert concurrency([(0.0, 1.0), (1.0, 2.0)], 2.0) == {"mean": 1.0, "max": 1}


@given(st.integers(1, 40), st.integers(1, 200))
def test_every_request_is_sent_once_and_shares_differ_by_at_most_one(clients, requests):
    options = Options((parse_replica("h"),), "m", Path(), clients=clients, requests=requests)
    each = [[planned.index for planned in closed_loop(options, c)] for c in range(clients)]
    assert sorted(index for mine in each for index in mine) == list(range(requests))
    assert max(map(len, each)) - min(map(len, each)) <= 1


# --- a run by hand ---


def record(index, sent, first, end, tokens=3, error=None):
    answer = Answer(chunks=array("d", [first, first + 0.1, first + 0.3]), end=end)
    answer.output_tokens, answer.input_tokens = tokens, 5
    answer.load, answer.prefill, answer.decode = 0.0, 0.1, 0.4
    return Record(index, index, 10.0, URL, sent=sent, end=end, error=error, answer=answer)


def run_of(*records, planned=None, clients=2, stopped=None):
    return summarise(
        Measured(planned or len(records), clients, 10.0, records, 0.5, 0.1, [0.001], stopped, [URL])
    )


@pytest.fixture
def summary():
    """Two requests at once, in two seconds, both whole."""
    return run_of(record(0, 10.0, 10.5, 11.5), record(1, 10.0, 11.0, 12.0))


def test_figures_follow_their_definitions(summary):
    latency = summary["latency_seconds"]
    assert latency["ttft"]["mean"] == pytest.approx(0.75)
    assert latency["e2e"]["mean"] == pytest.approx(1.75)
    assert latency["tpot"]["mean"] == pytest.approx(0.5)  # (1.5-0.5)/2 and (2-1)/2
    assert latency["itl"]["max"] == pytest.approx(0.2)
    assert summary["seconds"]["measured"] == pytest.approx(2.0)
    assert summary["concurrency"]["mean"] == pytest.approx(1.75)
    assert summary["throughput"]["requests_per_second"] == pytest.approx(1.0)
    assert summary["throughput"]["output_tokens_per_second"] == pytest.approx(3.0)
    assert summary["per_request"]["output_tokens_per_second"]["mean"] == pytest.approx(2.0)
    assert summary["server_seconds"]["queue"]["mean"] == pytest.approx(1.25)


def test_failed_requests_are_never_averaged_in(summary):
    slow = record(2, 10.0, 10.1, 99.0, error="timeout")
    worse = run_of(record(0, 10.0, 10.5, 11.5), record(1, 10.0, 11.0, 12.0), slow)
    assert worse["latency_seconds"] == summary["latency_seconds"]
    assert worse["requests"]["errors"] == {"timeout": 1}


def test_nothing_that_succeeded_gives_no_figures_and_not_zero():
    nothing = run_of(record(0, 10.0, 10.1, 10.2, error="cut"), clients=1)
    assert nothing["latency_seconds"]["e2e"]["mean"] is None
    assert nothing["throughput"]["requests_per_second"] is None


def test_one_token_has_no_time_between_tokens():
    assert record(0, 10.0, 10.5, 11.0, tokens=1).tpot is None


# --- verdict: the healthy run is valid, and each defect alone makes it invalid ---


def test_a_healthy_run_is_valid(summary):
    assert reasons_against(summary) == []


DEFECTS = {
    "No request succeeded (2 cut)": {
        "requests": {"succeeded": 0, "failed": 2, "errors": {"cut": 2}}
    },
    "3 of 200 requests failed": {
        "requests": {"succeeded": 197, "failed": 3, "errors": {"http_503": 3}}
    },
    "3 of 200 answers had no tokens": {"requests": {"succeeded": 200, "without_tokens": 3}},
    "At most 1 requests were in flight": {"concurrency": {"max": 1}},
    "stopped after 2 of 2 requests: by SIGINT": {"stopped": "by SIGINT"},
}
TWINS = {
    "one failure in a hundred": {"requests": {"succeeded": 198, "failed": 2, "errors": {"cut": 2}}},
    "one empty answer in a hundred": {"requests": {"succeeded": 200, "without_tokens": 2}},
    "fewer requests than clients": {"concurrency": {"max": 2, "asked": 3}},
}


def changed(summary, changes):
    made = copy.deepcopy(summary)
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) else value
    return made


@pytest.mark.parametrize(("words", "changes"), DEFECTS.items())
def test_each_defect_alone_makes_a_run_invalid(summary, words, changes):
    reasons = reasons_against(changed(summary, changes))
    assert len(reasons) == 1
    assert words in reasons[0]


@pytest.mark.parametrize("name", TWINS)
def test_its_twin_is_valid(summary, name):
    assert reasons_against(changed(summary, TWINS[name])) == []


# --- what is given ---


@pytest.mark.parametrize("url", ["http://h:80", "h:80", "http://h:80/"])
def test_urls_of_a_server(url):
    assert parse_replica(url).url == "http://h:80"


@pytest.mark.parametrize(
    "url", ["", "https://h", "http://", "http://h:99999", "http://h/v1", "a b:x"]
)
def test_urls_that_are_none(url):
    with pytest.raises(UsageError, match="--url"):
        parse_replica(url)


def test_prompts_are_strings_or_objects(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('"one"\n\n{"prompt": "two", "id": 7}\n')
    assert read_prompts(file) == ("one", "two")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"prompt": ""}', b"\xff", b'{"text": "x"}']
)
def test_prompts_that_are_none_are_named(tmp_path, content):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"prompts\.jsonl|a prompt has 0"):
        read_prompts(file)
