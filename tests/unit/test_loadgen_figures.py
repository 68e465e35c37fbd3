"""Figures made of known data: schedule, percentiles, concurrency, verdict."""

import statistics
from argparse import Namespace
from dataclasses import asdict

import pytest
from hand_made import options_of, record, run_of
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import UsageError
from contracts.figures import normalised, tpot
from contracts.load import LoadSpec
from loadgen.flags import given_load, limits_of
from loadgen.load.prompts import Texts, Varied, read_prompts
from loadgen.load.schedule import arrivals, closed_loop, open_loop
from loadgen.measure.stats import concurrency, distribution, percentile, supported
from loadgen.options import parse_replica

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
    assert found.mean == pytest.approx(statistics.fmean(data))
    assert found.std == pytest.approx(statistics.stdev(data), rel=1e-6, abs=1e-6)
    assert (found.min, found.max, found.n) == (min(data), max(data), len(data))


def test_one_value_has_no_deviation_and_none_has_no_figures():
    assert distribution([3.0]).std is None
    assert (distribution([3.0]).max, distribution([3.0]).p99) == (3.0, None)
    assert set(asdict(distribution([None])).values()) == {None, 0}


@pytest.mark.parametrize(("percent", "enough"), [(50, 2), (90, 10), (95, 20), (99, 100)])
def test_a_percentile_needs_a_value_beyond_it(percent, enough):
    assert supported(percent, enough) and not supported(percent, enough - 1)
    values = [float(n) for n in range(enough)]
    assert distribution(values).at(f"p{percent}") is not None
    assert distribution(values[1:]).at(f"p{percent}") is None


def test_concurrency_is_weighted_by_time():
    found = concurrency([(0.0, 4.0), (1.0, 3.0)], 0.0, 4.0)
    assert found == (1.5, 2)


def test_its_mean_is_of_the_window_alone():
    assert concurrency([(0.0, 4.0), (2.0, 4.0)], 0.0, 2.0) == (1.0, 2)


def test_a_request_that_begins_as_another_ends_is_not_beside_it():
    assert concurrency([(0.0, 1.0), (1.0, 2.0)], 0.0, 2.0) == (1.0, 1)


# --- schedule ---


@given(st.integers(1, 40), st.integers(1, 200))
def test_every_request_is_sent_once_and_shares_differ_by_at_most_one(clients, requests):
    options = options_of(clients=clients, requests=requests)
    each = [[planned.index for planned in closed_loop(options, c)] for c in range(clients)]
    assert sorted(index for mine in each for index in mine) == list(range(requests))
    assert max(map(len, each)) - min(map(len, each)) <= 1


def test_constant_arrivals_have_constant_gaps():
    options = options_of(
        clients=None, rate=4.0, arrivals="constant", requests=None, duration_seconds=1.0
    )
    assert list(arrivals(options)) == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("seed", range(5))
def test_poisson_arrivals_are_poissons(seed):
    """Index of dispersion 1, mean rate, no memory: within four standard errors."""
    options = options_of(clients=None, rate=100.0, requests=20_000, seed=seed)
    at = list(arrivals(options))
    assert len(at) / at[-1] == pytest.approx(100, rel=4 / 20_000**0.5)
    counts = [0] * int(at[-1] * 10)
    for moment in at:
        if moment * 10 < len(counts):
            counts[int(moment * 10)] += 1
    dispersion = statistics.variance(counts) / statistics.mean(counts)
    assert dispersion == pytest.approx(1, abs=4 * (2 / len(counts)) ** 0.5)
    assert abs(statistics.correlation(counts[:-1], counts[1:])) < 4 / len(counts) ** 0.5


@pytest.mark.parametrize("arrival", ["constant", "poisson"])
def test_processes_share_one_schedule_and_not_its_seed(arrival):
    one = options_of(clients=None, rate=50.0, arrivals=arrival, requests=101, seed=7)
    four = options_of(clients=None, rate=50.0, arrivals=arrival, requests=101, seed=7, workers=4)
    parts = [list(open_loop(four, process)) for process in range(4)]
    assert sorted(map(len, parts)) == [25, 25, 25, 26]
    together = sorted((planned for part in parts for planned in part), key=lambda p: p.index)
    assert together == list(open_loop(one, 0))


