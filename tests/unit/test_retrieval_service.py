"""Retrieval through the client service, with the store in a folder and a stand-in for Ollama."""

import json
from pathlib import Path

import embedding_server
import pytest
import qdrant_server

import clientService
from client.retrieval import Retriever
from hpc import web
from hpc.ingest import ServicePoints, outcome_lines
from retrieval import turns
from retrieval.documents import find_files
from retrieval.ingest import ingest
from retrieval.settings import Chunking, section
from retrieval.store import Store

JOB = "41"
BINARY = "it is binary, not text (or UTF-16 without a byte-order mark)"
TEXTS = {
    "cats.md": "# Cats\n\nA cat sleeps most of the day.\n\n## Food\n\nCats eat mice and birds.\n",
    "dogs.md": "# Dogs\n\nA dog barks at strangers and guards the house.\n",
    "ships.txt": "A ship sails across the ocean with wind.\n",
}


@pytest.fixture(scope="module")
def shared():
    with embedding_server.running() as server:
        yield server


@pytest.fixture
def ollama(shared):
    """The stand-in, as it is by default and with nothing seen yet."""
    shared.seen.clear()
    shared.dimension, shared.failure = embedding_server.DIMENSION, None
    return shared


@pytest.fixture
def place(tmp_path, monkeypatch, ollama, door):
    """Where a service and its collection are; `configure` sets its environment."""
    (tmp_path / "logs").mkdir()
    (tmp_path / f"ollama_ip_{JOB}.txt").write_text(f"127.0.0.1:{ollama.port}\n")
    (tmp_path / "docs").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "docs" / name).write_text(text)
    names = {"OUTPUT_DIR": str(tmp_path), "OLLAMA_JOB": JOB, "MODEL": "known"}
    for name, value in names.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    return tmp_path


class Service:
    """The client service in this process; as `ChunkSink` it takes chunks as it does over HTTP."""

    def __init__(self, app):
        self.client = app.test_client()
        self.put_calls = 0

    def post(self, path, **body):
        return self.client.post(path, json=body)

    def put(self, source, version, count, chunks):
        self.put_calls += 1
        body = {"source": source, "version": version, "count": count}
        made = [vars(chunk) for chunk in chunks]
        answer = self.post("/points", **body, chunks=made)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.get_json()

    def health(self):
        return self.client.get("/health").get_json()


@pytest.fixture
def start(place, monkeypatch):
    """Starts the service; each start finds the folder free, as after an end of the last one."""
    stores = []
    original = Retriever.__init__

    def remember(self, *arguments):
        original(self, *arguments)
        stores.append(self._store)

    monkeypatch.setattr(Retriever, "__init__", remember)

    def end():
        while stores:
            stores.pop().close()

    def begin(qdrant=str(place / "storage"), collection="c", model="known:latest", top_k=2):
        end()
        monkeypatch.setenv("ORCH_RETRIEVAL", section(collection, model, top_k))
        monkeypatch.setenv("ORCH_QDRANT", qdrant)
        return Service(clientService.create_app())

    yield begin
    end()


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def filled(service, place):
    run(service, place)
    return service


def run(service, place, **more):
    return ingest(find_files([place / "docs"]), service, Chunking(16, 0), **more)


def embeds(ollama):
    return [text for path, body in ollama.seen if path == "/api/embed" for text in body["input"]]


def words_of(answer, status, kind):
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.get_json()["error"]["type"] == kind
    return answer.get_json()["error"]["message"]


# --- ingest ---


def test_what_is_ingested_is_found_again(filled, place):
    first, second = filled.post("/search", query="what do cats eat").get_json()["hits"]
    assert first["text"] == "Cats eat mice and birds." and first["heading"] == "Cats > Food"
    assert first["source"] == str(place / "docs" / "cats.md")
    assert (first["number"], second["number"]) == (1, 2) and first["score"] > second["score"]


def test_a_second_run_changes_nothing(filled, place, ollama):
    before = filled.health()["retrieval"]["points"]
    ollama.seen.clear()
    filled.put_calls = 0
    progress = run(filled, place)
    assert (progress.files, progress.unchanged, progress.added, progress.removed) == (3, 3, 0, 0)
    assert filled.put_calls == 3 and embeds(ollama) == []
    assert filled.health()["retrieval"]["points"] == before == 4


