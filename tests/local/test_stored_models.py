"""Models out of a folder that others keep, and that nobody writes to."""

import pytest
from kept_models import everything, keep
from place import TINY, http

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
    """Deploy at the local site with that store."""
    profile = {"name": "local", "scheduler": "local", "model_store": str(store)}
    return place.deploy(place.recipe(**service), site=place.site(**profile))


def test_ollama_serves_it_from_there(shared_place, store):
    before = everything(store)
    record = deploy(shared_place, store, model=MODEL, n_requests_per_client=1, security="none")
    assert record["loaded_model"]["name"] == MODEL
    assert record["settings"]["model_from"] == f"the model store {store}"
    assert not (shared_place.output / "ollama_models" / "blobs").exists()
    (engine,) = record["endpoints"]["ollama"]
    assert http("DELETE", f"{engine}/api/delete", {"model": MODEL})[0] == 200
    assert http("POST", f"{engine}/api/show", {"model": MODEL})[0] == 404
    shared_place.stop_all()
    shared_place.assert_nothing_left()
    assert everything(store) == before
