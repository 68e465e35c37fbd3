"""The whole way on this machine, with a tiny model: deploy, ask, measure, stop."""

import json
import os
import re
import socket
import subprocess

import contract_keys
import pytest
from events import PATIENCE_S, assert_measured
from place import SMALL, http, wait_for

#: The tiny model does not end an answer by itself.
QUERY = {"prompt": "Hi", "options": {"num_predict": 4}}


@pytest.fixture(scope="module")
def deployed(shared_place):
    """One deployment of a real small model that has been asked and measured."""
    question = "What is the capital of France?"
    recipe = shared_place.recipe(
        model=str(SMALL), n_clients=4, n_requests_per_client=2, question=question
    )
    result = shared_place.orch(recipe, "--site", "local")
    assert_measured(result, shared_place.output)
    (record,) = shared_place.records()
    return shared_place, record, result.stdout


def test_record_says_what_was_deployed(deployed):
    place, record, _ = deployed
    assert record["state"] == "ready"
    assert record["endpoints"]["client"].startswith("http://127.0.0.1:")
    assert record["loaded_model"]["where"] == "cpu"
    assert record["benchmark"]["successful"] == 8
    ollama = record["jobs"]["ollama"]["id"]
    address = (place.output / f"ollama_ip_{ollama}.txt").read_text().strip()
    assert [f"http://{address}"] == record["endpoints"]["ollama"]


def test_output_tells_all_that_one_needs(deployed):
    _, record, out = deployed
    assert "answer:   The capital of France is Paris" in out
    assert "8 of 8 requests succeeded" in out
    assert "TTFT" in out
    assert f"--stop {record['id']}" in out
    assert "Traceback" not in out


def test_printed_curl_line_works_when_pasted(deployed):
    _, _, out = deployed
    (line,) = [line.strip() for line in out.splitlines() if line.strip().startswith("ask ")]
    curl = line.removeprefix("ask").strip()
    environment = {"PATH": "/usr/bin:/bin", "http_proxy": "http://127.0.0.1:1"}
    result = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, env=environment)
    assert json.loads(result.stdout)["done"] is True


def test_health_names_what_it_reaches(deployed):
    _, record, _ = deployed
    status, health = http("GET", record["endpoints"]["client"] + "/health")
    assert (status, health["status"]) == (200, "healthy")
    assert health["ollama"][0]["model"] == record["model"]


def test_benchmark_through_the_client(deployed):
    _, record, _ = deployed
    body = {"n_clients": 3, "n_requests_per_client": 2, "prompt": "Hi", "num_predict": 4}
    status, result = http("POST", record["endpoints"]["client"] + "/benchmark", body)
    assert status == 200
    assert (result["successful"], result["failed"]) == (6, 0)
    assert result["concurrency"]["max"] == 3
    assert result["latency_seconds"]["ttft"]["p50"] > 0


def rerun(place, record, *on):
    """Repeat the recipe's run; the new run's request, and what was said."""
    run = f"{record['id']}-1"
    result = place.orch("--rerun", run, *on, "--json", "--site", "local")
    assert_measured(result, place.output)
    again = json.loads(result.stdout)
    assert again["run"] == str(place.output / "benchmarks" / run)
    asked = [json.loads((place.output / "benchmarks" / name / "request.json").read_text())
             for name in (run, again["again"])]  # fmt: skip
    assert asked[0] == asked[1]
    assert "B - A [95 %]" in result.stderr
    return again


def test_a_run_is_repeated_on_a_deployment_that_is_there(deployed):
    place, record, _ = deployed
    assert rerun(place, record, record["id"])["deployment"] == record["id"]


@pytest.mark.long
def test_a_run_is_repeated_on_a_deployment_like_its_own_that_ends(deployed):
    place, record, _ = deployed
    again = rerun(place, record)
    (own,) = [one for one in place.records() if one["id"] == again["deployment"]]
    assert own["state"] == "stopped"
    assert own["recipe"] == record["recipe"]


