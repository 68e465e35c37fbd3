"""A benchmark that goes the way of the users: through the door, by both APIs, to real engines."""

import json

import pytest
from place import http

LOAD = {"n_clients": 4, "n_requests_per_client": 3, "num_predict": 8}


@pytest.fixture(scope="module")
def deployed(shared_place):
    """Two engines behind one door; the recipe has it measured through that."""
    recipe = shared_place.recipe(nodes=2, **LOAD, through="door", api="openai")
    result = shared_place.orch(recipe, "--site", "local")
    (record,) = shared_place.records()
    return shared_place, record, result


def test_the_recipe_says_which_way_and_the_terminal_tells_it(deployed):
    _, record, result = deployed
    assert record["benchmark"]["load"]["through"] == "door", result.stderr
    assert "Measured through the deployment's door" in result.stdout


@pytest.mark.parametrize("api", ["ollama", "openai"])
@pytest.mark.parametrize("way", ["door", "engines"])
def test_both_apis_are_measured_by_both_ways(deployed, api, way):
    place, record, _ = deployed
    client, engines = record["endpoints"]["client"], record["endpoints"]["ollama"]
    body = {**LOAD, "id": f"{api}-{way}", "through": way, "api": api, "temperature": 0}
    status, found = http("POST", f"{client}/benchmark", body)
    assert status == 200, found
    assert (found["total_queries"], found["successful"], found["failed"]) == (12, 12, 0)
    asked = [client] if way == "door" else engines
    assert {one["url"] for one in found["replicas"]} == set(asked)
    assert found["load"]["through"] == way
    assert all(found["latency_seconds"][key]["n"] for key in ("ttft", "itl", "tpot", "e2e"))
    assert {one["tokens"] for one in found["results"]} == {8}
    for facts in found["provenance"]["server"]["before"]:
        assert facts["version"] and facts["digest"] and facts["quantization"]
        assert facts["context_length"] == 4096 and facts["size_vram"] == 0
    codes = set(found["validity"]["codes"])
    assert not codes & {"server_changed", "not_loaded", "stale_replica", "placement", "errors"}
    report = place.output / "benchmarks" / body["id"] / "summary.json"
    assert json.loads(report.read_text())["load"]["through"] == way


def test_no_token_is_in_what_a_run_leaves(deployed):
    """After the runs above."""
    place, record, _ = deployed
    names = ("internal.token", "user.token")
    tokens = [place.token_file(record).with_name(name).read_bytes().strip() for name in names]
    left = [path for path in place.output.glob("benchmarks/**/*") if path.is_file()]
    left += [path for path in place.output.glob("logs/*") if path.is_file()]
    left.append(place.output / "deployments" / f"{record['id']}.json")
    assert {"request.json", "summary.json", "requests.jsonl"} <= {path.name for path in left}
    assert [path for path in left if any(token in path.read_bytes() for token in tokens)] == []


def test_without_a_door_the_recipe_is_refused_before_anything_begins(place):
    recipe = place.recipe(**LOAD, through="door", security="none")
    result = place.orch(recipe, "--site", "local")
    assert result.returncode == 2
    assert 'job.service.through is "door", but with security "none" there is no door' in (
        result.stderr
    )
    assert not list(place.output.glob("deployments/*"))
