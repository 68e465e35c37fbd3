"""Embedding in batches: in order, on all replicas at once, and what Ollama may answer wrongly."""

import threading

import pytest

from retrieval.embeddings import BATCH, Embedder
from retrieval.errors import EmbeddingFailed, TooLong


def lengths(body):
    """An Ollama whose vectors are the lengths of texts, and which reads 100 characters."""
    if not body["truncate"] and any(len(text) > 100 for text in body["input"]):
        raise TooLong("the input length exceeds the context length")
    return {"embeddings": [[float(len(text)), 1.0] for text in body["input"]]}


def test_vectors_come_in_the_order_of_the_texts():
    texts = ["x" * (n + 1) for n in range(50)]
    found = Embedder("m", lengths, lambda: 3).embed(texts)
    assert [vector[0] for vector in found.vectors] == [float(n + 1) for n in range(50)]
    assert found.truncated == 0
    assert Embedder("m", lengths).embed([]).vectors == []


def test_as_many_batches_are_asked_at_once_as_there_are_replicas():
    together = threading.Barrier(3, timeout=10)
    sizes = []

    def ask(body):
        sizes.append(len(body["input"]))
        together.wait()  # breaks where fewer than three are in flight
        return lengths(body)

    Embedder("m", ask, lambda: 3).embed(["x"] * 3 * BATCH)
    assert sizes == [BATCH] * 3


def test_only_what_is_too_long_is_truncated():
    bodies = []

    def ask(body):
        bodies.append(body)
        return lengths(body)

    found = Embedder("m", ask).embed(["short", "x" * 200, "also"])
    assert [vector[0] for vector in found.vectors] == [5.0, 200.0, 4.0]
    assert found.truncated == 1
    assert [len(body["input"]) for body in bodies if body["truncate"]] == [1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "is not 2 vectors"),
        ({"embeddings": [[1.0]]}, "is not 2 vectors"),
        ({"embeddings": [[1.0], [1.0, 2.0]]}, "not of one dimension"),
        ({"embeddings": [[1.0], []]}, "no vector of numbers"),
        ({"embeddings": [[1.0], [0.0]]}, "no vector of numbers"),
        ({"embeddings": [[1.0], [float("nan")]]}, "no vector of numbers"),
        ({"embeddings": [[1.0], ["a"]]}, "no vector of numbers"),
        ({"embeddings": [[1.0], None]}, "no vector of numbers"),
    ],
)
def test_an_answer_that_is_no_embedding_is_refused(answer, words):
    with pytest.raises(EmbeddingFailed, match=words):
        Embedder("m", lambda _: answer).embed(["a", "b"])
