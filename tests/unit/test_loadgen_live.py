"""The histograms that a run shows while it goes on, and with its last line of progress."""

import json
import random
import signal
from itertools import pairwise

import pytest
from events import PATIENCE_S, undisturbed, until
from paced_server import Pace

from contracts.histograms import BUCKETS, Histogram, Tally
from loadgen.load.progress import Counts, RunProgress
from loadgen.measurements import INTERRUPTED, RequestRecord


@pytest.fixture
def watch(start):
    """Start a run that says how it stands; the process."""
    return lambda *arguments: start("--quiet", "--json-progress", *arguments)


def last_line(process):
    out, _ = process.communicate(timeout=PATIENCE_S)
    return json.loads(out.splitlines()[-1])


def results(tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").open()]
    return json.loads((tmp_path / "out" / "summary.json").read_text()), lines


def in_buckets(name, values):
    """By the definition: how many are at most each limit, each counted once."""
    upto = [sum(value <= limit for value in values) for limit in BUCKETS[name]] + [len(values)]
    return [upto[0], *(after - before for before, after in pairwise(upto))]


def agrees(line, tmp_path):
    """Whether a line of progress has what the run's files have, to the request."""
    summary, requests = results(tmp_path)
    whole = [request for request in requests if request["error"] is None]
    assert line["ok"] == summary["requests"]["succeeded"] == len(whole)
    assert line["error"] == summary["requests"]["failed"]
    assert line["input_tokens"] == sum(request["input_tokens"] for request in whole)
    assert line["output_tokens"] == sum(request["output_tokens"] for request in whole)
    values = {name: [request[name] for request in whole] for name in ("ttft", "e2e", "normalised")}
    values["itl"] = [gap for request in whole for gap in request["gaps"]]
    for name, found in line["histograms"].items():
        assert found["counts"] == in_buckets(name, values[name])
        assert found["sum"] == pytest.approx(sum(values[name]))
    return True


@pytest.mark.parametrize("processes", [1, 2])
def test_the_last_line_has_every_request_of_the_run_and_not_the_warm_up(
    watch, server, tmp_path, processes
):
    server.pace = Pace(ttft=0.02, itl=0.012, failure="cut", fail_from=5, fail_every=7)
    line = last_line(watch("--clients", 6, "--requests", 60, "--processes", processes))
    assert agrees(line, tmp_path)
    assert line["ok"] + line["error"] == 60 == server.seen.requests - processes
    assert line["error"] > 0
    assert (line["in_flight"], line["done"]) == (0, 60)


@pytest.mark.parametrize("processes", [1, 2])
def test_interrupted_requests_are_in_none_of_them(watch, server, tmp_path, processes):
    server.pace = Pace(itl=0.01)
    process = watch("--clients", 8, "--requests", 4000, "--processes", processes)
    until(lambda: server.seen.requests >= 60)
    process.send_signal(signal.SIGINT)
    line = last_line(process)
    assert agrees(line, tmp_path)
    summary, _ = results(tmp_path)
    assert 1 <= summary["requests"]["interrupted"] <= 8  # some may have ended at that moment
    assert line["in_flight"] == 0


@undisturbed
def test_requests_are_in_flight_while_they_are(watch, server):
    server.pace = Pace(ttft=1.0)
    process = watch("--clients", 5, "--requests", 5, "--warmup", 0)
    seen = [json.loads(line) for line in process.stdout]
    assert max(line["in_flight"] for line in seen) == 5
    assert seen[-1]["in_flight"] == 0


def test_who_did_not_ask_for_lines_of_progress_does_not_pay_for_histograms():
    progress = RunProgress(None)
    progress.note(RequestRecord(0, 0, 0.0, sent=0.0, end=1.0))
    assert "histograms" not in progress.as_dict()
    assert progress.counts().tally is None


@pytest.mark.parametrize("name", BUCKETS)
def test_a_value_at_a_limit_is_in_the_bucket_below_it(name):
    values = [*BUCKETS[name], 0.0, 1e9, *(limit * 1.0001 for limit in BUCKETS[name])]
    random.Random(1).shuffle(values)
    one, all_at_once = Histogram(BUCKETS[name]), Histogram(BUCKETS[name])
    for value in values:
        one.add(value)
    all_at_once.add_all(values)
    assert one.counts == all_at_once.counts == in_buckets(name, values)
    assert one.sum == pytest.approx(all_at_once.sum) == pytest.approx(sum(values))


def test_processes_are_added_up():
    whole, parts = RunProgress(None, Tally()), []
    for error in (None, "cut", INTERRUPTED):
        part = RunProgress(None, Tally())
        part.note(RequestRecord(0, 0, 0.0, sent=1.0, end=3.0, error=error))
        parts.append(part.counts())
    whole.add_up([*parts, Counts()])
    assert (whole.done, whole.failed) == (3, 2)
    assert whole.tally is not None
    assert (whole.tally.ok, whole.tally.histograms["e2e"].sum) == (1, 2.0)