def test_a_server_that_somebody_else_started_is_measured_and_left_alone(deployed, place):
    """Here it is the Ollama of another deployment, by OpenAI's API."""
    shared_place, record, _ = deployed
    (url,) = record["endpoints"]["ollama"]
    server = {"url": f"{url}/v1", "token_file": str(shared_place.token_file(record))}
    recipe = place.recipe(model=record["model"], num_thread=None, n_clients=2,
                          n_requests_per_client=2, server=server)  # fmt: skip
    result = place.orch(recipe, "--site", "local")
    assert_measured(result, place.output)
    (found,) = place.records()
    assert list(found["jobs"]) == ["client"]
    assert found["benchmark"]["successful"] == 4
    assert place.orch("--stop", "all").returncode == 0
    assert http("GET", f"{url}/api/version")[0] == 200


def test_users_scripts_find_the_keys_that_they_know(deployed):
    place, _, _ = deployed
    now = contract_keys.found(place)
    for name, keys in json.loads(contract_keys.RECORDED.read_text()).items():
        assert set(keys) <= set(now[name]), name


def test_logs_are_printed(deployed):
    place, record, _ = deployed
    result = place.orch("--logs", record["id"], "client")
    assert "client: published" in result.stdout
    assert "ollama:" not in result.stdout


def test_stop_leaves_nothing_but_logs_models_and_results(deployed):
    """The last test on this deployment."""
    place, record, _ = deployed
    place.stop_all()
    place.assert_nothing_left()
    for url in (record["endpoints"]["client"], *record["endpoints"]["ollama"]):
        host, port = url.removeprefix("http://").split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))
    assert list(place.output.glob("logs/*.err"))
    assert list(place.output.glob("ollama_models/blobs/*"))
    assert list(place.output.glob("benchmarks/*/summary.json"))
    assert place.records()[0]["state"] == "stopped"
    assert not list(place.folder.parent.rglob("pwned"))


def test_two_deployments_in_one_place_do_not_disturb_each_other(place):
    first, second = place.deploy(place.recipe()), place.deploy(place.recipe("second.json"))
    assert first["endpoints"]["client"] != second["endpoints"]["client"]
    result = place.orch("--stop", first["id"])
    assert result.returncode == 0
    status, answer = http("POST", second["endpoints"]["client"] + "/query", QUERY)
    assert (status, answer["done"]) == (200, True)
    assert [record["state"] for record in place.records()] == ["stopped", "ready"]


def test_stale_address_file_is_ignored_and_removed(place):
    place.output.mkdir()
    stale = place.output / "ollama_ip_local999.txt"
    stale.write_text("127.0.0.1:1\n")
    record = place.deploy(place.recipe())
    assert record["endpoints"]["ollama"] != ["http://127.0.0.1:1"]
    assert not stale.exists()


def test_detached_deployment_is_attached_from_another_shell(place):
    record = place.deploy(place.recipe(n_clients=2, n_requests_per_client=2), "--detach")
    assert record["state"] == "starting"
    result = place.orch("--attach", "--json")
    assert_measured(result, place.output)
    assert json.loads(result.stdout)["benchmark"]["successful"] == 4


def test_prepared_deployment_fetches_nothing(place):
    """--prepare submits nothing and leaves nothing but what was fetched."""
    prepared = place.orch(place.recipe(), "--site", "local", "--prepare")
    assert prepared.returncode == 0, prepared.stderr
    assert "importing" in prepared.stdout
    assert list(place.output.glob("ollama_models/blobs/*"))
    assert place.records() == []
    assert list(place.output.glob("logs/*")) == []
    place.assert_nothing_left()
    record = place.deploy(place.recipe())
    assert "importing" not in place.orch("--logs", record["id"], "ollama").stdout


def _shared_manifests(place):
    paths = place.output.glob("ollama_models/manifests/**/*")
    return {path: path.read_bytes() for path in paths if path.is_file()}


def _threads(record):
    """What each replica's model says of them, under the name that the record has."""
    said = []
    for url in record["endpoints"]["ollama"]:
        status, model = http("POST", url + "/api/show", {"model": record["model"]})
        assert status == 200, model
        said.append(dict(line.split(None, 1) for line in model["parameters"].splitlines()))
    return [one.get("num_thread") for one in said]


def _running_threads(place):
    """Those that each of this place's models computes with, as its runner was told."""
    logs = "".join(path.read_text() for path in place.output.glob("logs/ollama_*.err"))
    return re.findall(r"NumThreads:(\d+)", logs)


