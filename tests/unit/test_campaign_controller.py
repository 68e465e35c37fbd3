"""A campaign is carried out, broken off, and taken up: with deployments that are a record, and a
client service that measures nothing."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign_standins import NOBODY, Bench, StandInDeployer, service
from events import until

from campaign.book import Book
from campaign.units import LEDGER, Deploying, Measured, Started, as_json, observations, read
from contracts.errors import ServiceError
from contracts.files import FileError
from contracts.json_object import JsonObject
from hpc.campaigns import known
from hpc.campaigns.known import campaign_lines
from hpc.commands.campaign import _judge, _progress
from hpc.deployments.records import Record, create_record, load_records
from ledger.journal import Journal, JournalInUse

RECIPE = {"job": {"service": {"model": "mistral:7b", "n_requests_per_client": 4}}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    campaign = {
        "recipe": RECIPE,
        "vary": {"job.service.num_parallel": [1, 2, 4], "load.n_clients": [1, 2]},
        "repetitions": 2,
        "seed": 1,
        "slo": "ttft:0.5",
    }
    with service(tmp_path / "output" / "benchmarks") as served:
        yield Bench(tmp_path, served, campaign)


def states(bench: Bench) -> Counter[str]:
    return Counter(one.state for one in observations(bench.home))


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_each_repetition_is_measured_once_with_as_few_deployments_as_the_plan_says(
    bench: Bench, parallel: int
) -> None:
    bench.campaign["parallel"] = parallel
    bench.command()
    assert states(bench) == {"done": 12}
    assert len(set(bench.runs())) == len(bench.service.asked) == 12
    assert len(bench.begun) == bench.checked.design.deployments == 3 + max(0, 3 - parallel)
    assert max(bench.most_up) <= parallel
    assert bench.live() == []
    figures = observations(bench.home)[0].figures
    assert figures["latency_seconds.ttft.p50"] > 0 and "requests.failed_share" in figures


def test_alone_they_are_measured_in_the_order_of_the_design(bench: Bench) -> None:
    bench.command()
    found = [(one.block, one.cell) for one in observations(bench.home)]
    assert found == [
        (turn.block, cell)
        for turns in bench.checked.design.blocks()
        for turn in turns
        for cell in turn.cells
    ]


def test_each_run_has_a_seed_of_its_own_and_the_limits_of_the_slo(bench: Bench) -> None:
    bench.command()
    asked = bench.service.asked
    assert len({body["seed"] for body in asked}) == 12
    assert all(body["goodput"] == {"ttft": 0.5} for body in asked)
    assert {body["n_clients"] for body in asked} == {1, 2}


def test_a_second_command_has_nothing_to_do(bench: Bench) -> None:
    bench.command()
    begun = list(bench.begun)
    bench.command()
    assert (bench.begun, len(bench.service.asked)) == (begun, 12)


@pytest.mark.parametrize("outcome", ["failed", "invalid"])
def test_what_fails_is_kept_stops_nothing_and_is_tried_by_one_more_command(
    bench: Bench, outcome: str
) -> None:
    bench.service.answers["c003-b01"] = outcome
    bench.command()
    assert states(bench) == {"done": 11, outcome: 1}
    (bad,) = [one for one in observations(bench.home) if one.state == outcome]
    assert bad.problem and bad.block == 1
    for runs in (13, 13):
        bench.command()
        assert len(bench.service.asked) == runs
    assert states(bench) == {"done": 11, outcome: 1}


def test_what_failed_once_and_works_then_is_done(bench: Bench) -> None:
    bench.service.answers["c003-b01"] = "failed"
    bench.command()
    bench.service.answers.clear()
    bench.command()
    assert states(bench) == {"done": 12}


def test_a_deployment_that_does_not_come_up_is_tried_twice_and_the_others_are_measured(
    bench: Bench,
) -> None:
    group = bench.checked.groups[1]
    bench.fails = frozenset({group.id})
    bench.command()
    assert states(bench) == {"done": 8, "failed": 4}
    assert Counter(bench.begun)[group.id] == 2
    problems = [one.problem or "" for one in observations(bench.home) if one.state == "failed"]
    assert all("there is no such model" in problem for problem in problems)


def test_a_used_up_budget_of_jobs_ends_it_and_a_larger_one_goes_on(bench: Bench) -> None:
    bench.campaign["budget"] = {"jobs": 5}
    controller = bench.command()
    assert controller.spent == "4 of 5 jobs are used, and a deployment has 2"
    assert states(bench) == {"done": 4} and bench.live() == []
    bench.campaign["budget"] = {"jobs": 50}
    assert bench.command().spent is None
    assert states(bench) == {"done": 12}
    assert len(bench.service.asked) == 12


def test_a_model_that_has_changed_makes_its_cells_missing_again(bench: Bench) -> None:
    bench.campaign["budget"] = {"jobs": 4}
    bench.command()
    before = states(bench)["done"]
    bench.campaign["budget"], bench.digest = {}, "two"
    bench.command()
    assert states(bench) == {"done": 12}
    served = read(bench.home).serving.values()
    assert {one.conditions["model's digest"] for one in served} == {"two"}
    assert len(bench.service.asked) == 12 + before


def test_a_model_that_changes_with_each_deployment_is_no_success(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    deploy = StandInDeployer.deploy

    def changing(self: StandInDeployer, *given: Any) -> str:
        found: str = deploy(replace(self, digest=str(next(numbers))), *given)
        return found

    monkeypatch.setattr(StandInDeployer, "deploy", changing)
    controller = bench.command()
    progress = _progress(controller._work, controller._book)
    assert progress.missing > 0 and controller.spent is None
    with pytest.raises(ServiceError, match=r"of 12 runs are missing still: .* then: orch c\.json"):
        _judge(progress, controller.spent, "orch c.json")


def test_told_to_end_it_stops_its_deployments_and_goes_on_by_the_same_command(
    bench: Bench,
) -> None:
    bench.service.held.clear()
    worker = threading.Thread(target=bench.command)
    worker.start()
    until(lambda: bench.service.asked)
    bench.stop.set()
    worker.join()
    assert bench.live() == [] and states(bench) == {}
    bench.stop.clear()
    bench.service.held.set()
    for file in bench.service.benchmarks.glob("*/summary.json"):
        file.unlink()  # it was cut off
    bench.command()
    assert states(bench) == {"done": 12}


def test_a_run_whose_results_are_there_is_taken_up_and_not_done_again(bench: Bench) -> None:
    """The controller was killed between the run's end and its entry."""
    bench.command()
    lines = (bench.home / LEDGER).read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if b'"entry":"measured"' in line)
    (bench.home / LEDGER).write_bytes(b"".join(lines[:last]))
    bench.command()
    assert states(bench) == {"done": 12}
    assert len(bench.service.asked) == 12


