"""The live state is what its recorded example says, and events make of it what they say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from client.handover.state import State as HandoverFile
from contracts.job_files import IdleState
from contracts.live.state import POINTS, STEP_S, Handover, Idle, Point, State

EXAMPLE = Path(__file__).with_name("live_state.json").read_text("utf-8")


def example() -> State:
    return State.model_validate_json(EXAMPLE)


def test_the_recorded_example_has_each_key_and_no_other() -> None:
    assert json.loads(example().model_dump_json(by_alias=True)) == json.loads(EXAMPLE)


def test_an_event_changes_the_part_that_it_names_alone() -> None:
    before = example()
    after = before.after("benchmark", None)
    assert after.benchmark is None
    assert after == before.model_copy(update={"benchmark": None})
    assert before.after("copy", [{"name": "curl", "line": "curl"}]).copy_lines[0].line == "curl"


def test_steps_that_have_changed_come_as_a_whole_series() -> None:
    before = example()
    assert before.series is not None
    told = before.series.model_copy(update={"tokens_per_s": (1.0, 2.0, 3.0)})
    after = before.after("series", told.model_dump())
    assert after == before.model_copy(update={"series": told})


def test_an_event_of_a_later_version_changes_nothing() -> None:
    assert example().after("weather", {"sun": True}) == example()


def test_a_point_is_added_and_the_oldest_goes() -> None:
    state, point = example(), dict.fromkeys(Point.model_fields, 1)
    for step in range(POINTS):
        state = state.after("point", {**point, "time": 100 + STEP_S * step})
    assert state.series is not None
    assert state.series.start == 100
    assert state.series.queued == (1,) * POINTS


def test_files_of_the_jobs_have_the_keys_by_which_the_state_tells_of_them() -> None:
    """A part that lacks a key of its file, or has another, would be told as null for good."""
    handover = asdict(
        HandoverFile(
            2, 5, 900, "waiting", 47, {"ready": 2}, 800, {"client": "4", "engine": "3"},
            950, 50, "http://a:1", "QOS.",
        )
    )  # fmt: skip
    told = Handover.model_validate(handover).model_dump()
    assert told == {key: value for key, value in handover.items() if key != "lead"}
    idle = IdleState(30.0, 100.0, 130.0).as_facts()
    assert Idle.model_validate(idle).model_dump().items() <= idle.items()
