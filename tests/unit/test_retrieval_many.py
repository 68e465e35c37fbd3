"""A folder of many kinds of documents, good and broken, is ingested in one go."""

import json
import sys

import broken_documents
import embedding_server
import pytest

import clientService
from client.retrieval import Retriever
from contracts.errors import ServiceError
from hpc import web
from hpc.ingest import ServicePoints, outcome_lines, warning_of
from retrieval.chunks import split
from retrieval.documents import find_files
from retrieval.ingest import ingest
from retrieval.markdown import sections_of
from retrieval.settings import Chunking, section

CHUNKING = Chunking(64, 8)


@pytest.fixture
def service(tmp_path, monkeypatch, door):
    """The client service in this process before the stand-in for Ollama; what the orchestration
    sends over HTTP reaches it as bytes."""
    output, stores, original = tmp_path / "output", [], Retriever.__init__
    (output / "logs").mkdir(parents=True)

    def remember(self, *arguments):
        original(self, *arguments)
        stores.append(self._store)

    monkeypatch.setattr(Retriever, "__init__", remember)
    with embedding_server.running() as ollama:
        (output / "ollama_ip_41.txt").write_text(f"127.0.0.1:{ollama.port}\n")
        names = {"OUTPUT_DIR": output, "OLLAMA_JOB": "41", "MODEL": "known"}
        names |= {"RETRIEVAL": section("c", "known", 2), "QDRANT": tmp_path / "storage"}
        for name, value in names.items():
            monkeypatch.setenv(f"ORCH_{name}", str(value))
        client = clientService.create_app().test_client()

        def call(method, url, body=None, timeout_s=0.0, token_file=None):
            data = json.dumps(body, ensure_ascii=False).encode()
            path = url.removeprefix("http://x")
            got = client.open(path, method=method, data=data, content_type="application/json")
            return web.Answer(got.status_code, got.get_json(), got.get_data(as_text=True))

        client.call, client.ollama = call, ollama
        monkeypatch.setattr("hpc.ingest.call", call)
        yield client
        stores[0].close()


def run(folder):
    return ingest(find_files([folder]), ServicePoints("http://x"), CHUNKING)


def found_by(service, source, word):
    """Whether a chunk of this source with this word is found by it."""
    body = {"query": word, "top_k": 20, "filter": {"source": source}} if len(source) < 1000 else {}
    hits = service.call("POST", "http://x/search", body).json["hits"]
    return any(word in hit["text"] or word in hit["heading"] for hit in hits)


def test_of_a_hundred_documents_each_good_one_is_found_and_each_bad_one_named(service, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    good, bad = broken_documents.write_documents(folder, 3)
    odd_good, odd_bad = broken_documents.write_odd_files(folder)
    good, bad = good | odd_good, bad | odd_bad
    assert len(good) + len(bad) > 100
    progress = run(folder)
    assert {one.source for one in progress.skipped} == bad
    assert all(one.kind and one.words for one in progress.skipped)
    assert [source for source, word in good.items() if not found_by(service, source, word)] == []
    lines = list(outcome_lines(progress))
    assert all(line.isprintable() for line in lines)
    partly = {one.source.rpartition("-")[2] for one in progress.partly}
    assert partly == {"wide.jsonl", "long.jsonl", "half.jsonl"}
    again = run(folder)
    assert (again.unchanged, again.added) == (len(good), 0)
    assert {one.source for one in again.skipped} == bad


def test_texts_that_are_refused_are_left_out_and_tried_again(service, tmp_path, monkeypatch):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("a poison text")
    mixed = [{"text": f"record {n} is {'poison' if n == 9 else 'fine'}"} for n in range(30)]
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, mixed)))
    (folder / "z.txt").write_text("A text about queues.")
    embed = embedding_server.Handler.embed

    def refuse(handler, body):
        if any("poison" in text for text in body["input"]):
            return handler.answer(500, {"error": "unsupported value: NaN"})
        return embed(handler, body)

    monkeypatch.setattr(embedding_server.Handler, "embed", refuse)
    progress = run(folder)
    assert (progress.added, progress.refused) == (30, 2)
    (skipped,), (partly,) = progress.skipped, progress.partly
    assert skipped.source.endswith("a.txt") and "unsupported value: NaN" in skipped.words
    assert partly.source.endswith("b.jsonl") and partly.words.startswith("chunk 9 is refused")
    assert "left out 1 of 3 files, 0 parts of files and 2 chunks" in warning_of(progress)
    monkeypatch.setattr(embedding_server.Handler, "embed", embed)
    again = run(folder)
    assert (again.added, again.refused, again.left_out, again.unchanged) == (2, 0, 0, 1)


