"""What orch reads of the client service's answers, and what it bears of them."""

import json
from pathlib import Path

import pytest

from contracts.errors import BenchmarkInvalid, ServiceError
from hpc.following import benchmark
from hpc.following.answers import (
    Answered,
    Health,
    PartialSummary,
    ProgressSoFar,
    Result,
    RunState,
    read,
)
from hpc.following.benchmark import check_valid, cut_short, run_benchmark
from hpc.following.report import benchmark_lines, source_lines
from hpc.recipe.reading import parse_recipe
from hpc.web import Answer, NoAnswer

FOLDER = Path("/results")


def test_result_of_an_older_service_is_shown_as_far_as_it_goes():
    lines = benchmark_lines(
        read(Result, {"state": "done", "n_clients": 4, "successful": 3}), FOLDER
    )
    assert lines[0] == "benchmark: 3 of None requests succeeded, 4 clients, n/a s"
    assert [line.split() for line in lines if "TTFT" in line] == [["TTFT", "[s]"] + ["n/a"] * 5]
    assert lines[-3:] == [
        "  n/a  requests/s",
        "  n/a  output tokens/s, all clients",
        "  in /results",
    ]


def test_null_is_what_is_not_there():
    null = dict.fromkeys(
        ["load", "latency_seconds", "server_seconds", "throughput", "validity", "n_clients"]
    )
    assert read(Result, null).model_dump() == Result().model_dump()
    validity = {"valid": False, "reasons": None, "notes": None}
    spread = {"ttft": None, "e2e": {"mean": 0.5, "p50": None, "unheard_of": 1}}
    found = read(Result, {"validity": validity, "latency_seconds": spread})
    assert found.validity.reasons == () and found.latency_seconds["e2e"].mean == 0.5
    lines = benchmark_lines(found, FOLDER)
    assert ["0.5", "n/a", "n/a", "n/a", "n/a"] in [line.split()[-5:] for line in lines]
    assert read(Health, {"retrieval": {"points": None}}).retrieval.points == 0
    assert read(RunState, {"state": "running", "progress": None}).progress == ProgressSoFar()
    assert source_lines(read(Answered, {"response": "x", "sources": None})) == []


def test_figures_without_a_verdict_are_not_valid():
    with pytest.raises(BenchmarkInvalid) as caught:
        check_valid(read(Result, {}))
    assert caught.value.details == []


def test_answer_of_another_kind_is_a_sentence():
    with pytest.raises(ServiceError, match=r"is not understood \(load.rate: "):
        read(Result, {"load": {"rate": "fast"}})


def test_sources_are_shown_with_the_time_of_each_step():
    source = {"number": 1, "score": 0.5, "source": str(Path.cwd() / "a.md"), "heading": "A", "z": 1}
    timings = {"embed": 0.25, "prefill": None}
    answer = read(Answered, {"response": "x", "sources": [source], "timings": timings})
    assert source_lines(answer) == [
        "sources:",
        "  [1]  0.500  a.md  A",
        "  steps: embed 0.25 s, prefill n/a s",
    ]


def test_the_record_keeps_what_was_answered_as_it_came_but_for_what_is_long():
    came = {"new": None, "id": "a", "state": "done", "results": [1], "n_clients": 4}
    came |= {"provenance": {}, "latency_seconds": {"e2e": {"mean": 1}}}
    kept = read(Result, came).recorded(id="b", folder="/f")
    assert json.dumps(kept) == (
        '{"new": null, "id": "b", "state": "done", "n_clients": 4, '
        '"latency_seconds": {"e2e": {"mean": 1}}, "folder": "/f"}'
    )
    assert PartialSummary().recorded(id="b") == {"id": "b"}


def test_run_is_followed_to_its_result(recipe_data, monkeypatch):
    monkeypatch.setattr(benchmark, "PROGRESS_S", 0)
    states = [
        {"id": "r", "state": "running", "progress": {}},
        {"id": "r", "state": "running", "progress": {"phase": "measure", "planned": 4, "done": 1}},
        {"id": "r", "state": "done", "successful": 4, "validity": {"valid": True}},
    ]
    answers = iter([Answer(202, {}, ""), *(Answer(200, state, "") for state in states)])
    monkeypatch.setattr(benchmark, "call", lambda *_, **__: next(answers))
    seen = []
    recipe = parse_recipe(recipe_data)
    result = run_benchmark("http://x", "r", recipe, "m", lambda: None, seen.append)
    assert [(progress.phase, progress.done) for progress in seen] == [("start", 0), ("measure", 1)]
    assert result.successful == 4
    check_valid(result)


def test_run_that_fails_is_told_in_the_words_of_the_service(recipe_data, monkeypatch):
    failed = {"state": "failed", "progress": {"done": 1}, "error": {"message": "no room."}}
    answers = iter([Answer(200, {}, ""), Answer(200, failed, "")])
    monkeypatch.setattr(benchmark, "call", lambda *_, **__: next(answers))
    recipe = parse_recipe(recipe_data)
    with pytest.raises(ServiceError, match=r"the benchmark r failed: no room\."):
        run_benchmark("http://x", "r", recipe, "m", lambda: None, lambda _: None)


def test_results_that_are_half_written_are_waited_for(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NoAnswer("it is gone")

    monkeypatch.setattr(benchmark, "call", refuse)
    monkeypatch.setattr(benchmark, "RESULTS_S", 0.2)
    (tmp_path / "summary.json").write_text('{"requests": {"pl')
    assert cut_short("http://x", "r", tmp_path).requests is None


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_results_of_a_run_that_measured_nothing_are_not_waited_for(tmp_path, monkeypatch, state):
    told = Answer(200, {"id": "r", "state": state, "progress": {"done": 0}}, "")
    answers = {"DELETE": Answer(409, {}, "it has ended already"), "GET": told}
    monkeypatch.setattr(benchmark, "call", lambda method, *_, **__: answers[method])
    monkeypatch.setattr(benchmark, "RESULTS_S", float("inf"))
    assert cut_short("http://x", "r", tmp_path).requests is None
