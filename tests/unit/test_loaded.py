"""An entry of /api/ps: read once, for orch, client service, load generator and exporters."""

import pytest

from engines.engine import LoadedModel
from engines.ollama import loaded_model

ENTRY = {
    "name": "mistral:7b",
    "digest": "abc",
    "details": {"quantization_level": "Q4_0", "parameter_size": "7.2B"},
    "size": 100,
    "size_vram": 60,
    "context_length": 4096,
}


def test_what_it_says_is_read():
    expected = LoadedModel("mistral:7b", "abc", "Q4_0", "7.2B", 100, 60, 4096)
    assert loaded_model(ENTRY) == expected


@pytest.mark.parametrize("key", ["name", "digest", "size", "size_vram", "context_length"])
@pytest.mark.parametrize("value", [None, [], {"a": 1}, 1.5, True])
def test_what_is_not_of_its_kind_counts_as_not_said(key, value):
    assert getattr(loaded_model({**ENTRY, key: value}), key) is None


@pytest.mark.parametrize("details", [None, [], "Q4_0", {}])
def test_details_may_be_missing(details):
    assert loaded_model({**ENTRY, "details": details}).quantization is None


@pytest.mark.parametrize(
    ("size", "size_vram", "where"),
    [
        (100, 0, "cpu"),
        (100, None, "cpu"),
        (100, 60, "gpu+cpu"),
        (100, 100, "gpu"),
        (None, 5, "gpu"),
    ],
)
def test_where_it_sits_is_one_of_three_words(size, size_vram, where):
    assert loaded_model({"size": size, "size_vram": size_vram}).where == where