@pytest.mark.parametrize("cut", [0.1, 0.35, 0.5, 0.75, 0.9])
def test_cut_off_anywhere_the_same_command_measures_what_is_missing(
    bench: Bench, cut: float
) -> None:
    """As after kill -9: the ledger ends somewhere, a deployment lives, and one was just begun."""
    bench.command()
    lines = (bench.home / LEDGER).read_bytes().splitlines(keepends=True)
    kept = lines[: int(len(lines) * cut)]
    (bench.home / LEDGER).write_bytes(b"".join(kept) + b'{"entry":"meas')
    found = read(bench.home)
    known = {one.run for tries in found.measured.values() for one in tries}
    known |= {tries[-1].run for tries in found.started.values()}  # their results are there
    record = create_record(
        bench.output.path,
        f"c-{bench.checked.groups[0].id}-left",
        {"state": "ready", "model": "m", "nodes": {},
         "recipe": bench.checked.groups[0].recipe.model_dump(mode="json", by_alias=True),
         "site": {"name": "local", "scheduler": "local", "runtime": "host"}},
    )  # fmt: skip
    bench.service.asked.clear()
    bench.command()
    assert states(bench) == {"done": 12}
    assert len(bench.service.asked) == 12 - len(known)
    assert record.id not in bench.live() and bench.live() == []
    assert read(bench.home).up == {}


def test_a_deployment_that_is_up_is_used_by_the_next_command(bench: Bench) -> None:
    bench.command()
    lines = (bench.home / LEDGER).read_bytes().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if b'"entry":"deployed"' in line)
    (bench.home / LEDGER).write_bytes(b"".join(lines[: first + 1]))
    (deployed,) = read(bench.home).deployed.values()
    path = bench.output.path / "deployments" / f"{deployed.id}.json"
    path.write_text(path.read_text().replace('"stopped"', '"ready"'))
    bench.begun.clear()
    bench.command()
    assert len(bench.begun) == bench.checked.design.deployments - 1
    assert states(bench) == {"done": 12}


@pytest.fixture
def searches(bench: Bench) -> Bench:
    bench.campaign["recipe"] = {"job": {"service": {"model": "mistral:7b", "n_requests": 500,
                                                    "rate": 1.0}}}  # fmt: skip
    bench.campaign |= {"vary": {"job.service.num_parallel": [1, 2]}, "search": {"rate": [1, 200]}}
    return bench


def test_a_search_finds_the_highest_rate_in_as_few_runs_as_it_may(searches: Bench) -> None:
    searches.command()
    assert states(searches) == {"done": 4}
    found = observations(searches.home)
    assert all(9.5 <= one.figures["search.rate"] <= 10.5 for one in found)
    assert all(one.figures["latency_seconds.ttft.p50"] > 0 for one in found)
    assert len(searches.service.asked) <= 40
    assert all(body["n_requests"] == 500 for body in searches.service.asked)
    assert len({body["seed"] for body in searches.service.asked}) == len(searches.service.asked)


