"""GGUF files of any architecture and size, whose weights are zero: what they take, not what they
say, is the matter."""

import gguf
import numpy as np


def make_model(
    path, architecture, *, layers=8, width=256, heads=4, heads_kv=2, key=None, wide=1024,
    vocabulary=8192, window=None, shared=False, trained=32768, each=0,
    **keys,
):  # fmt: skip
    """Write a model; `shared`: input and output have one table; `each`: tensors of each of several
    files, which get names of their own; `keys`: further keys of its architecture, whole numbers or
    lists of them."""
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=each)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(trained)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    if "attention.head_count_kv" not in keys:
        writer.add_head_count_kv(heads_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    head = key or width // heads
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(10000.0)
    if key:
        writer.add_key_length(key)
        writer.add_value_length(key)
    if window:
        writer.add_sliding_window(window)
    for name, value in keys.items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    _add_tokens(writer, vocabulary)
    tensors = _outside(width, vocabulary, shared)
    for layer in range(layers):
        for name, shape in _layer(architecture, width, heads * head, heads_kv * head, wide, head):
            tensors[f"blk.{layer}.{name}"] = shape
    for name, shape in tensors.items():
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(f"{name}.weight", np.zeros(shape, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _outside(width, vocabulary, shared):
    tensors = {"token_embd": (vocabulary, width), "output_norm": (width,)}
    return tensors if shared else {**tensors, "output": (vocabulary, width)}


def _layer(architecture, width, queries, keys, wide, head):
    norms = ["attn_norm", "ffn_norm"]
    if architecture == "gemma3":
        norms += ["post_attention_norm", "post_ffw_norm"]
    yield from ((norm, (width,)) for norm in norms)
    if architecture in ("gemma3", "qwen3"):
        yield from ((norm, (head,)) for norm in ("attn_q_norm", "attn_k_norm"))
    yield "attn_q", (queries, width)
    yield "attn_k", (keys, width)
    yield "attn_v", (keys, width)
    yield "attn_output", (width, queries)
    yield "ffn_gate", (wide, width)
    yield "ffn_up", (wide, width)
    yield "ffn_down", (width, wide)


def _add_tokens(writer, vocabulary):
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    more = vocabulary - len(tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*tokens, *(f"token{number}" for number in range(more))])
    writer.add_token_types([*types, *[gguf.TokenType.NORMAL] * more])
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