def test_an_embedder_that_takes_nothing_ends_the_ingest(service, tmp_path, monkeypatch):
    monkeypatch.setattr("hpc.ingest.PATIENCE_S", 0.0)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("fine")
    service.ollama.failure = "this model does not support embeddings"
    with pytest.raises(ServiceError, match=r"broke off at .*a.txt: .*does not support embeddings"):
        run(tmp_path / "docs")
    service.ollama.failure = None
    assert run(tmp_path / "docs").added == 1


@pytest.mark.parametrize("waits", [True, False])
def test_a_service_that_waits_for_the_storage_is_awaited_for_longer(tmp_path, monkeypatch, waits):
    """At a hand-over; one that fails in another way is not."""
    monkeypatch.setattr("hpc.ingest.PATIENCE_S", 0.0)
    monkeypatch.setattr("hpc.ingest.PAUSE_S", 0.01)
    told = {"error": {"message": "Waiting for the Qdrant job 45."}}
    taken = {
        "added": 1,
        "present": 0,
        "removed": 0,
        "refused": [],
        "truncated": 0,
        "complete": True,
    }
    answers = [web.Answer(503 if waits else 502, told, "")] * 3 + [web.Answer(200, taken, "")]
    monkeypatch.setattr("hpc.ingest.call", lambda *_: answers.pop(0))
    (tmp_path / "a.txt").write_text("fine")
    if waits:
        assert run(tmp_path).added == 1
        return
    with pytest.raises(ServiceError, match=r"broke off at .*a.txt: Waiting for the Qdrant job"):
        run(tmp_path)


@pytest.mark.parametrize("status", [400, 413, 500])
def test_of_a_batch_that_is_refused_each_chunk_is_sent_alone(tmp_path, monkeypatch, status):
    stored = []

    def call(method, url, body, timeout_s, token_file):
        if any("poison" in chunk["text"] for chunk in body["chunks"]):
            return web.Answer(status, {"error": {"message": "Not this."}}, "")
        stored.extend(chunk["text"] for chunk in body["chunks"])
        points = len(stored)
        return web.Answer(200, {"points": points, "complete": points >= body["count"]}, "")

    monkeypatch.setattr("hpc.ingest.call", call)
    records = [{"text": text} for text in ("one", "poison", "three")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    progress = run(tmp_path)
    assert stored == ["one", "three"] and progress.refused == 1
    assert progress.partly[0].words == "chunk 1 is refused: Not this"


def test_a_service_that_fails_for_a_moment_is_asked_again(monkeypatch):
    monkeypatch.setattr("hpc.ingest.PAUSE_S", 0.0)
    answers = [web.Answer(503, {}, "busy"), web.Answer(504, {}, "slow")]
    answers.append(web.Answer(200, {"complete": True}, ""))
    monkeypatch.setattr("hpc.ingest.call", lambda *_: answers.pop(0))
    assert ServicePoints("http://x").put("/a", "v", 1, [])["complete"] and not answers


# --- time in proportion to the size ---


def calls_of(work):
    """Lines of Python that are run: the same on a busy machine."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


HOSTILE = {
    "letters": lambda n: "x" * n,
    "signs": lambda n: "." * n,
    "closers": lambda n: "\u3002" + "\u300d" * n,
    "marks": lambda n: "a" + "\u0301" * n,
    "blanks": lambda n: "a" + " " * n + "b",
    "lines": lambda n: "a\n" * n,
    "flags": lambda n: "\U0001f1e9" * n,
    "a heading of blanks": lambda n: "# a" + " " * n + "b",
    "headings": lambda n: "# a #\n" * n,
    "closing signs": lambda n: "# a" + " #" * n,
    "fences": lambda n: "```\n" * n,
    "an underline": lambda n: "a\n" + "-" * n + "x",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_cutting_takes_work_in_proportion_to_the_text(kind):
    def work(number):
        for _, text in sections_of(HOSTILE[kind](number)):
            for _ in split(text, 64, 32):
                pass

    small, large = (calls_of(lambda n=n: work(n)) for n in (2_000, 8_000))
    assert large < 6 * small + 1_000


def test_an_ingest_asks_for_work_in_proportion_to_the_documents(service, tmp_path):
    sizes = []
    for copies in (1, 4):
        folder = tmp_path / f"docs{copies}"
        folder.mkdir()
        for number in range(copies * 5):
            words = " ".join(f"w{number}x{n}" for n in range(200))
            (folder / f"{number}.txt").write_text(words)
        service.ollama.seen.clear()
        progress = run(folder)
        sizes.append((progress.added, len(service.ollama.seen)))
    assert sizes[1][0] == 4 * sizes[0][0] and sizes[1][1] == 4 * sizes[0][1]
