"""Retrieval with a real Ollama, the store in a folder: ingest, ask, stop, find it all again."""

import json
from pathlib import Path

import numpy as np
import pytest
from events import PATIENCE_S, kill_all
from place import PROJECT, TINY, http, wait_for

from retrieval.chunks import chunks_of, with_heading
from retrieval.documents import read_document
from retrieval.settings import Chunking

QUESTIONS = Path(__file__).with_name("questions.jsonl")
NAMES = ("operations", "sites", "measurement", "results", "engine")
DOCUMENTS = ["README.md", *(f"docs/{name}.md" for name in NAMES)]
EXAMPLE = PROJECT / "recipe_ex" / "quickstart_rag.json"
WANTED = json.loads(EXAMPLE.read_text())["job"]["service"]["retrieval"]
COLLECTION = WANTED["collection"]
CHUNKING = Chunking(WANTED["chunk_tokens"], WANTED["chunk_overlap"])


def section(*documents):
    return {
        "collection": "docs",
        "embedding_model": str(TINY),
        "documents": [str(document) for document in documents],
        "top_k": 5,
        "chunk_tokens": 64,
        "chunk_overlap": 8,
    }


def write(folder, number, words=40):
    """Documents that do not resemble each other."""
    folder.mkdir(exist_ok=True)
    for n in range(number):
        text = " ".join(f"{chr(97 + (n * 7 + k) % 26)}{n}word{k}" for k in range(words))
        (folder / f"{n:03d}.txt").write_text(text)


def points(record):
    return http("GET", record["endpoints"]["client"] + "/health")[1]["retrieval"]["points"]


