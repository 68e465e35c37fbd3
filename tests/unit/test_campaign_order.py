"""A campaign's order: every block whole, drawn by the seed, with the fewest deployments; and what
of it is missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from campaign.cells import Cell, State
from campaign.design import Design, Turn, matches, product
from campaign.missing import Missing, kept, suspect_nodes
from campaign.units import (
    LEDGER,
    Deployed,
    Deploying,
    Entry,
    Ledger,
    Measured,
    Planned,
    PlannedCell,
    Process,
    Started,
    Stopped,
    as_json,
    observations,
    read,
)
from ledger.journal import Journal

GROUPS = {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2"], "d": ["d1"]}
US = Process(host="h", pid=1, started="1")


def blocks(design: Design) -> list[list[Turn]]:
    return list(design.blocks())


def order(turns: Sequence[Turn]) -> list[str]:
    return [turn.group for turn in turns]


def begun(design: Design) -> int:
    """How many deployments are begun by who keeps `parallel` of them up."""
    up: set[str] = set()
    count = 0
    found = blocks(design)
    for turns, after in zip(found, [*found[1:], []], strict=True):
        count += len(set(order(turns)) - up)
        up = kept(turns, after, design.parallel)
    return count


@pytest.mark.parametrize("parallel", [1, 2, 3, 4, 9])
def test_each_block_has_each_cell_once_and_a_groups_cells_together(parallel: int) -> None:
    for number, turns in enumerate(blocks(Design(GROUPS, 6, parallel, 1)), 1):
        assert sorted(order(turns)) == sorted(GROUPS)
        assert all(turn.block == number for turn in turns)
        assert all(sorted(turn.cells) == GROUPS[turn.group] for turn in turns)


@pytest.mark.parametrize("parallel", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("repetitions", [1, 2, 6])
def test_the_number_of_deployments_is_the_one_that_is_told(parallel: int, repetitions: int) -> None:
    design = Design(GROUPS, repetitions, parallel, 3)
    assert begun(design) == design.deployments
    assert design.deployments == 4 + (repetitions - 1) * max(0, 4 - parallel)


def test_no_more_than_parallel_of_them_are_up_from_one_block_to_the_next() -> None:
    found = blocks(Design(GROUPS, 50, 2, 5))
    for turns, after in itertools.pairwise(found):
        assert kept(turns, after, 2) == set(order(turns)[-2:]) == set(order(after)[:2])


def test_the_order_is_the_seeds() -> None:
    first, again, other = (blocks(Design(GROUPS, 5, 2, seed)) for seed in (1, 1, 2))
    assert first == again != other
    longer = blocks(Design(GROUPS, 9, 2, 1))
    assert longer[:5] == first  # what is done stays done if repetitions are added


def test_each_group_and_cell_comes_at_each_place() -> None:
    """Over many blocks all places are as frequent, within what chance does: 4 sigma."""
    found = blocks(Design(GROUPS, 2000, 1, 7))
    for place in range(4):
        count = sum(order(turns)[place] == "a" for turns in found)
        assert abs(count - 500) < 4 * 20
    first = sum(turn.cells[0] == "a2" for turns in found for turn in turns if turn.group == "a")
    assert abs(first - 2000 / 3) < 4 * 22


def test_two_groups_are_measured_in_turn_so_that_a_linear_drift_cancels_out() -> None:
    found = [order(turns) for turns in blocks(Design({"a": ["1"], "b": ["2"]}, 4, 1, 1))]
    first, second = found[0]
    assert found == [[first, second], [second, first], [first, second], [second, first]]


def test_cells_are_all_combinations_and_a_part_matches_those_that_have_it() -> None:
    cells = product({"x.y": [1, 2], "load.rate": [0.5, True]})
    assert [cell.key for cell in cells] == ["y=1 rate=0.5", "y=1 rate=True", "y=2 rate=0.5",
                                            "y=2 rate=True"]  # fmt: skip
    assert matches(cells[0], {"x.y": 1.0}) and not matches(cells[1], {"load.rate": 1})
    assert not matches(cells[0], {"z": None})


# --- the ledger ----------------------------------------------------------------------------------


def planned(fingerprint: str = "f", cells: Sequence[str] = ("a", "b")) -> Planned:
    return Planned(
        at=0,
        campaign={},
        repetitions=2,
        cells=[PlannedCell(key=key, settings={"x.k": key}, group="g", fingerprint=fingerprint)
               for key in cells],
        conditions={},
        process=US,
    )  # fmt: skip


def deployed(fingerprint: str = "d", number: int = 1, at: float = 1) -> Deployed:
    return Deployed(at=at, group="g", number=number, id=f"id{number}", began=3, nodes=["n1"],
                    conditions={}, fingerprint=fingerprint)  # fmt: skip


def measured(
    cell: str = "a", block: int = 1, state: State = "done", *, at: float = 2, deployed: str = "d",
    planned: str = "f", nodes: Sequence[str] = ("n1",), run: str | None = "r",
) -> Measured:  # fmt: skip
    return Measured(at=at, cell=cell, block=block, attempt=1, state=state, planned=planned,
                    deployed=deployed, run=run, figures={"x": at}, nodes=list(nodes),
                    problem=None if state == "done" else "it broke.")  # fmt: skip


def of(*entries: Entry) -> Ledger:
    ledger = Ledger()
    for entry in entries:
        ledger.take(entry)
    return ledger


def test_what_is_written_is_read_and_observed_in_the_order_of_time(tmp_path: Path) -> None:
    found = [planned(), Deploying(at=0, group="g", number=1, gpus=2, jobs=2, process=US),
             deployed(), measured("b", 1, at=3), measured("a", 1, "failed", at=2),
             Stopped(at=9, group="g", number=1)]  # fmt: skip
    with closing(Journal(tmp_path / LEDGER)) as journal:
        journal.add(*map(as_json, found))
    seen = observations(tmp_path)
    assert [(one.cell, one.state, one.order) for one in seen] == [
        ("a", "failed", 1),
        ("b", "done", 2),
    ]
    assert seen[1].figures == {"x": 3} and seen[0].problem == "it broke."
    ledger = read(tmp_path)
    assert ledger == of(*found)
    assert (ledger.gpu_seconds(100), ledger.jobs, ledger.up) == (12, 2, {})


def test_a_deployment_has_no_gpus_after_its_time_limit() -> None:
    """Who was killed in the evening sees its end in the morning."""
    begun = Deploying(at=0, group="g", number=1, gpus=2, jobs=2, process=US)
    limited = deployed().model_copy(update={"limit_s": 50.0})
    left = of(planned(), begun, limited)
    assert (left.gpu_seconds(13), left.gpu_seconds(40_000)) == (20, 100)
    left.take(Stopped(at=40_000, group="g", number=1))
    assert left.gpu_seconds(80_000) == 100


def missing(ledger: Ledger) -> list[tuple[str, int]]:
    found = Missing(ledger)
    return [unit for unit in ledger.wanted if found.is_missing(unit)]


def test_what_is_done_is_not_missing_and_what_failed_is_tried_twice_in_all() -> None:
    once = [planned(), deployed(), measured("a", 1), measured("b", 1, "failed")]
    assert missing(of(*once)) == [("b", 1), ("a", 2), ("b", 2)]
    assert missing(of(*once, measured("b", 1, "invalid"))) == [("a", 2), ("b", 2)]
    assert missing(of(*once, measured("b", 1))) == [("a", 2), ("b", 2)]


def test_what_failed_is_not_tried_again_by_the_same_command() -> None:
    ledger = of(planned(), deployed())
    found = Missing(ledger)
    ledger.take(measured("b", 1, "failed"))
    assert not found.is_missing(("b", 1))
    assert Missing(ledger).is_missing(("b", 1))


@pytest.mark.parametrize(
    "changed", [planned("other"), deployed("other", number=2)], ids=["recipe", "model's digest"]
)
def test_what_was_found_under_other_conditions_does_not_count(changed: Entry) -> None:
    ledger = of(planned(), deployed(), measured("a", 1), measured("b", 1, "failed"), changed)
    assert missing(ledger) == ledger.wanted
    assert ledger.last() == {}


def test_results_count_again_when_their_conditions_are_back() -> None:
    ledger = of(planned(), deployed(), measured("a", 1), deployed("other", 2), deployed("d", 3))
    assert ("a", 1) not in missing(ledger)


def test_a_run_without_an_end_in_the_ledger_is_known() -> None:
    start = Started(at=2, cell="a", block=1, run="r7", attempt=1, number=1, planned="f",
                    deployed="d")  # fmt: skip
    ledger = of(planned(), deployed(), start)
    assert ledger.open_run(("a", 1)) == start
    ledger.take(measured("a", 1, run="r7"))
    assert ledger.open_run(("a", 1)) is None


def test_what_is_left_is_deployed_as_often_as_it_takes() -> None:
    design = Design({"g": ["a", "b"], "h": ["c"]}, 2, 1, 1)
    cells = [("a", "g"), ("b", "g"), ("c", "h")]
    plan = planned(cells=[cell for cell, _ in cells])
    ledger = of(plan, deployed(), measured("a", 1), measured("b", 1))
    assert sum(Missing(of(plan)).deployments(design).values()) == design.deployments == 3
    assert Missing(ledger).deployments(design) == {"g": 1, "h": 1 + _apart(design)}


def _apart(design: Design) -> int:
    """Whether `h` is no longer up when it comes again."""
    return int(order(blocks(design)[1])[0] != "h" and len(blocks(design)[1]) > 1)


def _failures(*places: str) -> Iterator[Measured]:
    for block, node in enumerate(places, 1):
        yield measured("a", block, "failed", nodes=[node])


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ([*_failures("bad", "bad"), measured("a", 3, nodes=["good"])], True),
        ([*_failures("bad"), measured("a", 3, nodes=["good"])], False),
        ([*_failures("bad", "bad")], False),
        ([*_failures("bad", "bad"), measured("a", 3, nodes=["bad"])], False),
        ([*_failures("bad", "bad"), measured("b", 3, nodes=["good"])], False),
    ],
)
def test_a_node_is_named_on_which_a_cell_fails_twice_while_it_works_elsewhere(
    found: list[Measured], named: bool
) -> None:
    said = suspect_nodes(of(planned(), *found))
    assert [line.startswith("node bad: 'a' has failed there 2 times") for line in said] == (
        [True] * named
    )


def test_a_cells_key_is_its_settings() -> None:
    assert Cell({"job.service.model": "m", "load.rate": 2.5}).key == "model=m rate=2.5"
