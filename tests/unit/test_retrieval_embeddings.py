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
    together = threading.Barrier(3, timeout=120)
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
    ("one", "words"),
    [
        ([], "is no vector of numbers"),
        ([0.0], "is no vector of numbers"),
        ([float("nan")], "is no vector of numbers"),
        (["a"], "is no vector of numbers"),
        (None, "is no vector of numbers"),
    ],
)
def test_a_model_that_embeds_nothing_is_refused(one, words):
    with pytest.raises(EmbeddingFailed, match=words):
        Embedder("m", lambda body: {"embeddings": [one] * len(body["input"])}).embed(["a", "b"])


def test_answers_that_do_not_fit_the_question_are_refused():
    with pytest.raises(EmbeddingFailed, match="is not 1 vectors"):
        Embedder("m", lambda _: {}).embed(["a", "b"])
    with pytest.raises(EmbeddingFailed, match="not of one dimension"):
        Embedder("m", lambda _: {"embeddings": [[1.0], [1.0, 2.0]]}).embed(["a", "b"])


def test_one_text_that_gets_no_vector_is_named_and_the_others_get_theirs():
    def ask(body):
        if any("poison" in text for text in body["input"]):
            raise EmbeddingFailed("unsupported value: NaN")
        return lengths(body)

    found = Embedder("m", ask, lambda: 2).embed([*["fine"] * 20, "poison", "also"])
    assert found.refused == {20: "unsupported value: NaN"}
    assert found.vectors[20] is None and found.vectors[21] == [4.0, 1.0]
    assert Embedder("m", ask).embed(["poison"]).vectors == [None]


def test_a_text_that_is_too_long_and_then_refused_is_left_out():
    def ask(body):
        if body["truncate"]:
            raise EmbeddingFailed("the runner ended")
        return lengths(body)

    found = Embedder("m", ask).embed(["short", "x" * 200])
    assert found.refused == {1: "the runner ended"} and found.truncated == 0
