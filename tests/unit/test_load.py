"""A load is defined once: each knob comes from a recipe to what the load generator does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import UsageError
from contracts.knobs import SLO_NAMES, Load
from contracts.load import LoadPerClient, LoadSpec
from hpc.recipe.reading import parse_recipe
from hpc.recipe.schema import Service
from loadgen.arguments import parse, points
from loadgen.flags import flag
from loadgen.load import child_process
from loadgen.options import Options

ROOT = Path(__file__).resolve().parents[2]

LOADS: dict[str, dict[str, Any]] = {
    "clients": {"n_clients": 4, "n_requests_per_client": 5},
    "clients for a time": {"n_clients": 4, "duration_seconds": 1.5},
    "a rate": {"rate": 0.1, "arrivals": "constant", "max_concurrency": 9, "n_requests": 100},
    "a rate for a time": {"rate": 50, "duration_seconds": 60},
    "what is asked": {"num_predict": 7, "think": "low", "format": {"type": "object"}, "seed": 3},
    "sampling": {"temperature": 0.5},
    "prompts": {"input_tokens": 300, "think": False, "format": "json"},
    "limits": {"timeout_seconds": 9.5, "goodput": {"ttft": 0.5, "itl": 0.05}, "processes": 2},
    "warm-up": {"warmup": 0},
    "questions": {"prompts": ["a", {"messages": [{"role": "user", "content": "b"}]}]},
    "the way": {"through": "door", "api": "openai"},
}


def measured(knobs: dict[str, Any]) -> Service:
    service = {"model": "known", **knobs}
    if not knobs.keys() & {"rate", "duration_seconds"}:
        service.setdefault("n_requests_per_client", 1)
    return parse_recipe({"job": {"service": service}}).job.service


def as_run(service: Service) -> Options:
    """What the load generator does when /benchmark is asked for a recipe's load."""
    run = LoadPerClient.model_validate(service.load).run("known")
    words = child_process.arguments(run, ["http://a:1"])
    (options,) = points(parse([*words, "--out=unused"]))
    assert {name: getattr(options, name) for name in LoadSpec.model_fields if name in COMPARED} == {
        name: getattr(run, name) for name in COMPARED
    }
    return options


#: A prompt goes by a file of its own.
COMPARED = LoadSpec.model_fields.keys() - {"prompt", "input_tokens"}


@pytest.mark.parametrize("knobs", LOADS.values(), ids=LOADS)
def test_what_a_recipe_asks_for_is_what_the_load_generator_does(knobs: dict[str, Any]) -> None:
    options = as_run(measured(knobs))
    for name, value in knobs.items():
        if name in COMPARED:
            assert getattr(options, name) == value
    clients = None if "rate" in knobs else knobs.get("n_clients", 1)
    assert (options.clients, options.open_loop) == (clients, "rate" in knobs)


def test_the_loads_above_have_every_knob() -> None:
    assert {name for knobs in LOADS.values() for name in knobs} == (
        LoadPerClient.model_fields.keys() - {"prompt"}
    )


def test_the_schema_knows_the_names_of_the_limits() -> None:
    schema = LoadPerClient.model_json_schema()["properties"]["goodput"]["anyOf"][0]
    assert (tuple(schema["properties"]), schema["additionalProperties"]) == (SLO_NAMES, False)


def test_a_recipe_that_was_recorded_is_read_again_as_it_was() -> None:
    for knobs in LOADS.values():
        service = measured(knobs)
        again = parse_recipe({"job": {"service": service.model_dump(mode="json")}}).job.service
        assert again == service


def test_recipes_without_requests_have_no_load() -> None:
    assert parse_recipe({"job": {"service": {"model": "known"}}}).job.service.load == {}


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"rate": 5, "n_clients": 2, "n_requests": 9}, "rate does not go with n_clients"),
        ({"rate": 5}, "rate goes only with n_requests or duration_seconds"),
        ({"warmup": 5000}, "must be at most 1000"),
        ({"goodput": {"ttft": 0}}, "must be more than 0"),
        ({"through": "window"}, "through = 'window': must be 'engines' or 'door'"),
        ({"think": True, "api": "openai"}, "think true or false does not go with api openai"),
        ({"rate": 2000, "duration_seconds": 501}, "must be at most 1000000"),
    ],
)
def test_a_recipe_is_told_what_does_not_go_together(knobs: dict[str, Any], words: str) -> None:
    knobs = {**knobs, "seed": -1}
    with pytest.raises(UsageError) as raised:
        parse_recipe({"job": {"service": {"model": "known", **knobs}}})
    told = "\n".join(raised.value.details)
    assert "job.service.seed = -1: must be at least 0" in told
    if "at most 1000000" not in words:  # that is judged once all else is right
        assert words in told


def test_each_knob_is_an_option_of_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadgen", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    for name in {*Load.model_fields, *LoadSpec.model_fields}:
        assert f"{flag(name)} " in done.stdout


TARGET = ["--url=http://h:1", "--model=m", "--out=unused"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--clients=0"], "--clients is 0, but must be a whole number from 1 to 10000."),
        (["--clients=x"], '--clients is "x", but must be a whole number from 1 to 10000.'),
        (["--rate=nan", "--duration=1"], '--rate is "nan", but must be a number of more than 0'),
        (["--rate=NaN", "--duration=1"], "--rate is NaN, but must be a number of more than 0"),
        (["--rate=5"], "--rate goes only with --requests or --duration."),
        (["--rate=5", "--clients=2", "--requests=1"], "--rate does not go with --clients."),
        (["--sweep=1,2", "--rate=2"], "--sweep does not go with --rate."),
        (["--sweep=1,2", "--sweep-rate=2"], "--sweep does not go with --sweep-rate."),
        (["--prompts=f", "--prompt=x"], "--prompts does not go with --prompt."),
        (["--requests=9", "--duration=2"], "--duration does not go with --requests."),
        (["--seed=-1", "--warmup=-1"], "--warmup is -1"),
        (["--retrieval", "--through=door"], "--through does not go with --retrieval"),
        (["--rate=2000", "--duration=501"], "--rate x --duration is 1.002e+06"),
    ],
)
def test_a_command_line_is_told_what_is_wrong(words: list[str], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        points(parse([*TARGET, *words]))
    assert told in str(raised.value)
