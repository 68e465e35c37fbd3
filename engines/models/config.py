"""What a model of Hugging Face's layout says of itself in config.json, and what it takes in memory
if vLLM serves it.

Facts from vLLM 0.32: the cache is given out in blocks (vllm/v1/kv_cache_interface.py), whose sizes
are those of its CacheConfig. What it computes in nobody says beforehand; counted is what a batch's
feed-forward and the scores of tokens take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contracts.json_object import JsonObject
from engines.json_values import count_of, object_of, part_of, text_of
from engines.models.memory import Need, Serving

CONFIG = "config.json"
#: Larger is none of a model.
MOST_BYTES = 1 << 20
#: Tokens that vLLM computes at once, if nobody says it (its SchedulerConfig).
_BATCH = 2048
#: Tokens of a block of the cache, on GPUs and without.
_BLOCK, _BLOCK_WITHOUT_GPUS = 16, 128
#: Bytes of a number without GPUs: what the job leaves room for (templates/vllm.sbatch.j2).
_BYTES_WITHOUT_GPUS = 4
_FULL = "full_attention"


class BadConfig(ValueError):
    """A config.json that does not say what a cache takes; says why."""


@dataclass(frozen=True)
class Config:
    """`token_numbers`: how many numbers a layer keeps of a token; `layers`: all, of which
    `windowed` see no more than `window` tokens; `type_bytes`: of a number; `context_length`: what
    it was made for, 0 if that is not said; `weights`: bytes of its files."""

    layers: int
    token_numbers: int
    windowed: int
    window: int
    type_bytes: int
    width: int
    feed_forward: int
    vocabulary: int
    context_length: int
    weights: int

    def need(self, serving: Serving) -> Need:
        """What it takes if it is served so."""
        cache = self._cache(serving)
        weights, compute = self.weights, self._compute(serving)
        return Need(
            weights=weights,
            kv_cache=cache,
            compute=compute,
            context_length=serving.context_length,
            num_parallel=serving.num_parallel,
            reported=weights + cache + compute,
        )

    def _cache(self, serving: Serving) -> int:
        block = _BLOCK if serving.gpu else _BLOCK_WITHOUT_GPUS
        number = self.type_bytes if serving.gpu else _BYTES_WITHOUT_GPUS
        if serving.kv_cache_type == "fp8":
            number = 1
        seen = serving.context_length
        # Of a window's layers it keeps what a batch is about to push out, too.
        windowed = self.windowed if serving.gpu else 0  # without GPUs the job leaves room for all
        narrow = min(self.window + _BATCH, seen)
        tokens = (self.layers - windowed) * _blocks(seen, block) + windowed * _blocks(narrow, block)
        return number * self.token_numbers * block * serving.num_parallel * tokens

    def _compute(self, serving: Serving) -> int:
        batch = max(_BATCH, serving.num_parallel)
        scores = 4 * serving.num_parallel * self.vocabulary
        return batch * (2 * self.width + 3 * self.feed_forward) * self.type_bytes + scores


def _blocks(tokens: int, block: int) -> int:
    return -(-tokens // block)


def read_config(folder: Path, weights: int) -> Config:
    """Return what the model of a folder says, whose files of weights have so many bytes. Raises
    BadConfig, and OSError if it cannot be read."""
    with (folder / CONFIG).open("rb") as file:
        return config_of(file.read(MOST_BYTES + 1), weights)


def config_of(data: bytes, weights: int) -> Config:
    """Return what the bytes of a config.json say. Raises BadConfig."""
    try:
        found = object_of(data)
    except (ValueError, RecursionError) as error:
        raise BadConfig("it is no JSON object") from error
    text = part_of(found, "text_config") or found  # models of images have a part for text
    kinds = (text_of(part, key) for part in (text, found) for key in ("dtype", "torch_dtype"))
    return _config(text, next(filter(None, kinds), ""), weights)


def _config(text: JsonObject, kind: str, weights: int) -> Config:
    layers, width = _required(text, "num_hidden_layers"), _required(text, "hidden_size")
    windowed, window = _windows(text, layers)
    return Config(
        layers=layers,
        token_numbers=_token_numbers(text, width),
        windowed=windowed,
        window=window,
        type_bytes=4 if kind in ("float32", "float") else 2,
        width=width,
        feed_forward=count_of(text, "intermediate_size") or 4 * width,
        vocabulary=count_of(text, "vocab_size") or 0,
        context_length=count_of(text, "max_position_embeddings") or 0,
        weights=weights,
    )


def _required(text: JsonObject, key: str) -> int:
    found = count_of(text, key)
    if not found:
        raise BadConfig(f"it does not say {key}")
    return found


def _token_numbers(text: JsonObject, width: int) -> int:
    """Key and value of each head; models of DeepSeek's kind keep one compressed vector instead."""
    compressed = count_of(text, "kv_lora_rank")
    if compressed:
        return compressed + (count_of(text, "qk_rope_head_dim") or 0)
    heads = _required(text, "num_attention_heads")
    return 2 * (count_of(text, "num_key_value_heads") or heads) * (
        count_of(text, "head_dim") or width // heads
    )  # fmt: skip


def _windows(text: JsonObject, layers: int) -> tuple[int, int]:
    """How many layers see a window alone, and its tokens."""
    window, kinds = count_of(text, "sliding_window"), text.get("layer_types")
    if not window or text.get("use_sliding_window") is False:
        return 0, 0
    if isinstance(kinds, list):
        return min(sum(kind != _FULL for kind in kinds), layers), window
    return layers, window
