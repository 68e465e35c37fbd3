"""How much memory a model takes: weights, KV cache and what is computed in, as Ollama and llama.cpp
lay them out.

Facts from Ollama 0.17.4. It has two ways to run a model (its llm/server.go, NewLlamaServer):
- by llama.cpp, where it does not measure but counts beforehand (fs/ggml/ggml.go, GraphSize; llm/
  server.go, llamaServer.Load), and places layers by that count;
- by its own engine, for the architectures of fs/ggml/ggml.go, OllamaEngineRequired, where it
  allocates and says what it took (kvcache/causal.go; runner/ollamarunner/runner.go,
  reserveWorstCaseGraph).
What it computes in there was measured: see docs/memory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines.gguf import Header

KvCacheType = Literal["f16", "q8_0", "q4_0"]
#: Bytes of an element: blocks of 32 with a scale of 2 bytes.
KV_BYTES: dict[KvCacheType, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

#: What Ollama counts for them beforehand, where llama.cpp is to run the model.
_KV_COUNTED: dict[KvCacheType, float] = {"f16": 2.0, "q8_0": 1.0, "q4_0": 0.5}

#: What Ollama runs by its own engine.
_OWN_ENGINE = frozenset((
    "bert", "deepseek2", "deepseekocr", "gemma3", "gemma3n", "glm4moelite", "glmocr", "gpt-oss",
    "gptoss", "lfm2", "lfm2moe", "llama4", "mistral3", "mllama", "nemotron_h", "nemotron_h_moe",
    "nomic-bert", "olmo3", "qwen25vl", "qwen3", "qwen35", "qwen35moe", "qwen3moe", "qwen3next",
    "qwen3vl", "qwen3vlmoe",
))  # fmt: skip
#: Of these, those that answer one request at a time (server/sched.go).
_ONE_SLOT = frozenset((
    "mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe",
    "nemotron_h", "nemotron_h_moe",
))  # fmt: skip
#: Those that read a text at once, and keep nothing of it (model/models/bert, nomicbert).
_WITHOUT_CACHE = frozenset(("bert", "nomic-bert"))
#: Every n-th layer sees all of the context, if the file does not say which do; the others a window.
_GLOBAL_LAYERS = {"gemma3": 6, "gpt-oss": 2, "gptoss": 2}
#: What gpt-oss keeps of a window's layer (model/models/gptoss).
_KEPT = {"gpt-oss": 4096, "gptoss": 4096}
#: Caches of Ollama's own engine are whole multiples of so many tokens.
_PADDING = 256
#: Those for which GraphSize knows what llama.cpp computes in.
_COUNTED = frozenset((
    "chatglm", "command-r", "gemma", "gemma2", "llama", "phi2", "qwen2", "stablelm",
))  # fmt: skip
_MOST_LAYERS = 4096


@dataclass(frozen=True)
class Serving:
    """How a model is served. `context_length` is of each slot; `gpu`: all of it is on GPUs;
    `engine`: what serves it, "ollama" or "llama.cpp"."""

    context_length: int
    num_parallel: int
    kv_cache_type: KvCacheType = "f16"
    num_batch: int = 512
    gpu: bool = False
    engine: str = "ollama"


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes. `context_length` and `num_parallel` are those that it is loaded
    with; `reported`: what /api/ps of Ollama calls its size."""

    weights: int
    kv_cache: int
    compute: int
    context_length: int
    num_parallel: int
    reported: int

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return self.weights + self.kv_cache + self.compute


def need_of(header: Header, serving: Serving, further: int = 0) -> Need:
    """Return what a model takes if it is served so. `further`: bytes of weights beside the file's
    own, of a projector or an adapter."""
    return _Model(header, serving).need(further)


