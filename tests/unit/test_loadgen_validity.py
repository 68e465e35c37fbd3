"""The verdict on a run: each reason alone makes it invalid, and its healthy twin is valid."""

import dataclasses
from array import array

import pytest
from hand_made import URL, measured_of, options_of, part, record, verdict_on

from loadgen.measure.self_check import shifts
from loadgen.measure.summarise import summarise
from loadgen.measurements import ServerFacts

FACTS = ServerFacts(URL, "1.0", "sha:1", "Q4_0", 100, 100, 4096)
OTHER = "http://g:80"


def healthy(n=200):
    """So many requests, two by two, each 1 s long, with a text after 0.2 s."""
    return [record(i, t := 10.0 + i // 2, t + 0.2, t + 1.0) for i in range(n)]


def verdict(records=None, *, asked=None, run=None, lags=(0.0001,) * 200, idle_from=None):
    """Of a run that is healthy but for what is given."""
    records = healthy() if records is None else records
    options = options_of(**{"requests": len(records), **(asked or {})})
    measured = measured_of(part(records, idle_from, lags), **(run or {}))
    return verdict_on(measured, options)


def codes(*arguments, **changes):
    return verdict(*arguments, **changes)["codes"]


def test_a_healthy_run_is_valid():
    assert verdict() == {"valid": True, "reasons": [], "codes": [], "notes": []}


def with_errors(number, error="cut"):
    records = healthy()
    for each in records[:number]:
        each.error = error
    return records


def with_tokens(number, tokens):
    records = healthy()
    for each in records[:number]:
        each.answer.output_tokens = tokens
    return records


def unsure(records, of=1.0):
    """Their arrivals, or those of a share of them, are known by our lag only."""
    for each in records[: round(of * len(records))]:
        answer = each.answer
        answer.unsure, answer.unsure_first, answer.unsure_end = len(answer.chunks) - 1, True, True
    return records


def with_load(load, *, of=1, chunks=True):
    """Requests that waited so long for their model; the second client's go on meanwhile or not."""
    records = healthy()
    for each in records[100 : 100 + 2 * of : 2]:
        each.answer.load = load
    for each in records[:100] if chunks else records:
        each.answer.load = each.answer.load or 0.01
    if not chunks:
        records[101].answer.chunks = records[101].answer.chunks[:0]
        records[100].answer.chunks = records[100].answer.chunks[:0]
    return records


def with_retrieval():
    """A request that waited for its model after 0.5 s of retrieval, while the other client's only
    text came in the midst of what would be the wait had there been no retrieval."""
    records = with_load(0.4, chunks=False)
    records[100].answer.embed, records[100].answer.search = 0.4, 0.1
    records[101].answer.chunks = array("d", [records[100].sent + 0.2])
    return records


def with_total(total, of=10):
    records = healthy()
    for each in records[:of]:
        each.answer.total = total
    return records


def facts(**changes):
    return {"servers_before": [FACTS], "servers_after": [dataclasses.replace(FACTS, **changes)]}


def before(**changes):
    return {
        "servers_before": [dataclasses.replace(FACTS, **changes)],
        "servers_after": [dataclasses.replace(FACTS, **changes)],
    }


def clients_one_after_another():
    return [record(i, 10.0 + i, 10.2 + i, 11.0 + i) for i in range(200)]


DEFECTS = {
    "stopped": {"run": {"stopped": "by SIGINT"}},
    "error_rate": {"records": with_errors(3)},
    "error_rate, all": {"records": with_errors(200)},
    "no_tokens, zero": {"records": with_tokens(3, 0)},
    "no_tokens, missing": {"records": with_tokens(3, None)},
    "output_length, short": {"asked": {"num_predict": 10}},
    "output_length, long": {"asked": {"num_predict": 2}},
    "server_changed, version": {"run": facts(version="2.0")},
    "server_changed, model": {"run": facts(digest="sha:2")},
    "server_changed, unloaded": {"run": facts(digest=None)},
    "model_place": {"run": before(size_vram=0), "asked": {"sits_on": "gpu"}},
    "model_place, a part": {"run": before(size_vram=60), "asked": {"sits_on": "gpu"}},
    "model_loading": {"records": with_load(0.9, chunks=False)},
    "model_loading, after retrieval": {"records": with_retrieval()},
    "concurrency": {"records": clients_one_after_another()},
    "too_short": {
        "records": healthy(2),
        "asked": {"requests": None, "duration_seconds": 0.5},
        "idle_from": 10.5,
    },
    "clock, set": {"run": {"clocks": {"wall_seconds_off": -3600.0}}},
    "clock, slept": {"run": {"clocks": {"suspended_seconds": 60.0}}},
    "clock, server": {"records": with_total(1.2)},
    "load_generator, lag": {"records": unsure(healthy()), "lags": (0.012,) * 200},
    "load_generator, pause": {"lags": (*(0.0001,) * 2000, 0.05)},
}
TWINS = {
    "error_rate": {"records": with_errors(2)},
    "no_tokens": {"records": with_tokens(2, 0)},
    "output_length": {"asked": {"num_predict": 4}},
    "server_changed": {"run": facts()},
    "server_changed, not known": {"run": before(version=None, digest=None)},
    "model_place": {"run": before(), "asked": {"sits_on": "gpu"}},
    "model_place, nothing asked": {"run": before(size_vram=0)},
    "model_loading, quick": {"records": with_load(0.1, chunks=False)},
    "model_loading, busy": {"records": with_load(0.9)},
    "model_loading, all alike": {"records": with_load(0.9, of=50)},
    "concurrency": {"records": healthy(1), "asked": {"clients": 2}},
    "too_short": {"records": healthy(20), "asked": {"requests": None, "duration_seconds": 10.0}},
    "clock, slewed": {"run": {"clocks": {"wall_seconds_off": 0.01, "suspended_seconds": 0.0}}},
    "clock, server": {"records": with_total(1.001)},
    "load_generator, lag": {"records": unsure(healthy()), "lags": (0.0012,) * 200},
    "load_generator, stamped": {"lags": (0.012,) * 200},
    "load_generator, pause": {"lags": (*(0.0001,) * 2000, 0.005)},
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_alone_makes_a_run_invalid_for_its_reason(name):
    found = verdict(**DEFECTS[name])
    assert not found["valid"]
    assert set(found["codes"]) == {name.partition(",")[0]}
    assert all(reason.endswith(".") for reason in found["reasons"])


@pytest.mark.parametrize("name", TWINS)
def test_its_healthy_twin_is_valid(name):
    assert codes(**TWINS[name]) == []


def test_a_model_that_is_not_loaded_at_the_beginning_is_a_reason():
    two = {"urls": [URL, OTHER]}
    there = dataclasses.replace(FACTS, url=OTHER)
    missing = dataclasses.replace(there, digest=None)
    for second, expected in ((there, []), (missing, ["model_not_loaded"])):
        looks = {"servers_before": [FACTS, second], "servers_after": [FACTS, second]}
        assert codes(run={**two, **looks}) == expected


# --- the load generator's own part ---


def paced(spread=0.0):
    """TTFT 0.2 s and more, by up to `spread`; ITL as hand_made has it."""
    records = []
    for i in range(400):
        sent = 10.0 + i // 2
        first = sent + 0.2 + spread * (i % 20) / 20
        records.append(record(i, sent, first, first + 0.6))
    return records


def shift_of(records, lags, figure, stat):
    measured, options = measured_of(part(records, lags=lags)), options_of(requests=len(records))
    found = shifts(summarise(measured, options))
    return next(shift for f, s, _, shift in found if (f, s) == (figure, stat))


def test_the_mean_is_moved_by_the_mean_lag():
    assert shift_of(unsure(paced()), (0.003,) * 500, "ttft", "mean") == pytest.approx(0.003)


def test_what_the_kernel_has_stamped_is_not_moved_by_our_lag():
    for figure in ("ttft", "itl", "e2e"):
        assert shift_of(paced(), (0.003,) * 500, figure, "p99") == 0


def test_a_share_that_is_not_sure_moves_only_what_it_reaches():
    """Three of 100: the 99th percentile, but not the 95th; and of the mean as much as they can."""
    lags, records = (*(0.0,) * 400, *(0.01,) * 100), unsure(paced(), of=0.03)
    for figure in ("ttft", "e2e"):
        assert shift_of(records, lags, figure, "p95") == 0
        assert shift_of(records, lags, figure, "p99") > 0
        assert shift_of(records, lags, figure, "mean") == pytest.approx(0.03 * 0.01)


def test_where_the_server_does_not_vary_all_of_the_spread_is_ours():
    lags = (*(0.0,) * 450, *(0.002,) * 50)
    records = unsure(paced())
    for late in records[:40]:
        late.answer.chunks[0] += 0.002
    assert shift_of(records, lags, "ttft", "p95") == pytest.approx(0.002, rel=0.2)


def test_where_the_server_varies_much_a_small_lag_moves_little():
    lags = (*(0.0,) * 450, *(0.002,) * 50)
    assert shift_of(unsure(paced(spread=0.2)), lags, "ttft", "p95") < 0.0001


def test_it_is_not_judged_by_less_than_a_second():
    found = verdict(lags=(0.5,) * 20)
    assert found["valid"]
    assert any("too short to tell" in note for note in found["notes"])


# --- notes ---


def test_percentiles_that_are_not_supported_are_named():
    assert verdict(healthy(12))["notes"] == ["12 requests do not support p95, p99: n/a."]