# --- a run by hand ---


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
    assert latency["normalised"]["mean"] == pytest.approx(1.75 / 3)
    assert summary["seconds"]["measured"] == pytest.approx(2.0)
    assert summary["concurrency"]["mean"] == pytest.approx(1.75)
    assert summary["throughput"]["requests_per_second"] == pytest.approx(1.0)
    assert summary["throughput"]["output_tokens_per_second"] == pytest.approx(3.0)
    assert summary["per_request"]["output_tokens_per_second"]["mean"] == pytest.approx(2.0)
    assert summary["server_seconds"]["queue"]["mean"] == pytest.approx(1.25)
    rates = summary["server_rates"]
    assert rates["prefill_tokens_per_second"]["mean"] == pytest.approx(5 / 0.1)
    assert rates["decode_tokens_per_second"]["mean"] == pytest.approx(3 / 0.4)


def test_the_tail_is_no_steady_state():
    """The window ends at 11.5, when a client has nothing more to send: the other request counts by
    the share of its time; what begins later counts in nothing."""
    late = record(2, 11.8, 12.0, 13.0)
    found = run_of(record(0, 10.0, 10.5, 11.5), record(1, 10.0, 11.3, 13.0), late, idle_from=11.5)
    assert found["seconds"] == {
        "measured": pytest.approx(1.5), "total": pytest.approx(3.0), "ramp_up": 0,
        "drain": pytest.approx(1.5), "warmup": 0.5,
    }  # fmt: skip
    assert found["requests"]["succeeded"] == 3 and found["requests"]["counted"] == 2
    assert found["latency_seconds"]["e2e"]["max"] == pytest.approx(3.0)
    assert found["throughput"]["requests_per_second"] == pytest.approx((1 + 1.5 / 3) / 1.5)
    tokens = 3 + 3 * 1.5 / 3
    assert found["throughput"]["output_tokens_per_second"] == pytest.approx(tokens / 1.5)
    assert found["concurrency"]["mean"] == pytest.approx(2.0)


def test_in_an_open_loop_latency_counts_from_the_intended_sending():
    asked = {"clients": None, "rate": 1.0, "requests": 1}
    late = record(0, 10.4, 10.5, 11.5, intended=10.0)
    found = run_of(late, idle_from=11.0, **asked)
    assert found["latency_seconds"]["ttft"]["mean"] == pytest.approx(0.5)
    assert found["latency_seconds"]["e2e"]["mean"] == pytest.approx(1.5)
    assert found["client"]["dispatch_delay_seconds"]["max"] == pytest.approx(0.4)
    assert found["seconds"]["measured"] == pytest.approx(1.0)


def test_an_open_loop_is_filling_up_at_first():
    """With an E2E of 1 s and an arrival each second the first second is the ramp-up."""
    records = [
        record(n, 10.0 + n, 10.1 + n, 11.0 + n, intended=10.0 + n, tokens=10) for n in range(5)
    ]
    found = run_of(*records, idle_from=15.0, clients=None, rate=1.0)
    assert found["seconds"]["ramp_up"] == pytest.approx(1.0)
    assert found["seconds"]["measured"] == pytest.approx(4.0)
    assert found["requests"]["counted"] == 4
    assert found["throughput"]["requests_per_second"] == pytest.approx(1.0)
    assert found["concurrency"]["mean"] == pytest.approx(1.0)


def test_waiting_for_a_slot_is_not_the_load_generators_delay():
    held = record(0, 10.4, 10.5, 11.5, intended=10.0)
    held.due = 10.4
    found = run_of(held, clients=None, rate=1.0, requests=1)
    assert found["client"]["dispatch_delay_seconds"]["max"] == 0
    assert found["latency_seconds"]["ttft"]["mean"] == pytest.approx(0.5)