class _Model:
    """A model that is served in one way."""

    def __init__(self, header: Header, serving: Serving) -> None:
        self.header, self.serving = header, serving
        self.architecture = header.architecture
        self.own = serving.engine == "ollama" and self.architecture in _OWN_ENGINE
        self.embeds = header.has("pooling_type")
        trained = header.number("context_length")
        asked = serving.context_length
        self.context = min(asked, trained) if trained else asked
        one_slot = self.embeds or self.architecture in _ONE_SLOT
        self.slots = 1 if one_slot and serving.engine == "ollama" else serving.num_parallel
        self.tokens = self.context * self.slots
        self.batch = self.context if self.embeds else min(serving.num_batch, self.context)
        self.width = header.number("embedding_length")
        self.heads = max(header.number("attention.head_count", 1), 1)

    def need(self, further: int) -> Need:
        weights, input_table = self._weights()
        cache, compute = self._cache(), self._compute()
        counted = self.own or self.serving.gpu
        if not self.own and self.serving.gpu:
            weights -= input_table  # it stays in the host's memory
            input_table = 0
        reported = weights + (compute if counted else 0)
        if self.own:
            reported += cache
        else:
            kind = self.serving.kv_cache_type
            reported += int(cache * _KV_COUNTED[kind] / KV_BYTES[kind]) - input_table
        return Need(weights + further, cache, compute, self.context, self.slots, reported + further)

    def _weights(self) -> tuple[int, int]:
        """Bytes of all weights, and of the table of tokens that only the input goes by. Ollama's
        own engine has that table twice if input and output share it (ml/backend/ggml)."""
        table = self.header.tensors.get("token_embd.weight", 0)
        shared = "output.weight" not in self.header.tensors
        if shared:
            return self.header.weights + (table if self.own else 0), 0
        return self.header.weights, table

    # --- the cache ---

    def _cache(self) -> int:
        if self.own and self.architecture in _WITHOUT_CACHE:
            return 0
        layers = min(self.header.number("block_count"), _MOST_LAYERS)
        heads_kv = self.header.numbers("attention.head_count_kv", self.heads)
        total = 0.0
        for layer in range(layers):
            heads = heads_kv[layer] if layer < len(heads_kv) else heads_kv[0]
            if heads:
                total += self._tokens_kept(layer) * heads * self._head_bytes()
            else:
                total += self.slots * self._state_bytes()
        return int(total)

    def _head_bytes(self) -> float:
        """Bytes of the key and the value of one head, for one token."""
        head = self.width // self.heads
        both = (self.header.number(f"attention.{part}_length", head) for part in ("key", "value"))
        return sum(both) * KV_BYTES[self.serving.kv_cache_type]

    def _state_bytes(self) -> int:
        """What a recurrent layer keeps of a sequence, however long that is; 4 bytes a number."""
        kernel, inner, state, groups = (
            self.header.number(f"ssm.{key}")
            for key in ("conv_kernel", "inner_size", "state_size", "group_count")
        )
        return 4 * (max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner)

    def _tokens_kept(self, layer: int) -> int:
        """For how many tokens a layer has room. llama.cpp's windows are not counted by Ollama."""
        window = self.header.number("attention.sliding_window")
        kept = max(window + (self.slots > 1), _KEPT.get(self.architecture, 0))
        if self.own and window and kept < self.context and self._sees_a_window(layer):
            return _padded(self.slots * kept + self.batch)
        return _padded(self.tokens) if self.own else self.tokens

    def _sees_a_window(self, layer: int) -> bool:
        pattern = self.header.numbers("attention.sliding_window_pattern")
        if len(pattern) > 1:
            return layer < len(pattern) and bool(pattern[layer])
        every = pattern[0] or _GLOBAL_LAYERS.get(self.architecture, 0)
        return every > 0 and (layer + 1) % every != 0

    # --- what is computed in ---

    def _compute(self) -> int:
        vocabulary = self.header.lengths.get("tokenizer.ggml.tokens", 0)
        if self.own:
            return self._own_compute() + 4 * self.slots * vocabulary
        logits = 4 * self.batch * (self.width + vocabulary)
        if self.serving.engine != "ollama" or not self.serving.gpu:
            return logits  # attention is computed in pieces, wherever that can be (llama.cpp)
        if self.architecture in _COUNTED:
            attention = 4 * self.width + self.tokens * (1 + self.heads)
            return max(logits, 4 * self.batch * attention)
        groups = self.heads // max(min(self.header.numbers("attention.head_count_kv", 1)), 1)
        return groups * self._cache() // 6

    def _own_compute(self) -> int:
        """As measured: feed-forward with what goes through it, or attention if that is not
        computed in pieces (a model of embeddings), and a mask of 2 bytes a token."""
        wide = self.header.number("expert_feed_forward_length") * self.header.number(
            "expert_used_count"
        )
        wide = max(wide, self.header.number("feed_forward_length"))
        forward = 2 * self.width + 4 * wide
        attention = 5 * self.width + (self.heads * self.context if self.embeds else 0)
        return self.batch * (4 * max(forward, attention) + 2 * _padded(self.tokens))


def _padded(tokens: int) -> int:
    return -(-tokens // _PADDING) * _PADDING