def test_of_a_file_that_changed_the_old_chunks_go_once_the_new_are_there(filled, place, ollama):
    (place / "docs" / "cats.md").write_text("# Cats\n\nCats drink milk.\n")
    ollama.failure = "out of memory"
    with pytest.raises(AssertionError, match="out of memory"):
        run(filled, place)
    ollama.failure = None
    assert filled.health()["retrieval"]["points"] == 4  # nothing is lost meanwhile
    progress = run(filled, place)
    assert (progress.unchanged, progress.added, progress.removed) == (2, 1, 2)
    texts = [
        hit["text"] for hit in filled.post("/search", query="cats", top_k=9).get_json()["hits"]
    ]
    assert "Cats drink milk." in texts and len(texts) == 3


def test_a_run_that_is_cut_off_is_completed_by_the_next(service, place, start, ollama, monkeypatch):
    monkeypatch.setattr("retrieval.ingest.BATCH_CHUNKS", 2)
    (place / "docs" / "long.txt").write_text(
        "\n\n".join(f"{letter} " * 10 for letter in "abcdefghijkl")
    )

    class Cut(Exception):
        pass

    def cut(progress):
        if progress.added >= 8:
            raise Cut

    with pytest.raises(Cut):
        run(service, place, on_progress=cut)
    service = start()  # the service ended, too: what it acknowledged is there
    there = service.health()["retrieval"]["points"]
    assert there == 9
    ollama.seen.clear()
    progress = run(service, place)
    assert progress.added + there == service.health()["retrieval"]["points"] == 16
    assert progress.present == 6 and len(embeds(ollama)) == 7


def test_another_way_of_cutting_replaces_what_is_there(filled, place):
    progress = ingest(find_files([place / "docs"]), filled, Chunking(64, 0))
    assert (progress.unchanged, progress.removed) == (0, 4)
    assert progress.added == filled.health()["retrieval"]["points"]


def test_bad_files_are_left_out_and_the_others_come(service, place):
    with (place / "docs" / "huge.txt").open("wb") as file:
        file.truncate(10**9)
    (place / "docs" / "photo.txt").write_bytes(b"\x89PNG\r\n\0\0")
    (place / "docs" / "empty.txt").write_text("")
    (place / "docs" / "headings.md").write_text("# Only\n## Headings\n")
    progress = run(service, place)
    kinds = {Path(one.source).name: one.kind for one in progress.skipped}
    assert kinds == {"huge.txt": "too large", "photo.txt": "binary", "empty.txt": "empty",
                     "headings.md": "empty"}  # fmt: skip
    assert (progress.files, progress.done, progress.added) == (7, 7, 4)
    lines = list(outcome_lines(progress))
    assert lines[0] == "ingested: 3 files, 0 unchanged; 4 chunks added"
    assert f"  skipped {place}/docs/photo.txt: binary: {BINARY}" in lines


def test_texts_that_the_model_does_not_read_to_their_end_are_counted(service, place):
    long = "word " * (embedding_server.CONTEXT + 50)
    (place / "docs" / "long.txt").write_text(long)
    progress = ingest(find_files([place / "docs"]), service, Chunking(600, 0))
    assert (progress.truncated, progress.added) == (1, 5)


def test_an_ingest_says_what_the_service_says(place, monkeypatch):
    answer = web.Answer(409, {"error": {"message": "It does not fit."}}, "")
    monkeypatch.setattr("hpc.ingest.call", lambda *_: answer)
    with pytest.raises(Exception, match=r"broke off at /a.txt: It does not fit; run it again"):
        ServicePoints("http://x").put("/a.txt", "v", 1, [])


# --- questions ---


def test_a_query_is_answered_from_numbered_sources(filled, ollama, place):
    answer = filled.post("/query", prompt="what do cats eat", retrieval=True).get_json()
    (prompt,) = [body["prompt"] for path, body in ollama.seen if path == "/api/generate"]
    assert "[1] Cats > Food\n\nCats eat mice and birds." in prompt and "\n\n[2] " in prompt
    assert prompt.endswith("Question: what do cats eat\n\nAnswer:")
    first = answer["sources"][0]
    assert (first["number"], first["text"]) == (1, "Cats eat mice and birds.")
    assert first["source"] == str(place / "docs" / "cats.md")
    timings = answer["timings"]
    assert (timings["prefill"], timings["decode"]) == (1.0, 2.0)
    assert 0 < timings["embed"] < 120 and 0 < timings["search"] < 120