def test_what_was_ingested_is_there_at_the_next_deployment(place):
    write(place.folder / "docs", 4)
    recipe = place.recipe(retrieval=section(place.folder / "docs"), question="a0word0 h0word1")
    result = place.orch(recipe, "--site", "local")
    assert result.returncode == 0, result.stderr
    assert "ingested: 4 files, 0 unchanged;" in result.stdout
    assert "sources:\n  [1]  " in result.stdout and "  steps: embed " in result.stdout
    (record,) = place.records()
    before = points(record)
    assert before == record["ingest"]["added"] > 4
    again = place.orch("--ingest", place.folder / "docs", "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["unchanged"], told["added"]) == (4, 0)
    place.stop_all()
    place.assert_nothing_left()
    result = place.orch(recipe, "--site", "local")
    assert "ingested: 4 files, 4 unchanged; 0 chunks added" in result.stdout
    assert points(place.records()[-1]) == before


def test_the_benchmark_of_a_recipe_asks_with_retrieval_and_measures_its_steps(place):
    write(place.folder / "docs", 4)
    chosen = {**section(place.folder / "docs"), "benchmark": True}
    recipe = place.recipe(
        retrieval=chosen, n_clients=2, n_requests_per_client=8, prompt="a0word0 h0word1"
    )
    result = place.orch(recipe, "--site", "local")
    assert "ingested: 4 files" in result.stdout and "embed [s]" in result.stdout, result.stderr
    (record,) = place.records()
    found = record["benchmark"]
    assert (found["successful"], found["failed"]) == (16, 0)
    assert [one["url"] for one in found["replicas"]] == [record["endpoints"]["client"]]
    steps = {name: found["server_seconds"][name] for name in ("embed", "search", "prefill")}
    assert all(
        0 < each["mean"] < found["latency_seconds"]["ttft"]["mean"] for each in steps.values()
    )


def test_killed_in_the_middle_of_an_ingest_nothing_is_lost_that_was_acknowledged(place):
    write(place.folder / "docs", 60)
    recipe = place.recipe(retrieval=section())
    record = place.deploy(recipe)
    ingest = place.start("--ingest", str(place.folder / "docs"))
    wait_for(lambda: points(record) >= 20, PATIENCE_S)
    acknowledged = points(record)
    kill_all(pids_of(place, "clientService"))
    assert ingest.wait(PATIENCE_S) == 4
    assert "run it again, it goes on from there" in place.log()
    place.stop_all()
    second = place.deploy(place.recipe("second.json", retrieval=section(place.folder / "docs")))
    told = second["ingest"]
    assert acknowledged <= points(second) - told["added"] < points(second)
    assert told["unchanged"] + told["present"] > 0 and points(second) >= 60


def pids_of(place, words):
    """Processes of this place with these words in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode()
            environment = (path / "environ").read_bytes().decode()
        except OSError:
            continue
        if words in command and str(place.output) in environment:
            found.append(int(path.name))
    return found


def test_deployments_take_turns_at_a_storage(place):
    write(place.folder / "docs", 1)
    first = place.deploy(place.recipe(retrieval=section(place.folder / "docs")))
    second = place.deploy(place.recipe("second.json", retrieval=section()))
    assert points(second) == points(first) > 0


# --- quality ---


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The example recipe as it is run by make quickstart-rag: what it says, and for each question
    the nearest five chunks, by the service and by exact search with the same embeddings."""
    from place import Place

    place = Place(tmp_path_factory.mktemp("quality"))
    try:
        result = place.orch(EXAMPLE, "--site", "local", timeout=1800)
        assert result.returncode == 0, result.stderr
        (record,) = place.records()
        _check_model(record)
        questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
        by_service = [_search(record, one["question"]) for one in questions]
        vectors = _embed(record, [one["question"] for one in questions])
    finally:
        place.stop_all()
    return result.stdout, questions, by_service, _exact(place, vectors)


def _check_model(record):
    """Whether the model embeds as the original does: the example of its page on huggingface.co."""
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
    vectors = np.array(_embed(record, [*texts, "Today is a sunny day"]))
    assert vectors @ vectors[0] == pytest.approx([1, 0.695, 0.943, 0.257], abs=0.002)


def _search(record, question):
    url = record["endpoints"]["client"] + "/search"
    status, answer = http("POST", url, {"query": question, "top_k": 5})
    assert status == 200, answer
    return [(hit["source"], hit["text"]) for hit in answer["hits"]]


def _embed(record, texts):
    body = {"model": record["embedding_model"], "input": texts}
    return http("POST", record["endpoints"]["ollama"][0] + "/api/embed", body)[1]["embeddings"]


def _exact(place, vectors):
    """The nearest five of all points by their cosine, computed here."""
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(place.output / "qdrant_storage" / COLLECTION))
    found, _ = client.scroll(COLLECTION, limit=100_000, with_vectors=True)
    client.close()
    known = np.array([point.vector for point in found])
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    nearest = np.argsort(-(np.array(vectors) @ known.T), axis=1)[:, :5]
    texts = [(point.payload["source"], point.payload["text"]) for point in found]
    return [[texts[n] for n in row] for row in nearest]


def _is_right(question, hit):
    source, text = hit
    return source == str(PROJECT / question["source"]) and question["passage"] in _line(text)


def _line(text):
    return " ".join(text.split())


def test_each_question_has_its_passage_in_some_chunk():
    questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(questions) == 50 and {one["source"] for one in questions} == set(DOCUMENTS)
    for name in DOCUMENTS:
        chunks = list(chunks_of(read_document(PROJECT / name), CHUNKING))
        texts = [_line(with_heading("", chunk.text)) for chunk in chunks]
        for one in (one for one in questions if one["source"] == name):
            assert any(_line(one["passage"]) in text for text in texts), one


def test_the_example_answers_from_this_projects_docs(asked):
    out, *_ = asked
    answer = out.partition("answer:   ")[2].partition("sources:\n  [1]  ")
    assert answer[0].strip() and "docs/measurement.md" in answer[2].splitlines()[0], out


def test_the_right_passage_is_found_as_often_as_by_exact_search(asked, capsys):
    _, questions, *ways = asked
    right = [
        sum(
            any(_is_right(one, hit) for hit in hits)
            for one, hits in zip(questions, way, strict=True)
        )
        for way in ways
    ]
    with capsys.disabled():
        print(
            f"\nright passage among the top 5: {right[0]} of 50; by exact search {right[1]} of 50"
        )
    # How many, depends on these docs, which change and grow: by chance it would be 1 or 2.
    assert right[0] >= right[1] >= 20
