"""A benchmark that goes the way of the users: through the door, by both APIs, to real engines."""

import json
import subprocess
import sys

import pytest
from events import assert_measured
from place import PROJECT, http
from test_seal import content

LOAD = {"n_clients": 4, "n_requests_per_client": 3, "num_predict": 8}

#: Reasons against a run that do not depend on how busy this machine is.
ABOUT_THE_SERVER = {
    *("error_rate", "no_tokens", "no_text", "output_length", "prompt_cut"),
    *("server_changed", "model_place", "model_not_loaded", "stale_endpoint"),
}


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
    assert not ABOUT_THE_SERVER & set(found["validity"]["codes"])
    report = place.output / "benchmarks" / body["id"] / "summary.json"
    assert json.loads(report.read_text())["load"]["through"] == way


TURNS = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "And another one?"},
]


@pytest.mark.parametrize("api", ["ollama", "openai"])
def test_conversations_are_measured_through_the_door_by_a_users_token(deployed, api):
    """One is longer than the context: that is refused, and neither cut nor counted."""
    place, record, _ = deployed
    file, out = place.folder / f"{api}.jsonl", place.output / "benchmarks" / f"turns-{api}"
    long = [TURNS[0], {"role": "user", "content": "word " * 6000}]
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in (TURNS, long)))
    command = [sys.executable, "-m", "loadgen", f"--url={record['endpoints']['client']}",
               f"--token-file={place.token_file(record).with_name('user.token')}",
               f"--model={record['model']}", f"--api={api}", "--through=door", "--warmup=0",
               f"--prompts={file}", "--clients=2", "--requests=4", "--processes=2",
               "--num-predict=6", f"--out={out}", "--no-report"]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 6, done.stderr
    assert "Measured through the deployment's door" in done.stdout
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["prompts"]["source"], summary["prompts"]["distinct"]) == ("messages", 2)
    assert (summary["requests"]["succeeded"], summary["requests"]["errors"]) == (2, {"http_400": 2})
    assert {"error_rate", "prompt_cut"} <= set(summary["validity"]["codes"])
    lines = map(json.loads, (out / "requests.jsonl").read_text().splitlines())
    whole = [one for one in lines if one["error"] is None]
    assert [one["output_tokens"] for one in whole] == [6, 6]
    times = [(one["input_tokens"], one["ttft"], one["e2e"]) for one in whole]
    assert all(20 < tokens < 200 and 0 < ttft <= e2e for tokens, ttft, e2e in times), times


def test_no_token_is_in_what_a_run_leaves(deployed):
    """After the runs above."""
    place, record, _ = deployed
    names = ("internal.token", "user.token")
    tokens = [place.token_file(record).with_name(name).read_bytes().strip() for name in names]
    left = [path for path in place.output.glob("benchmarks/**/*") if path.is_file()]
    left += [path for path in place.output.glob("logs/*") if path.is_file()]
    left.append(place.output / "deployments" / f"{record['id']}.json")
    assert {"request.json", "summary.json", "requests.jsonl"} <= {path.name for path in left}
    assert [path for path in left if any(token in content(path) for token in tokens)] == []


def test_without_security_there_is_a_door_too(place):
    result = place.orch(
        place.recipe(**LOAD, through="door", security="none"), "--site", "local", "--json"
    )
    assert_measured(result, place.output)
    record = json.loads(result.stdout)
    url = record["endpoints"]["client"]
    assert record["benchmark"]["successful"] == record["benchmark"]["total_queries"]
    assert http("GET", url + "/api/tags", token="")[1]["models"]
    assert http("GET", url + "/v1/models", token="")[1]["data"]
    assert http("POST", url + "/query", {"prompt": "Hi"}, token="")[1]["done"]
    place.stop_all()
    place.assert_nothing_left()
