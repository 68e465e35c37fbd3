"""Facts that several parts of the project tell are one: bounds, addresses, where a model sits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.api.bodies import BenchmarkRequest
from client.api.json_body import validate
from client.errors import BadInput, NotReady
from client.monitoring_urls import monitoring_of
from client.ollama.addresses import AddressFile
from contracts.errors import OrchError, UsageError
from contracts.knobs import DEFAULT_PROMPT, MAX_PROMPT_BYTES
from contracts.load import RESERVED_THREADS, SERVING_THREADS, LoadPerClient
from hpc.endpoints import OutputDir
from hpc.recipe.reading import parse_recipe
from hpc.recipe.sections import MAX_CLIENTS_WITH_RETRIEVAL
from loadgen.load.prompts import Texts

#: What each knob that has bounds may be at least, and at most, by the schema of its definition.
BOUNDS = {
    name: (alternative["minimum"], alternative["maximum"])
    for name, schema in LoadPerClient.model_json_schema()["properties"].items()
    for alternative in schema.get("anyOf", [schema])
    if alternative.get("type") == "integer"
}
#: What a knob needs beside it, to be right.
WITH: Mapping[str, dict[str, Any]] = {
    "max_concurrency": {"rate": 20_000, "duration_seconds": 1},
    "n_requests": {"rate": 20_000},
}


#: In a recipe alone.
NO_BENCHMARK = ("n_requests_per_client", 0)


def recipe_takes(recipe_data: dict[str, Any], **knobs: Any) -> bool:
    recipe_data["job"]["service"] = {"model": "known", **knobs}
    try:
        parse_recipe(recipe_data)
    except UsageError:
        return False
    return True


def service_takes(**knobs: Any) -> bool:
    try:
        validate(knobs, BenchmarkRequest)
    except BadInput:
        return False
    return True


@pytest.mark.parametrize("knob", BOUNDS)
def test_a_knob_has_the_same_bounds_everywhere(recipe_data: dict[str, Any], knob: str) -> None:
    low, high = BOUNDS[knob]
    for value, right in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        asked = {knob: value, **WITH.get(knob, {})}
        assert service_takes(**asked) is right
        assert recipe_takes(recipe_data, **asked) is (right or (knob, value) == NO_BENCHMARK)


@pytest.mark.parametrize(("count", "right"), [(MAX_PROMPT_BYTES // 2, True), (900_000, False)])
def test_a_prompt_is_measured_in_bytes_everywhere(
    recipe_data: dict[str, Any], count: int, right: bool
) -> None:
    assert recipe_takes(recipe_data, prompt="ä" * count) is right
    assert service_takes(prompt="ä" * count) is right


def test_there_is_one_default_prompt(recipe_data: dict[str, Any]) -> None:
    assert parse_recipe(recipe_data).job.service.prompt == DEFAULT_PROMPT
    assert Texts().texts == (DEFAULT_PROMPT,)


def test_a_benchmark_with_retrieval_leaves_the_service_room() -> None:
    assert MAX_CLIENTS_WITH_RETRIEVAL == SERVING_THREADS - RESERVED_THREADS


ADDRESSES = ["node_01:5000", "a-1.cluster:80", "10.0.0.7:8"]
NO_ADDRESSES = ["<html>:80", "host:0", "host:65536", "host:8x", "-host:80", "a b:80", "host:٣"]


def readers(output: Path) -> list[list[str]]:
    """What each reader of an address file makes of the files of job 7."""
    watched = monitoring_of(output, "7", "7").prometheus
    return [
        OutputDir(output).addresses("ollama", "7"),
        AddressFile(output, "7").read(),
        [] if watched is None else [watched.removeprefix("http://")],
    ]


def write(output: Path, line: str) -> None:
    for service in ("ollama", "prometheus"):
        (output / f"{service}_ip_7.txt").write_text(f"{line}\n")


@pytest.mark.parametrize("line", ADDRESSES)
def test_an_address_is_one_for_every_reader(tmp_path: Path, line: str) -> None:
    write(tmp_path, line)
    assert readers(tmp_path) == [[line]] * 3


@pytest.mark.parametrize("line", NO_ADDRESSES)
def test_what_is_no_address_is_none_for_any_reader(tmp_path: Path, line: str) -> None:
    write(tmp_path, line)
    with pytest.raises(OrchError, match="holds"):
        OutputDir(tmp_path).addresses("ollama", "7")
    with pytest.raises(NotReady, match="holds"):
        AddressFile(tmp_path, "7").read()
    assert monitoring_of(tmp_path, "7", "7").prometheus is None
