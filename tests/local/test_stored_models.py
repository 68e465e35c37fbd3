"""Models out of a folder that others keep, and that nobody writes to; copied to the node's disk."""

import os
import shutil
from pathlib import Path

import pytest
from kept_models import everything, keep
from place import PROJECT, TINY, http
from test_llamacpp import read

PLACE, MODEL = "registry.ollama.ai/some/tiny/1b", "some/tiny:1b"


@pytest.fixture(scope="module")
def store(shared_place):
    """A store with the tiny model as Ollama keeps it, and as a file."""
    folder = shared_place.folder / "store"
    keep(folder, PLACE, TINY.read_bytes(), template=b"{{ .Prompt }}")
    (folder / "org").mkdir()
    (folder / "org" / "tiny.gguf").write_bytes(TINY.read_bytes())
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def deploy(place, store, **service):
    """Deploy at the local site with that store, and a disk of its own."""
    disk = place.folder / "disk"
    disk.mkdir(exist_ok=True)
    profile = {"name": "local", "scheduler": "local", "model_store": str(store),
               "local_disk": str(disk), "staging": "local"}  # fmt: skip
    record = place.deploy(place.recipe(security="none", **service), site=place.site(**profile))
    return record, disk / f"orch-models.{os.getuid()}"


def end(place, disk):
    place.stop_all()
    place.assert_nothing_left()
    assert not disk.exists()


def has_open(path):
    """Whether a process has mapped a file into memory."""
    return any(str(path) in read(process) for process in Path("/proc").glob("[0-9]*/maps"))


def test_ollama_serves_it_from_a_copy_on_the_nodes_disk(shared_place, store):
    before = everything(store)
    record, disk = deploy(shared_place, store, model=MODEL, n_requests_per_client=1)
    assert record["loaded_model"]["name"] == MODEL
    assert record["settings"]["model_from"] == f"the model store {store}"
    (loading,) = record["loading"]
    (copy,) = disk.glob("*/sha256-*")
    assert (loading["source"], loading["staged"]) == ("store", str(copy.parent))
    assert loading["bytes"] == loading["copied_bytes"] == TINY.stat().st_size
    assert copy.name == f"sha256-{loading['sha256']}" and loading["load_seconds"] > 0
    (link,) = shared_place.output.glob(f"ollama_models/.view.*.d/blobs/{copy.name}")
    assert link.readlink() == copy, "Ollama sees the copy, and no other"
    assert not list(shared_place.output.glob("ollama_models/blobs/*"))
    (engine,) = record["endpoints"]["ollama"]
    assert http("DELETE", f"{engine}/api/delete", {"model": MODEL})[0] == 200
    assert http("POST", f"{engine}/api/show", {"model": MODEL})[0] == 404
    end(shared_place, disk)
    assert everything(store) == before


@pytest.mark.skipif(
    not (shutil.which("llama-server") or (PROJECT / ".tools/bin/llama-server").exists()),
    reason="no llama-server: run scripts/get_llamacpp.sh",
)
def test_llamacpp_serves_a_file_of_it_from_a_copy(shared_place, store):
    before = everything(store)
    record, disk = deploy(shared_place, store, model="org/tiny.gguf", engine="llama.cpp",
                          context_length=256)  # fmt: skip
    (loading,) = record["loading"]
    assert (loading["source"], loading["path"]) == ("store", str(store / "org" / "tiny.gguf"))
    (copy,) = disk.glob("*/tiny.gguf")
    assert has_open(copy) and loading["load_seconds"] > 0
    end(shared_place, disk)
    assert everything(store) == before
