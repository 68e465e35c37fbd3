"""Several replicas on this machine, each on cores of its own; one that ends is begun again."""

import os
import signal
from pathlib import Path

import pytest
from events import PATIENCE_S
from place import SMALL, http, wait_for

QUERY = {"prompt": "Hi", "options": {"num_predict": 4}}


def servers(place):
    """The processes `ollama serve` of this place, by the numbers of their replicas."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"ollama\0serve" in (path / "cmdline").read_bytes():
                environment = (path / "environ").read_bytes().split(b"\0")
                models = next(v for v in environment if v.startswith(b"OLLAMA_MODELS=")).decode()
                if str(place.output) in models:
                    found[int(models.rpartition(".")[2])] = int(path.name)
        except (OSError, StopIteration):
            continue
    return found


def cores_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_each_replica_has_its_own_cores_and_comes_back_when_it_ends(place):
    recipe = place.recipe(model=str(SMALL), num_thread=None, replicas_per_node=2, n_clients=4,
                          n_requests_per_client=2)  # fmt: skip
    record = place.deploy(recipe)
    urls, client = record["endpoints"]["ollama"], record["endpoints"]["client"]
    assert len(set(urls)) == 2
    assert {one["url"] for one in record["benchmark"]["replicas"]} == set(urls)

    running = servers(place)
    cores = {number: cores_of(pid) for number, pid in running.items()}
    assert sorted(running) == [0, 1] and cores[0] != cores[1], cores
    noted = [(one["url"], one["cpus"], one["gpus"]) for one in record["replicas"]]
    assert noted == [(urls[0], cores[0], ""), (urls[1], cores[1], "")]
    told = place.orch("--status", record["id"]).stdout
    assert f"{urls[1]}   {record['replicas'][1]['node']}: CPUs {cores[1]}" in told

    os.kill(running[1], signal.SIGKILL)
    wait_for(lambda: http("GET", f"{client}/health")[1]["status"] == "degraded", PATIENCE_S)
    assert http("POST", f"{client}/query", QUERY)[0] == 200, "the other one serves"
    wait_for(lambda: http("GET", f"{client}/health")[1]["status"] == "healthy", PATIENCE_S)
    again = servers(place)
    assert again[0] == running[0] and again[1] != running[1]
    assert cores_of(again[1]) == cores[1], "the same share"
    assert place.records()[0]["state"] == "ready"
    (log,) = place.output.glob("logs/ollama_*.out")
    said = log.read_text()
    assert "replica 1 on " in said and "is begun again in 1 s" in said
    assert "\n[1] " in said and "\n[0] " in said
    place.stop_all()
    place.assert_nothing_left()
