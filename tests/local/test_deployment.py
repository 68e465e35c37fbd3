"""The whole way on this machine, with a tiny model: deploy, ask, measure, stop."""

import json
import socket
import subprocess

import pytest
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
    assert result.returncode == 0, result.stderr
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
    assert result.returncode == 0, result.stderr
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
    place.deploy(place.recipe(time="0:06"))
    wait_for(lambda: place.records()[0]["state"] == "ended", 30)
    place.assert_nothing_left()