def test_goodput_counts_what_keeps_each_limit():
    records = [record(0, 10.0, 10.5, 11.5), record(1, 10.0, 11.0, 12.0)]
    assert run_of(*records)["goodput"] is None
    found = run_of(*records, goodput={"ttft": 0.6, "itl": 0.16})["goodput"]
    assert found["share"] == 0.5
    assert found["requests_per_second"] == pytest.approx(0.5)
    assert run_of(*records, goodput={"ttft": 2.0, "itl": 0.1})["goodput"]["share"] == 0


def test_goodput_counts_failures_as_not_good():
    failed = record(1, 10.0, 10.1, 10.2, error="cut")
    found = run_of(record(0, 10.0, 10.5, 11.5), failed, goodput={"ttft": 1.0})
    assert found["goodput"]["share"] == 0.5


def test_failed_requests_are_never_averaged_in(summary):
    slow = record(2, 10.0, 10.1, 99.0, error="timeout")
    worse = run_of(record(0, 10.0, 10.5, 11.5), record(1, 10.0, 11.0, 12.0), slow, idle_from=12.0)
    assert worse["latency_seconds"] == summary["latency_seconds"]
    assert worse["requests"]["errors"] == {"timeout": 1}


def test_nothing_that_succeeded_gives_no_figures_and_not_zero():
    nothing = run_of(record(0, 10.0, 10.1, 10.2, error="cut"), clients=1)
    assert nothing["latency_seconds"]["e2e"]["mean"] is None
    assert nothing["throughput"]["requests_per_second"] is None


def test_one_token_has_no_time_between_tokens():
    assert tpot(record(0, 10.0, 10.5, 11.0, tokens=1)) is None


def test_normalised_latency_is_e2e_by_output_token():
    assert normalised(record(0, 10.0, 10.5, 11.5, tokens=3)) == pytest.approx(0.5)
    assert normalised(record(0, 10.0, 10.5, 11.5, tokens=1)) == pytest.approx(1.5)
    assert normalised(record(0, 10.0, 10.5, 11.5, tokens=0)) is None
    assert normalised(record(0, 10.0, 10.5, 11.5, tokens=None)) is None


def test_parts_of_several_processes_are_put_together_and_not_averaged():
    records = [record(n, 10.0, 10.5 + n / 10, 11.5 + n / 10) for n in range(4)]
    one = run_of(*records, clients=4)
    two = run_of(records[::2], records[1::2], clients=4, workers=2)
    assert one["latency_seconds"] == two["latency_seconds"]
    assert one["throughput"] == two["throughput"]
    assert two["client"]["cpu_seconds"] == 2 * one["client"]["cpu_seconds"]


# --- what is given ---


@pytest.mark.parametrize("url", ["http://h:80", "h:80", "http://h:80/"])
def test_urls_of_a_server(url):
    assert parse_replica(url).url == "http://h:80"


@pytest.mark.parametrize(
    "url", ["", "ftp://h", "http://", "http://h:99999", "http://h/v1", "a b:x"]
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


def test_built_in_prompts_begin_each_in_another_way_and_have_the_length():
    prompts = Varied(50, seed=1)
    texts = [prompts.encoded(index).decode().strip('"').split() for index in range(2000)]
    assert {len(words) for words in texts} == {50}
    assert len({tuple(words[:3]) for words in texts}) == 2000
    assert texts == [Varied(50, 1).encoded(i).decode().strip('"').split() for i in range(2000)]
    assert texts[0] != Varied(50, 2).encoded(0).decode().strip('"').split()


def test_texts_are_taken_in_turn():
    texts = Texts(("a", "b"))
    assert [texts.encoded(index) for index in range(3)] == [b'"a"', b'"b"', b'"a"']
    assert texts.distinct == 2


def test_goodput_is_seconds_by_figure():
    assert limits_of("ttft:0.5, itl:0.05") == {"ttft": 0.5, "itl": 0.05}


@pytest.mark.parametrize("text", ["ttft", "ttft:", "ttft:-1", "ttft:nan", "x:1", "ttft:1,ttft:2"])
def test_goodput_that_is_none(text):
    with pytest.raises(UsageError, match="--goodput"):
        given_load(Namespace(**(dict.fromkeys(LoadSpec.model_fields) | {"goodput": text})))
