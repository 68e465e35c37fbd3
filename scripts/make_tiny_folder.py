"""Makes a tiny model as vLLM and others of Hugging Face's kind take it: a folder with config.json,
model.safetensors and a tokenizer of bytes. Its weights are those of make_tiny_model.py, so that its
answers, too, are nonsense of any wanted length. Usage: make_tiny_folder.py [FOLDER] [--seed N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from make_tiny_model import (
    CONTEXT,
    FEED_FORWARD,
    LAYERS,
    SPECIAL,
    VOCABULARY,
    WIDTH,
    wanted_bytes,
    weights,
)
from make_tiny_model import DEFAULT_PATH as TINY

DEFAULT_FOLDER = TINY.with_name("tiny")
#: Of 32 numbers each, the fewest that vLLM computes with on CPUs.
HEADS = 2
#: What GGUF calls a tensor, and what it is called here.
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
#: Each message in a line of its own, after who said it.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a tiny model's folder for tests.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tensors = weights(options.seed, wanted_bytes(any_byte=False))
    named = {f"{_name_of(name)}.weight": tensor for name, tensor in tensors.items()}
    (options.folder / "model.safetensors").write_bytes(safetensors(named))
    for name, content in (
        ("config.json", CONFIG),
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", tokenizer_config()),
    ):
        (options.folder / name).write_text(json.dumps(content, indent=1), "utf-8")


def _name_of(name: str) -> str:
    if not name.startswith("blk."):
        return _NAMES[name]
    _, layer, rest = name.split(".")
    return f"model.layers.{layer}.{_NAMES[rest]}"


def safetensors(tensors: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """The file: the length of its header, that, and the numbers."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        numbers = np.ascontiguousarray(tensor, "<f4").tobytes()
        place = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        data += numbers
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def tokenizer() -> dict[str, object]:
    """A token for each byte, after the special ones."""
    special = [
        {
            "id": number,
            "content": name,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            "special": True,
        }
        for number, (name, _) in enumerate(SPECIAL)
    ]
    vocabulary = {name: number for number, (name, _) in enumerate(SPECIAL)}
    vocabulary |= {letter: len(SPECIAL) + byte for byte, letter in enumerate(letters())}
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    bytes_alone["use_regex"] = True
    return {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": bytes_alone,
        "decoder": bytes_alone,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def letters() -> list[str]:
    """The printable letter that stands for each byte in vocabularies of this kind (GPT-2's)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in shown)
    stand_in = {byte: 256 + number for number, byte in enumerate(others)}
    return [chr(stand_in.get(byte, byte)) for byte in range(256)]


def tokenizer_config() -> dict[str, object]:
    """With the template of chats."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }


if __name__ == "__main__":
    main()