def test_what_is_made_through_a_running_replica_joins_the_shared_models(place):
    """Where nothing is sealed: else nobody makes anything."""
    record = place.deploy(place.recipe(security="none"))
    before = _shared_manifests(place)
    (url,) = record["endpoints"]["ollama"]
    copy = {"source": record["model"], "destination": "copied"}
    assert http("POST", url + "/api/copy", copy)[0] == 200
    made = {"model": "made", "from": record["model"], "system": "Be short.", "stream": False}
    assert http("POST", url + "/api/create", made)[0] == 200
    place.stop_all()
    after = _shared_manifests(place)
    assert before.items() < after.items() and len(after) == len(before) + 2
    copied = next(text for path, text in after.items() if "copied" in str(path))
    assert copied in before.values(), "without the replica's own parameter"
    for model in ("copied", "made"):
        place.deploy(place.recipe("again.json", model=model))
        place.stop_all()


def test_replicas_share_the_cores_and_models_of_others_stay_as_they_are(place):
    """Two deployments at once from one folder of models: a thread for each core, or as asked."""
    cores = len(os.sched_getaffinity(0))
    prepared = place.orch(place.recipe(), "--site", "local", "--prepare")
    assert prepared.returncode == 0, prepared.stderr
    before = _shared_manifests(place)
    shared = place.deploy(place.recipe(nodes=2))
    asked = place.deploy(place.recipe("asked.json", num_thread=3))
    assert _threads(shared) == [str(max(1, cores // 2))] * 2
    assert _threads(asked) == ["3"]
    assert _shared_manifests(place) == before
    assert ".view." not in "".join(map(repr, before.values())), "same digest for every job"
    place.stop_all()
    assert not list(place.output.glob("ollama_models/.view*"))
    assert _shared_manifests(place) == before


def test_every_way_to_ask_computes_with_the_number_of_the_recipe(place):
    """Each loads the model anew; a request's own number is still the last word."""
    record = place.deploy(place.recipe(num_thread=3), "--keep-on-failure")
    (url,) = record["endpoints"]["ollama"]
    model, messages = record["model"], [{"role": "user", "content": "Hi"}]
    bodies = {
        "/api/generate": {"prompt": "Hi", "stream": False, "options": {"num_predict": 1}},
        "/api/chat": {"messages": messages, "stream": False, "options": {"num_predict": 1}},
        "/v1/chat/completions": {"messages": messages, "max_tokens": 1},
        "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    }
    for path, body in bodies.items():
        unload = {"model": model, "keep_alive": 0, "stream": False}
        assert http("POST", url + "/api/generate", unload)[0] == 200
        wait_for(lambda: not http("GET", url + "/api/ps")[1]["models"], 60)
        count = len(_running_threads(place))
        status, answer = http("POST", url + path, {"model": model, **body})
        assert status == 200, answer
        said = wait_for(lambda: _running_threads(place)[count:], PATIENCE_S)  # noqa: B023
        assert set(said) == {"3"}, path
    own = {**bodies["/api/generate"], "options": {"num_predict": 1, "num_thread": 1}}
    assert http("POST", url + "/api/generate", {"model": model, **own})[0] == 200
    wait_for(lambda: _running_threads(place)[-1] == "1", PATIENCE_S)


def test_recipe_with_three_nodes_gives_three_replicas(place):
    record = place.deploy(place.recipe(nodes=3, n_clients=3, n_requests_per_client=2))
    assert len(set(record["endpoints"]["ollama"])) == 3
    assert record["benchmark"]["successful"] == 6
    for url in record["endpoints"]["ollama"]:
        assert http("GET", url + "/api/ps")[1]["models"], "each of them has the model in memory"
    place.stop_all()
    place.assert_nothing_left()


def test_replica_that_cannot_start_ends_the_deployment_with_its_reason(place):
    recipe = place.recipe(nodes=2, model="nosuchmodel:1b")
    result = place.orch(recipe, "--site", "local")
    assert result.returncode == 4
    assert "a replica on" in result.stderr
    assert "cannot pull nosuchmodel:1b: pull model manifest" in result.stderr
    place.assert_nothing_left()


def test_time_limit_ends_a_deployment_cleanly(place):
    place.deploy(place.recipe(time="1:00"))  # a busy machine takes half of it to deploy
    wait_for(lambda: place.records()[0]["state"] == "ended", 2 * PATIENCE_S)
    place.assert_nothing_left()