def test_a_query_chooses_how_many_sources_and_which(filled, place):
    where = {"source": str(place / "docs" / "dogs.md")}
    asked = {"top_k": 4, "filter": where}
    answer = filled.post("/query", prompt="what do cats eat", retrieval=asked).get_json()
    assert [source["source"] for source in answer["sources"]] == list(where.values())
    hits = filled.post("/search", query="cats", top_k=3, filter=where).get_json()["hits"]
    assert [hit["source"] for hit in hits] == list(where.values())


def test_a_streamed_answer_begins_with_its_sources(filled):
    response = filled.post("/query", prompt="what do cats eat", retrieval=True, stream=True)
    first, *rest = map(json.loads, response.get_data().splitlines())
    assert (first["response"], first["done"], first["model"]) == ("", False, "known")
    assert len(first["sources"]) == 2 and set(first["timings"]) == {"embed", "search"}
    assert rest[-1]["done"] is True and "sources" not in rest[-1]


@pytest.mark.parametrize("off", [{}, {"retrieval": False}, {"retrieval": None}])
def test_without_retrieval_a_query_is_as_it_was(filled, ollama, off):
    answer = filled.post("/query", prompt="what do cats eat", **off).get_json()
    assert "sources" not in answer and "timings" not in answer
    (body,) = [body for path, body in ollama.seen if path == "/api/generate"]
    sent = {"model": "known", "prompt": "what do cats eat", "stream": False, "truncate": False}
    assert body == sent


def test_sources_that_are_longer_than_the_model_reads_are_refused(filled, ollama, monkeypatch):
    body_of = embedding_server.Handler.answer

    def refuse(handler, status, body):
        longer = {"error": "the input length exceeds the context length"}
        body_of(handler, *((status, body) if "embeddings" in body else (400, longer)))

    monkeypatch.setattr(embedding_server.Handler, "answer", refuse)
    answer = filled.post("/query", prompt="cats", retrieval=True)
    assert "its 2 sources are longer than the model reads; ask for a smaller top_k" in words_of(
        answer, 400, "bad_request"
    )


def test_health_says_how_many_points_there_are(filled):
    assert filled.health()["retrieval"] == {
        "collection": "c",
        "embedding_model": "known:latest",
        "qdrant": "embedded",
        "ok": True,
        "reason": None,
        "points": 4,
    }


# --- what can be wrong ---


def test_a_deployment_without_retrieval_says_so(place):
    service = Service(clientService.create_app())
    asked = [("/search", {"query": "x"}), ("/query", {"prompt": "x", "retrieval": True})]
    asked.append(("/points", {"source": "s", "version": "v", "count": 1}))
    for path, body in asked:
        assert "has no retrieval; give its recipe" in words_of(
            service.post(path, **body), 409, "no_retrieval"
        )
    assert "retrieval" not in service.health()


def test_before_anything_was_ingested_a_question_is_refused(service):
    words = words_of(service.post("/search", query="x"), 409, "no_retrieval")
    assert words.startswith("The collection c has no points yet; ingest documents")


def test_another_embedding_model_is_refused_and_nothing_is_lost(filled, start, place):
    other = start(model="other:latest")
    chunk = {"position": 0, "text": "x"}
    answer = other.post("/points", source="s", version="v", count=1, chunks=[chunk])
    assert "was made with the embedding model known:latest" in words_of(
        answer, 409, "collection_mismatch"
    )
    health = other.health()
    assert (health["status"], health["retrieval"]["ok"]) == ("degraded", False)
    assert "name that model, or another collection" in health["retrieval"]["reason"]
    assert start().health()["retrieval"]["points"] == 4


def test_vectors_of_another_dimension_are_refused_and_nothing_is_lost(filled, ollama):
    ollama.dimension = 32
    chunk = {"position": 0, "text": "x"}
    for path, body in [
        ("/points", {"source": "s", "version": "v", "count": 1, "chunks": [chunk]}),
        ("/search", {"query": "x"}),
    ]:
        words = words_of(filled.post(path, **body), 409, "collection_mismatch")
        assert f"is for vectors of {embedding_server.DIMENSION} dimensions" in words
    assert filled.health()["retrieval"]["points"] == 4


def test_a_qdrant_that_does_not_answer_degrades_the_service(start):
    service = start(qdrant="http://127.0.0.1:1")
    words = words_of(service.post("/search", query="x"), 503, "qdrant_unreachable")
    assert words.startswith("Qdrant at http://127.0.0.1:1 does not answer")
    health = service.health()
    assert (health["status"], health["retrieval"]["points"]) == ("degraded", None)
    assert service.post("/query", prompt="without retrieval it goes on").status_code == 200