def test_a_search_finds_the_most_clients(bench: Bench) -> None:
    """Of a load of clients; a rate of the recipe's is left out."""
    load = {"duration_seconds": 60, "rate": 1.0, "arrivals": "constant"}
    bench.campaign["recipe"] = {"job": {"service": {"model": "mistral:7b", **load}}}
    bench.campaign |= {"vary": {"job.service.num_parallel": [1, 2]},
                       "search": {"n_clients": [1, 64]}}  # fmt: skip
    bench.service.limit = 10.4
    bench.command()
    assert states(bench) == {"done": 4}
    found = observations(bench.home)
    assert {one.figures["search.n_clients"] for one in found} == {10}
    assert all(one.figures["search.low"] <= 10.4 <= one.figures["search.high"] for one in found)
    assert len(bench.service.asked) <= 40
    assert all("rate" not in body for body in bench.service.asked)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (0.2, "not even 1 requests/s keep the SLO: the limit is below what was searched"),
        (900.0, "even 200 requests/s keep the SLO: the limit is above what was searched"),
    ],
)
def test_a_limit_that_was_not_searched_is_no_figure_of_a_cell(
    searches: Bench, limit: float, said: str
) -> None:
    searches.service.limit = limit
    searches.command()
    assert states(searches) == {"invalid": 4}
    assert all((one.problem or "").startswith(said) for one in observations(searches.home))


def test_a_search_that_was_cut_off_goes_on_where_it_was(searches: Bench) -> None:
    searches.command()
    asked = len(searches.service.asked)
    found = {(one.cell, one.block): one.figures["search.rate"] for one in
             observations(searches.home)}  # fmt: skip
    lines = (searches.home / LEDGER).read_bytes().splitlines(keepends=True)
    probes = [n for n, line in enumerate(lines) if b'"entry":"probed"' in line]
    (searches.home / LEDGER).write_bytes(b"".join(lines[: probes[len(probes) // 2]]))
    searches.service.asked.clear()
    searches.command()
    again = {(one.cell, one.block): one.figures["search.rate"] for one in
             observations(searches.home)}  # fmt: skip
    assert again == found
    # The run that had come to its end without an entry is not among them.
    assert len(searches.service.asked) == asked - len(probes) // 2 - 1


def test_a_search_fails_with_the_run_that_says_nothing(searches: Bench) -> None:
    searches.service.answers["c002-b01-2"] = "failed"
    searches.command()
    (bad,) = [one for one in observations(searches.home) if one.state == "failed"]
    assert bad.problem and bad.problem.startswith("at ") and "the engine said no" in bad.problem


def test_a_full_disk_ends_it_with_its_sentence_and_leaves_no_deployment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, room = Journal.add, [7]

    def full(self: Journal, *added: JsonObject, on_disk: bool = False) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise FileError(f"cannot write {self.path}: No space left on device")
        return add(self, *added, on_disk=on_disk)

    monkeypatch.setattr(Journal, "add", full)
    with pytest.raises(FileError, match="No space left"):
        bench.command()
    assert bench.live() == []
    monkeypatch.undo()
    bench.stop.clear()
    bench.command()
    assert states(bench) == {"done": 12}


def test_the_state_of_all_campaigns_is_read_off_their_deployments_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.command()
    shutil.copytree(bench.home, bench.home.with_name("other"))
    record = load_records(bench.output.path)[-1]
    record.path.write_text(record.path.read_text().replace('"stopped"', '"ready"'))
    times: list[Path] = []

    def counted(path: Path) -> list[Record]:
        times.append(path)
        return load_records(path)

    monkeypatch.setattr(known, "load_records", counted)
    lines = campaign_lines(bench.output)
    assert [line.split()[0] for line in lines] == ["campaign", "c", "other"]
    assert record.id in lines[1] and record.id not in lines[2]
    assert len(times) == 1


def test_two_commands_at_once_are_one_too_many(bench: Bench) -> None:
    bench.command()
    with (
        closing(Journal(bench.home / LEDGER)),
        pytest.raises(JournalInUse, match="another process works"),
    ):
        Book(bench.home)


def test_entries_are_written_as_they_are_read(bench: Bench) -> None:
    bench.command()
    ledger = read(bench.home)
    found = [one for tries in ledger.measured.values() for one in tries]
    assert all(isinstance(one, Measured) and one.nodes == ["n1"] for one in found)
    assert all(isinstance(one, Started) for tries in ledger.started.values() for one in tries)
    begun = ledger.deploying[1]
    assert begun == Deploying(at=begun.at, group=begun.group, number=1, gpus=1, jobs=2,
                              process=NOBODY)  # fmt: skip
    assert as_json(begun)["entry"] == "deploying"
