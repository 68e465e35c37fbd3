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

from engines.models.gguf import Header

KvCacheType = Literal["f16", "q8_0", "q4_0", "fp8"]
#: Bytes of an element: blocks of 32 with a scale of 2 bytes.
KV_BYTES: dict[KvCacheType, float] = {
    "f16": 2.0,
    "q8_0": 34 / 32,
    "q4_0": 18 / 32,
    "fp8": 1.0,
}

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
#: Of these, those that compute attention as a whole unless they are told otherwise; in pieces (by
#: flash attention) it takes no memory worth a word.
_WHOLE_ATTENTION = frozenset((
    "deepseek2", "deepseekocr", "gemma3n", "llama4", "mllama", "qwen25vl",
))  # fmt: skip
#: Those that read a text at once, and keep nothing of it (model/models/bert, nomicbert).
_WITHOUT_CACHE = frozenset(("bert", "nomic-bert"))
#: Every n-th layer sees all of the context, if the file does not say which do; the others a window.
_GLOBAL_LAYERS = {"cohere2": 4, "gemma2": 2, "gemma3": 6, "gpt-oss": 2, "gptoss": 2}
#: What gpt-oss keeps of a window's layer (model/models/gptoss).
_KEPT = {"gpt-oss": 4096, "gptoss": 4096}
#: Caches of Ollama's own engine are whole multiples of so many tokens.
_PADDING = 256
#: Those for which GraphSize knows what llama.cpp computes in.
_COUNTED = frozenset((
    "chatglm", "command-r", "gemma", "gemma2", "llama", "phi2", "qwen2", "stablelm",
))  # fmt: skip
_MOST_LAYERS = 4096
#: Tokens of a prompt that Ollama computes at once (its api/types.go).
DEFAULT_BATCH = 512


@dataclass(frozen=True)
class Serving:
    """How a model is served. `context_length` is of each slot; `gpu`: on GPUs, if `gpu_layers` says
    it so many layers of it; `flash_attention`: None leaves it to the engine; `engine`: what serves
    it, "ollama" or "llama.cpp"."""

    context_length: int
    num_parallel: int
    kv_cache_type: KvCacheType = "f16"
    num_batch: int = DEFAULT_BATCH
    gpu: bool = False
    gpu_layers: int | None = None
    flash_attention: bool | None = None
    engine: str = "ollama"


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes. `context_length` and `num_parallel` are those that it is loaded
    with; `reported`: what /api/ps of Ollama calls its size; `gpu_share`: how much of weights and
    cache is to be on GPUs, if there are some."""

    weights: int
    kv_cache: int
    compute: int
    context_length: int
    num_parallel: int
    reported: int
    gpu_share: float = 1.0

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
        self.context, self.slots = serving.context_length, serving.num_parallel
        if serving.engine == "ollama":  # llama.cpp takes what it is told
            self.context = min(self.context, header.number("context_length") or self.context)
            if self.embeds or self.architecture in _ONE_SLOT:
                self.slots = 1
        self.tokens = self.context * self.slots
        self.batch = self.context if self.embeds else min(serving.num_batch, self.context)
        self.width = header.number("embedding_length")
        self.heads = max(header.number("attention.head_count", 1), 1)

    def need(self, further: int) -> Need:
        weights, input_table = self._weights()
        cache, compute = self._cache(), self._compute()
        reported = weights + further + (compute if self.own or self.serving.gpu else 0)
        if self.own:
            reported += input_table + cache
        else:
            kind = self.serving.kv_cache_type
            reported += int(cache * _KV_COUNTED[kind] / KV_BYTES[kind])
        return Need(
            weights=weights + further + (0 if self.serving.gpu else input_table),
            kv_cache=cache,
            compute=compute,
            context_length=self.context,
            num_parallel=self.slots,
            reported=reported,
            gpu_share=self._gpu_share(),
        )

    def _gpu_share(self) -> float:
        """The output counts as a layer, too."""
        layers = self.header.number("block_count") + 1
        asked = self.serving.gpu_layers
        return 1.0 if asked is None else min(asked / layers, 1.0)

    def _weights(self) -> tuple[int, int]:
        """Bytes of weights, and of the table of tokens that only the input goes by, which never is
        on a GPU. If input and output share one, Ollama's own engine has it twice (its ml/backend/
        ggml)."""
        table = self.header.tensors.get("token_embd.weight", 0)
        if "output.weight" in self.header.tensors:
            return self.header.weights - table, table
        return self.header.weights, table if self.own else 0

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
        """For how many tokens a layer has room. Ollama does not count llama.cpp's windows."""
        window = self.header.number("attention.sliding_window")
        kept = max(window + (self.slots > 1), _KEPT.get(self.architecture, 0) if self.own else 0)
        counted_whole = self.serving.engine == "ollama" and not self.own
        if window and kept < self.context and not counted_whole and self._sees_a_window(layer):
            return _padded(self.slots * kept + self.batch)
        return self.tokens if counted_whole else _padded(self.tokens)

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
            whole = self.context * (1 + self.heads) + 5 * self.width
            return logits if self._in_pieces() else max(logits, 4 * self.batch * whole)
        if self.architecture in _COUNTED:
            attention = 4 * self.width + self.tokens * (1 + self.heads)
            return max(logits, 4 * self.batch * attention)
        groups = self.heads // max(min(self.header.numbers("attention.head_count_kv", 1)), 1)
        return groups * self._cache() // 6

    def _in_pieces(self) -> bool:
        """Whether attention is computed by flash attention."""
        if self.serving.flash_attention is not None and not self.embeds:
            return self.serving.flash_attention
        return not (self.own and (self.embeds or self.architecture in _WHOLE_ATTENTION))

    def _own_compute(self) -> int:
        """As measured: feed-forward with what goes through it, and a mask of 2 bytes a token; or
        attention as a whole."""
        experts = self.header.number("expert_used_count")
        wide = max(
            self.header.number("feed_forward_length"),
            self.header.number("expert_feed_forward_length") * experts,
        )
        forward = 2 * self.width + 4 * wide
        if self._in_pieces():
            return self.batch * (4 * forward + 2 * _padded(self.tokens))
        return 4 * self.batch * max(forward, 6 * self.width + self.heads * self.tokens)


def _padded(tokens: int) -> int:
    return -(-tokens // _PADDING) * _PADDING
