"""A deployment whose engine is llama.cpp's own server."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from events import PATIENCE_S
from place import PROJECT, TINY, http, wait_for
from test_failures import assert_failed

NAME = "someone/tiny:1b"
RECIPE = {
    "model": NAME, "context_length": 256, "num_parallel": 2, "n_clients": 2,
    "n_requests_per_client": 2, "question": "Who are you?", "kv_cache_type": "f16",
    "num_batch": 64, "use_mmap": False, "flash_attention": True,
    "sampling": {"top_k": 7, "temperature": 0.5},
}  # fmt: skip
ASKED = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(scope="module", autouse=True)
def _llamacpp():
    there = shutil.which("llama-server") or (PROJECT / ".tools" / "bin" / "llama-server").exists()
    if not there:
        lacking = "no llama-server: run scripts/get_llamacpp.sh"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)


def keep_as_ollama_does(models):
    """The tiny model under NAME, as Ollama would have left it in its folder."""
    config = json.dumps(
        {"model_format": "gguf", "model_family": "llama", "file_type": "F32"}
    ).encode()
    (models / "blobs").mkdir(parents=True)
    layers = {}
    for kind, content in (("ollama.image.model", TINY.read_bytes()), ("docker", config)):
        digest = hashlib.sha256(content).hexdigest()
        (models / "blobs" / f"sha256-{digest}").write_bytes(content)
        layers[kind] = {"digest": f"sha256:{digest}", "size": len(content)}
    model = {"mediaType": "application/vnd.ollama.image.model", **layers["ollama.image.model"]}
    manifest = models / "manifests/registry.ollama.ai/someone/tiny/1b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": layers["docker"],
                                    "layers": [model]}))  # fmt: skip


@pytest.fixture(scope="module")
def served(shared_place):
    """A deployment, by a name of Ollama's folder."""
    keep_as_ollama_does(shared_place.output / "ollama_models")
    recipe = shared_place.recipe(engine="llama.cpp", **RECIPE)
    return shared_place, shared_place.deploy(recipe)


def test_it_is_ready_with_the_model_that_was_asked_for(served):
    _, record = served
    loaded = record["loaded_model"]
    assert (loaded["name"], loaded["where"], loaded["context_length"]) == (NAME, "cpu", 256)
    assert loaded["size"] > 0 and loaded["version"]
    assert list(record["jobs"]) == ["llamacpp", "client"]
    assert record["benchmark"]["requests"]["succeeded"] == 4


def test_it_is_sealed(served):
    _, record = served
    (engine,) = record["endpoints"]["llamacpp"]
    assert http("GET", f"{engine}/props", token="wrong")[0] == 401
    assert http("GET", f"{engine}/props")[0] == 200
    assert http("POST", f"{engine}/v1/chat/completions", ASKED)[0] == 200
    for method, path in (("GET", "/"), ("POST", "/props"), ("POST", "/slots/0"),
                         ("POST", "/completion"), ("GET", "/v1/models/../props")):  # fmt: skip
        assert http(method, f"{engine}{path}", {})[0] == 403, path


def test_it_has_been_told_what_the_recipe_says(served):
    """Of the cache and the way of loading, the log of a verbose server alone would say it."""
    (engine,) = served[1]["endpoints"]["llamacpp"]
    props = http("GET", f"{engine}/props")[1]
    defaults = props["default_generation_settings"]["params"]
    assert (props["total_slots"], defaults["top_k"], defaults["temperature"]) == (2, 7, 0.5)


def test_it_is_compared_with_ollama(served):
    place, record = served
    other = place.deploy(place.recipe("ollama.json", engine="ollama", **RECIPE))
    folders = [one["benchmark"]["folder"] for one in (other, record)]
    compare = [sys.executable, "-m", "loadgen", "compare", *folders]
    run = subprocess.run(compare, cwd=PROJECT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    versions = [one["loaded_model"][key] for one, key in
                ((other, "ollama_version"), (record, "version"))]  # fmt: skip
    assert ["the", "engine", "ollama", "llama.cpp"] in lines
    assert ["the", "server's", "version", *versions] in lines
    assert ["the", "model", NAME, NAME] in lines
    assert ["the", "quantisation", "F32", "F32"] in lines
    assert "WARNING: Not the same in A and B: the engine (A: ollama; B: llama.cpp)." in run.stdout
    assert "Not the same in A and B: the model (" not in run.stdout
    assert "output tokens/s, all clients" in run.stdout
    assert place.orch("--stop", other["id"]).returncode == 0


def test_status_and_logs_know_it(served):
    place, record = served
    status = place.orch("--status", record["id"]).stdout
    assert f"llamacpp {record['jobs']['llamacpp']['id']} RUNNING" in status
    assert record["endpoints"]["llamacpp"][0] in status
    assert " llamacpp: published " in place.orch("--logs", record["id"], "llamacpp").stdout


def test_one_that_dies_is_told_of_and_leaves_nothing(served):
    place, record = served
    os.kill(engine_of(place), signal.SIGKILL)
    said = "ended: the service stopped by itself with exit code 137"
    wait_for(lambda: said in place.orch("--status", record["id"]).stdout, PATIENCE_S)
    place.stop_all()
    place.assert_nothing_left()


def engine_of(place):
    """The process that has the model."""
    models = str(place.output / "ollama_models" / "blobs")
    paths = [path for path in Path("/proc").glob("[0-9]*/cmdline") if models in read(path)]
    (found,) = (path for path in paths if "--model" in read(path) and "bash" not in read(path))
    return int(found.parent.name)


def read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_a_broken_file_is_named(place):
    broken = place.folder / "broken.gguf"
    broken.write_bytes(TINY.read_bytes()[:4096])
    recipe = place.recipe(engine="llama.cpp", model=str(broken))
    result = place.orch(recipe, "--site", "local")
    words = f"with the GGUF file {broken}; its own words are above in its log"
    assert_failed(place, result, 4, "llamacpp stopped while starting", words, "failed to load")
