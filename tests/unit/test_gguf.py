"""The head of GGUF files: what is read of them, and how broken ones are refused."""

import struct

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_models import make_model

from engines.models.gguf import BadGguf, beginning, read_header


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "made.gguf", "llama", layers=3, width=64)


def test_keys_and_the_bytes_of_tensors_are_read(model):
    header = read_header(model)
    assert header.architecture == "llama"
    assert header.number("block_count") == 3
    assert header.number("attention.head_count_kv") == 2
    assert header.lengths["tokenizer.ggml.tokens"] == 8192
    assert header.tensors["token_embd.weight"] == 2 * 8192 * 64
    assert header.parameters == 2 * 8192 * 64 + 64 + 3 * (2 * 64 + 3 * 1024 * 64 + 3 * 64 * 64)
    assert sum(header.tensors.values()) == header.weights < model.stat().st_size


def test_numbers_of_each_layer_are_read(tmp_path):
    path = make_model(tmp_path / "made.gguf", "lfm2", **{"a.list": [0, 8, 0]})
    assert read_header(path).numbers("a.list") == (0, 8, 0)
    assert read_header(path).number("a.list") == 8


def test_a_header_that_is_longer_than_what_is_read_at_first_is_read_whole(tmp_path, monkeypatch):
    path = make_model(tmp_path / "made.gguf", "llama")
    whole = read_header(path)
    monkeypatch.setattr("engines.models.gguf._AT_FIRST", 4096)
    assert read_header(path) == whole
    monkeypatch.setattr("engines.models.gguf._AT_MOST", 8192)
    with pytest.raises(BadGguf, match="its header is longer than"):
        read_header(path)


def test_of_several_files_all_are_counted(model, tmp_path):
    make_model(tmp_path / "made.gguf", "llama", layers=3, width=64, each=10)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [f"made-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    whole, found = read_header(model), read_header(parts[0])
    assert found.tensors == whole.tensors
    assert (found.weights, found.parameters) == (whole.weights, whole.parameters)
    parts[1].write_bytes(parts[1].read_bytes()[:2000])
    with pytest.raises(BadGguf, match=r"its part made-00002-of-00003\.gguf: it ends before"):
        read_header(parts[0])
    parts[1].unlink()
    with pytest.raises(BadGguf, match=r"its part made-00002-of-00003\.gguf: No such file"):
        read_header(parts[0])


def test_a_file_of_a_vocabulary_alone_has_no_weights(tmp_path):
    """llama.cpp has such files beside models, and of several the first may be one."""
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.add_block_count(3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_header(tmp_path / "vocabulary.gguf")
    assert (found.tensors, found.weights) == ({}, 0)


def test_the_first_bytes_say_what_a_cache_takes(model):
    data = model.read_bytes()
    found = beginning(data[:4096], len(data))
    assert found.number("block_count") == 3
    assert found.lengths["tokenizer.ggml.tokens"] == 8192
    assert (found.weights, found.tensors, found.parameters) == (len(data), {}, 0)
    with pytest.raises(BadGguf, match="how many layers"):
        beginning(data[:64], len(data))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"", "ends within its header"),
        (lambda data: data[:1000], "ends within its header"),
        (lambda data: data[: len(data) // 2], "ends before its tensors"),
        (lambda data: b"GGML" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "its version is 1"),
        (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], "of what are at most"),
        (lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:], "of what are at most"),
    ],
)
def test_a_broken_file_is_refused_in_a_sentence(model, tmp_path, spoil, words):
    path = tmp_path / "broken.gguf"
    path.write_bytes(spoil(model.read_bytes()))
    with pytest.raises(BadGguf, match=words):
        read_header(path)


@given(data=st.data())
def test_no_bytes_do_anything_but_be_read_or_refused(model, data, tmp_path_factory):
    """Bytes of a right file are changed in places where keys, kinds, lengths and tensors are."""
    whole = bytearray(model.read_bytes())
    end = 2000 if data.draw(st.booleans()) else len(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, end - 8))
        whole[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    path = tmp_path_factory.getbasetemp() / "noise.gguf"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (lambda: read_header(path), lambda: beginning(path.read_bytes()[:4096], 10**9)):
        try:
            header = read()
        except BadGguf as error:
            assert str(error)
        else:
            assert header.number("block_count") > 0
