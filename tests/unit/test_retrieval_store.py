"""The store: one collection, in a folder or with a server, and what can be wrong with it."""

import http.server
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import qdrant_grpc
import qdrant_server
from ports import free_port

from retrieval import turns
from retrieval.errors import Mismatch, NoCollection, StoreFailed, StoreRefused, StoreUnreachable
from retrieval.points import Point
from retrieval.settings import RetrievalSettings, retrieval_settings_from, section
from retrieval.store import Store


def point(number, vector, source="/a.txt", digest="one", **more):
    key = f"00000000-0000-0000-0000-{number:012d}"
    return Point(key, vector, f"text {number}", source, digest, number, **more)


@pytest.fixture
def folder(tmp_path):
    return RetrievalSettings(str(tmp_path / "storage"), "c", "model:latest")


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


@pytest.fixture(params=["folder", "REST", "gRPC"])
def settings(request, folder, key_file, monkeypatch):
    """A folder; or a server (a stand-in for Qdrant's), with a key, past any proxy."""
    if request.param == "folder":
        yield folder
        return
    for name in ("http_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with qdrant_server.running(folder.place, "secret") as server:
        ours = replace(folder, place=f"http://127.0.0.1:{server.port}", key_file=key_file)
        if request.param == "REST":
            yield ours
            return
        with qdrant_grpc.running(
            server.collections.client, server.collections.lock, "secret"
        ) as port:
            yield replace(ours, grpc_port=port)


def test_a_wrong_key_is_told(settings, key_file):
    key_file.write_text("wrong")
    if not settings.embedded:
        with pytest.raises(StoreRefused, match="it does not accept the API key; is it the key of"):
            Store(settings).points()


@pytest.fixture
def store(settings):
    store = Store(settings)
    yield store
    store.close()


def filled(store):
    store.prepare(2)
    store.upsert(
        [
            point(0, [1.0, 0.0], metadata={"lang": "en", "year": 2020}, heading="A"),
            point(1, [0.8, 0.2], metadata={"lang": "de", "year": 2021}),
            point(2, [0.0, 1.0], source="/b.txt", metadata={"lang": "fr"}),
        ]
    )
    return store


def found(store, where=None, top_k=10):
    return [hit.position for hit in store.search([1.0, 0.1], top_k, where)]


def test_the_nearest_come_first_with_all_that_an_answer_needs(store):
    first, *_ = filled(store).search([1.0, 0.0], 2)
    assert found(store, top_k=2) == [0, 1]
    assert (first.text, first.source, first.heading) == ("text 0", "/a.txt", "A")
    assert first.metadata == {"lang": "en", "year": 2020} and first.score == pytest.approx(1)


@pytest.mark.parametrize(
    ("where", "positions"),
    [
        ({"lang": "de"}, [1]),
        ({"lang": ["fr", "en"]}, [0, 2]),
        ({"lang": "en", "year": 2021}, []),
        ({"year": [2020, 2021]}, [0, 1]),
        ({"source": "/b.txt"}, [2]),
        ({"none": "x"}, []),
    ],
)
def test_a_filter_lets_through_what_has_all_its_values(store, where, positions):
    assert found(filled(store), where) == positions


def test_what_was_written_is_there_after_a_new_start(store, settings):
    filled(store).close()
    again = Store(settings)
    assert again.points() == 3 and found(again) == [0, 1, 2]
    again.close()


def test_writing_again_changes_nothing(store):
    filled(store)
    ids = [point(number, []).id for number in (0, 7)]
    assert store.missing(ids) == {ids[1]}
    filled(store)
    assert store.points() == 3


def test_other_versions_of_a_document_are_forgotten_and_nothing_else(store):
    filled(store).upsert([point(5, [1.0, 1.0], digest="two")])
    assert store.count("/a.txt", "one") == 2
    assert store.forget_others("/a.txt", "two") == 2
    assert sorted(found(store)) == [2, 5]
    assert store.forget_others("/a.txt", "two") == 0


def test_a_collection_that_was_dropped_can_be_made_anew(store):
    filled(store).drop()
    assert store.points() == 0
    store.prepare(3)
    store.upsert([point(0, [1.0, 0.0, 0.0])])
    assert store.points() == 1


def test_before_anything_was_ingested_there_is_nothing(store):
    assert store.points() == 0
    assert store.missing(["00000000-0000-0000-0000-000000000000"])
    with pytest.raises(NoCollection, match="has no points yet; ingest documents"):
        store.search([1.0], 1)


def test_another_dimension_is_refused_and_nothing_is_lost(store):
    filled(store)
    with pytest.raises(
        Mismatch, match="for vectors of 2 dimensions, and those of model:latest have 3"
    ):
        store.prepare(3)
    with pytest.raises(Mismatch, match="2 dimensions"):
        store.search([1.0, 0.0, 0.0], 1)
    assert store.points() == 3


def test_another_embedding_model_is_refused(store, settings):
    filled(store).close()
    other = Store(replace(settings, embedding_model="other:latest"))
    with pytest.raises(
        Mismatch, match="made with the embedding model model:latest, and the deploy"
    ):
        other.points()
    other.close()


def test_a_collection_of_somebody_else_is_refused(folder):
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=folder.place)
    vectors = models.VectorParams(size=2, distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config=vectors)
    client.close()
    store = Store(folder)
    with pytest.raises(Mismatch, match="made by another program"):
        store.prepare(2)
    store.close()


