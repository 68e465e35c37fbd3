"""The live state is what its recorded example says, and events make of it what they say."""

from __future__ import annotations

import json
from pathlib import Path

from contracts.live.state import POINTS, STEP_S, Point, State

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
