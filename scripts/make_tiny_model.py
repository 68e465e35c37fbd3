"""Makes a tiny GGUF model (0.5 MB, under a second) whose answers are nonsense of any wanted length.

It lets tests drive a real Ollama: loading takes a fraction of a second, and a request always gets
exactly `num_predict` tokens, with any sampling options, because the model never ends a text itself.
The same seed gives the same bytes. Usage: make_tiny_model.py [PATH] [--seed N] [--bytes]
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

DEFAULT_PATH = Path(__file__).resolve().parent.parent / ".tools" / "models" / "tiny.gguf"
LAYERS, WIDTH, HEADS, FEED_FORWARD = 2, 64, 4, 128
CONTEXT = 8192
SPECIAL = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL)]
SPECIAL += [("</s>", gguf.TokenType.CONTROL)]
VOCABULARY = len(SPECIAL) + 256
# One number of the hidden state is constant (see weights()); times this, it is added to the logits
# of the tokens that must never come. exp(-200) leaves no chance to any temperature below 10.
NEVER = -200.0
# How much the successor of a token is preferred. Without it greedy decoding ends in one repeated
# token, and Ollama cuts an answer after 30 equal ones.
PREFERENCE = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a tiny GGUF model for tests.")
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT_PATH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bytes",
        action="store_true",
        help="answer with any bytes, not only letters: most of them are parts of UTF-8 characters, "
        "which Ollama holds back, so that a chunk of the stream is not a token",
    )
    options = parser.parse_args()
    options.path.parent.mkdir(parents=True, exist_ok=True)
    partial = options.path.with_name(options.path.name + ".tmp")
    write(partial, weights(options.seed, wanted_bytes(options.bytes)))
    partial.replace(options.path)


def wanted_bytes(any_byte: bool) -> bytes:
    return bytes(range(256)) if any_byte else f"{string.ascii_letters} ,.".encode()


def weights(seed: int, wanted: bytes) -> dict[str, Array]:
    """Random weights. No layer writes to hidden number 0: it stays what the embedding made it."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float) -> Array:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    embedding = matrix(VOCABULARY, WIDTH, 1.0)
    embedding[:, 0] = 1.0
    tensors = {"token_embd": embedding, "output_norm": np.ones(WIDTH, np.float32)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            tensors[block + norm] = np.ones(WIDTH, np.float32)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[block + name] = matrix(WIDTH, WIDTH, 0.05)
        for name in ("ffn_gate", "ffn_up"):
            tensors[block + name] = matrix(FEED_FORWARD, WIDTH, 0.05)
        tensors[block + "ffn_down"] = matrix(WIDTH, FEED_FORWARD, 0.05)
        for name in ("attn_output", "ffn_down"):
            tensors[block + name][0] = 0.0
    tensors["output"] = output_matrix(embedding, wanted, random)
    return tensors


def output_matrix(embedding: Array, wanted: bytes, random: np.random.Generator) -> Array:
    tokens = np.array([len(SPECIAL) + byte for byte in wanted])
    output = (random.standard_normal((VOCABULARY, WIDTH)) * 0.1).astype(np.float32)
    # The wanted tokens in a random ring, each pointing to the next one.
    ring = random.permutation(tokens)
    output[np.roll(ring, -1)] += PREFERENCE / WIDTH * embedding[ring]
    output[:, 0] = NEVER
    output[tokens, 0] = 0.0
    return output


def write(path: Path, tensors: dict[str, Array]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    add_architecture(writer)
    add_tokenizer(writer)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_architecture(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = [name for name, _ in SPECIAL] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [kind for _, kind in SPECIAL] + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


if __name__ == "__main__":
    main()