def test_a_folder_that_is_never_idle_is_for_one_process(folder, monkeypatch):
    monkeypatch.setattr(turns, "IDLE_S", float("inf"))
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    first, second = Store(folder), Store(folder)
    filled(first)
    with pytest.raises(StoreUnreachable, match="is in use by the client service of another"):
        second.points()
    first.close()
    assert second.points() == 3
    second.close()


def test_who_waits_for_a_folder_gets_it_from_one_that_is_idle_and_gives_it_back(
    folder, monkeypatch
):
    monkeypatch.setattr(turns, "IDLE_S", 0.0)
    monkeypatch.setattr(turns, "PATIENCE_S", 120.0)
    first, second = Store(folder), Store(folder)
    filled(first)
    assert [second.points(), first.points(), second.points()] == [3, 3, 3]
    for store in (first, second):
        store.close()


def test_a_folder_that_nobody_waits_for_stays_open(folder, monkeypatch):
    monkeypatch.setattr(turns, "IDLE_S", 0.0)
    store = Store(folder)
    filled(store)
    opened, looks = store._opened, threading.Semaphore(0)
    monkeypatch.setattr(store._turns, "_mark", SimpleNamespace(exists=looks.release))  # never there
    assert all(looks.acquire(timeout=120) for _ in range(2))
    assert store._opened is opened
    store.close()


def test_many_threads_may_use_one_store(store):
    filled(store)
    wrong = []

    def use(n):
        store.upsert([point(100 + n, [0.5, 0.5])])
        wrong.extend([n] if found(store, top_k=2) != [0, 1] else [])

    threads = [threading.Thread(target=use, args=(n,)) for n in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == [] and store.points() == 19


# --- a server that is not as it should be ---


class Refusing(http.server.BaseHTTPRequestHandler):
    """A stand-in for a Qdrant that takes nobody's key, or has a fault of its own."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.keys.append(self.headers["api-key"])
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"words of Qdrant")


@pytest.fixture
def refusing():
    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    server.keys = []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_server_that_takes_no_key_is_told_from_one_that_fails(folder, refusing, key_file):
    server = replace(
        folder, place=f"http://127.0.0.1:{refusing.server_address[1]}", key_file=key_file
    )
    refusing.status = 401
    with pytest.raises(StoreRefused, match="answered 401: it does not accept the API key") as error:
        Store(server).points()
    assert refusing.keys == ["secret"] and "secret" not in str(error.value)
    refusing.status = 500
    with pytest.raises(StoreFailed, match="answered 500: words of Qdrant"):
        Store(server).points()
    key_file.chmod(0o644)
    with pytest.raises(StoreFailed, match="is open to others; chmod 600"):
        Store(server).points()


@pytest.mark.parametrize("grpc", [False, True], ids=["REST", "gRPC"])
def test_a_server_that_does_not_answer_is_named(folder, grpc, monkeypatch):
    for name in ("http_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    port = free_port()
    server = replace(folder, place=f"http://127.0.0.1:{port}", grpc_port=port if grpc else None)
    with pytest.raises(
        StoreUnreachable, match=f"Qdrant at http://127.0.0.1:{port}.* does not answer"
    ):
        Store(server).points()


# --- settings ---


def test_settings_come_by_environment(tmp_path):
    text = section("c", "m", 3)
    found = retrieval_settings_from({"ORCH_RETRIEVAL": text, "ORCH_QDRANT": "/x"})
    assert found == RetrievalSettings("/x", "c", "m", 3) and found.embedded
    more = {"ORCH_QDRANT_GRPC_PORT": "6334", "ORCH_QDRANT_KEY_FILE": str(tmp_path)}
    found = retrieval_settings_from({"ORCH_RETRIEVAL": text, "ORCH_QDRANT": "http://h:1", **more})
    assert (found.embedded, found.grpc_port, found.key_file) == (False, 6334, tmp_path)
    found = retrieval_settings_from({"ORCH_RETRIEVAL": text, "ORCH_QDRANT_JOB": "7"})
    assert (found.embedded, found.job) == (False, "7")
    assert retrieval_settings_from({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORCH_QDRANT", "storage"),
        ("ORCH_QDRANT", ""),
        ("ORCH_QDRANT_GRPC_PORT", "0"),
        ("ORCH_QDRANT_GRPC_PORT", "x"),
        ("ORCH_RETRIEVAL", "{"),
        ("ORCH_RETRIEVAL", "{}"),
        ("ORCH_RETRIEVAL", section("../up", "m", 3)),
        ("ORCH_RETRIEVAL", section("c", "m", 0)),
    ],
)
def test_a_wrong_variable_is_named(name, value):
    right = {"ORCH_RETRIEVAL": section("c", "m", 3), "ORCH_QDRANT": os.sep}
    with pytest.raises(ValueError, match=f"^{name} is "):
        retrieval_settings_from({**right, name: value})
