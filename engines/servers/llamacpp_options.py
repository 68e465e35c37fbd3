"""llama.cpp's part of a recipe's options: arguments of its server, and variables of what it
computes with, which Ollama has, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engines.servers import ollama_options
from engines.servers.options import Options, text_of

_SAMPLING = {
    "temperature": "--temp",
    "typical_p": "--typical",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("top_k", "top_p", "min_p", "repeat_last_n", "repeat_penalty",
                     "presence_penalty", "frequency_penalty", "seed")
    },
}  # fmt: skip
_KINDS = ("GGML_", "CUDA_", "HSA_")
OPTIONS = Options(
    keys={
        "num_parallel": "--parallel",
        "context_length": "--ctx-size",
        "num_thread": "--threads",
        "kv_cache_type": "--cache-type-k, --cache-type-v",
        "use_mmap": "--load-mode",
        "num_batch": "--batch-size, --ubatch-size",
        "flash_attention": "--flash-attn",
    },
    values=ollama_options.OPTIONS.values,
    sampling=_SAMPLING,
    variables={
        name: one
        for name, one in ollama_options.OPTIONS.variables.items()
        if name.startswith(_KINDS)
    },
    own=("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)


def arguments(asked: Mapping[str, object]) -> Iterator[str]:
    """Yield what the server is told of options that a recipe gives, by their names there."""
    for name, value in asked.items():
        if name == "kv_cache_type":
            yield from ("--cache-type-k", str(value), "--cache-type-v", str(value))
        elif name == "use_mmap":
            yield from ("--load-mode", "mmap" if value else "none")
        elif name == "num_batch":  # to Ollama it is both
            yield from ("--batch-size", str(value), "--ubatch-size", str(value))
        elif name == "flash_attention":
            yield from ("--flash-attn", "on" if value else "off")
        else:
            yield from (_SAMPLING[name], text_of(value))