def test_a_qdrant_is_found_where_its_job_is_now(start, place, monkeypatch):
    monkeypatch.setenv("ORCH_QDRANT_JOB", "45")
    service = start(qdrant="")
    answer = service.post("/search", query="x")
    assert "Waiting for the Qdrant job 45" in words_of(answer, 503, "qdrant_unreachable")
    assert answer.headers["Retry-After"] == "5"
    assert service.health()["retrieval"]["qdrant"] == ""
    for _ in range(2):  # it is requeued, and begins anew
        with qdrant_server.running(str(place / "points")) as server:
            (place / "qdrant_ip_45.txt").write_text(f"127.0.0.1:{server.port}\n")
            run(service, place)
            health = service.health()["retrieval"]
            assert (health["ok"], health["points"]) == (True, 4)
            assert health["qdrant"] == f"http://127.0.0.1:{server.port}"
    (place / "qdrant_ip_45.txt").unlink()
    (place / "logs" / "45.rc").write_text("0\nits successor serves\n")
    words = words_of(service.post("/search", query="x"), 503, "qdrant_unreachable")
    assert words == "The Qdrant job 45 has ended (exit code 0: its successor serves)."


def test_how_many_ask_qdrant_is_told_while_they_do(filled, monkeypatch):
    found = []
    search = Store.search

    def slow(self, *arguments):
        found.append(filled.client.get("/metrics").get_data(as_text=True))
        return search(self, *arguments)

    monkeypatch.setattr(Store, "search", slow)
    assert filled.post("/search", query="x").status_code == 200
    assert "\norch_client_retrieval_running 1.0\n" in found[0]
    assert "\norch_client_retrieval_running 0.0\n" in filled.client.get("/metrics").text


def test_a_storage_that_another_deployment_uses_is_named(filled, place, monkeypatch):
    monkeypatch.setattr(turns, "IDLE_S", float("inf"))
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    second = Service(clientService.create_app())  # the first one has not ended
    words = words_of(second.post("/search", query="x"), 503, "qdrant_unreachable")
    assert f"The storage {place}/storage is in use by the client service of another" in words


def test_an_ollama_that_cannot_embed_is_said(service, ollama):
    ollama.failure = "this model does not support embeddings"
    words = words_of(service.post("/search", query="x"), 502, "ollama_error")
    assert "this model does not support embeddings" in words


CHUNK = {"position": 0, "text": "x"}
WRONG = [
    ("/search", {}, "query is missing"),
    ("/search", {"query": "x", "top_k": 0}, "top_k is 0"),
    ("/search", {"query": "x", "filter": {"a.b": 1}}, "filter is"),
    ("/search", {"query": "x", "filter": {"a": ["x", 1]}}, "filter is"),
    ("/search", {"query": "x", "filter": {"a": {"gt": 1}}}, "filter is"),
    ("/search", {"query": "x", "filter": {"a": 2**63}}, "filter is"),
    ("/query", {"prompt": "x", "retrieval": 1}, "retrieval is 1"),
    ("/query", {"prompt": "x", "retrieval": {"topk": 1}}, "retrieval is"),
    ("/query", {"prompt": "x", "retrieval": {"top_k": 101}}, "retrieval is"),
    ("/query", {"prompt": "x", "retrieval": {"top_k": None}}, "retrieval is"),
    ("/search", {"query": "x", "filter": {"a": "\ud800"}}, "filter is"),
    ("/points", {"source": "s", "version": "v", "count": 0}, "count is 0"),
    ("/points", {"source": "\ud800", "version": "v", "count": 1}, "source is"),
    ("/points", {"chunks": [{**CHUNK, "text": ""}]}, "chunks is"),
    ("/points", {"chunks": [{**CHUNK, "text": "\ud800"}]}, "chunks is"),
    ("/points", {"chunks": [{**CHUNK, "metadata": {"a": "\ud800"}}]}, "chunks is"),
    ("/points", {"chunks": [{**CHUNK, "more": 1}]}, "chunks is"),
    ("/points", {"chunks": [{"text": "x"}]}, "chunks is"),
    ("/points", {"chunks": [CHUNK] * 257}, "chunks is"),
    ("/points", {"chunks": [{**CHUNK, "position": 1}]}, "position is 1, but count is 1"),
]


@pytest.mark.parametrize(("path", "body", "words"), WRONG)
def test_a_wrong_body_is_refused_in_words(service, path, body, words):
    more = {"source": "s", "version": "v", "count": 1} if "chunks" in body else {}
    assert words in words_of(service.post(path, **more, **body), 400, "bad_request")
