"""The tiny model file: the same for the same seed, and a GGUF that says what tests rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_tiny_model.py"
UNKNOWN, BOS, EOS = 0, 1, 2


def make(path: Path, *options: str) -> Path:
    subprocess.run([sys.executable, str(SCRIPT), str(path), *options], check=True)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make(tmp_path_factory.mktemp("model") / "new folder" / "tiny.gguf")


def test_the_same_seed_gives_the_same_bytes(model, tmp_path):
    assert make(tmp_path / "again.gguf").read_bytes() == model.read_bytes()


def test_another_seed_gives_another_model(model, tmp_path):
    assert make(tmp_path / "other.gguf", "--seed", "1").read_bytes() != model.read_bytes()


def test_it_is_a_small_gguf_with_enough_context(model):
    assert model.read_bytes()[:4] == b"GGUF"
    assert model.stat().st_size < 1_000_000
    fields = gguf.GGUFReader(model).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["llama.context_length"].contents() >= 2048


def test_no_hidden_state_can_make_it_end_a_text(model):
    """Number 0 of the hidden state is constant and weighs against the special tokens only."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model).tensors}
    assert np.all(tensors["token_embd.weight"][:, 0] == 1)
    for name, data in tensors.items():
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            assert np.all(data[0] == 0), name
    weights = tensors["output.weight"][:, 0]
    assert np.all(weights[[UNKNOWN, BOS, EOS]] <= -200)
    assert np.count_nonzero(weights == 0) > 50
