"""vLLM's server: OpenAI's API, and what recipes may tell it.

It has one model, a folder of Hugging Face's layout. What it cannot do: say by HTTP where the model
sits and in which precision (its job does), embed while it answers, load or unload a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from engines.engine import Facts
from engines.openai import MODELS, OPENAI, listing
from engines.servers.deployed import OF_ONE_MODEL, OPENAIS_PATHS, OPENAIS_QUERY, Allowed, Deployed
from engines.servers.ollama_options import OPTIONS as OLLAMAS
from engines.servers.options import NAME, SWITCH, Options, Variable, number, text_of

if TYPE_CHECKING:
    from engines.engine import Ask

#: Beside the root of OpenAI's API.
HEALTH, VERSION, METRICS = "/health", "/version", "/metrics"
#: Precisions of a recipe that are a type which it computes with; others are the model's own.
_TYPES = {
    **dict.fromkeys(("fp16", "f16", "float16", "half"), "float16"),
    **dict.fromkeys(("bf16", "bfloat16"), "bfloat16"),
    **dict.fromkeys(("fp32", "f32", "float32"), "float32"),
}
#: `f16` is what is not quantised: the type that the model computes with.
_CACHE_TYPES = {"f16": "auto", "fp8": "fp8"}
#: What --override-generation-config calls them.
_SAMPLING = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p",
                               "presence_penalty", "frequency_penalty")},
    "repeat_penalty": "repetition_penalty",
}  # fmt: skip
_KINDS = ("CUDA_", "HSA_")
OPTIONS = Options(
    keys={
        "num_parallel": "--max-num-seqs",
        "context_length": "--max-model-len",
        "num_thread": "OMP_NUM_THREADS",
        "precision": "--dtype",
        "kv_cache_type": "--kv-cache-dtype",
        "num_batch": "--max-num-batched-tokens",
        "use_mmap": "--safetensors-load-strategy",
    },
    values={"kv_cache_type": _CACHE_TYPES},
    sampling=_SAMPLING,
    variables={
        "VLLM_CPU_KVCACHE_SPACE": Variable(
            number(1, 65_536), "Of vLLM without GPUs: GiB of the KV cache, in place of as many as "
            "`num_parallel` contexts take."
        ),
        "VLLM_LOGGING_LEVEL": Variable(
            NAME, "Of vLLM: what it logs at least, such as `DEBUG` or `WARNING`."
        ),
        "VLLM_USE_FLASHINFER_SAMPLER": Variable(
            SWITCH, "Of vLLM: whether FlashInfer chooses the tokens, on NVIDIA's GPUs."
        ),
        "VLLM_USE_DEEP_GEMM": Variable(
            SWITCH, "Of vLLM: whether DeepGEMM multiplies matrices of FP8, on NVIDIA's GPUs."
        ),
        "NCCL_P2P_DISABLE": Variable(
            SWITCH, "Of vLLM on several GPUs: whether they speak by the host's memory alone."
        ),
        **{
            name: one for name, one in OLLAMAS.variables.items() if name.startswith(_KINDS)
        },
    },
    own=("VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE", "HF_TOKEN", "VLLM_NO_USAGE_STATS"),
)  # fmt: skip


def arguments(asked: Mapping[str, object]) -> Iterator[str]:
    """Yield what the server is told of options that a recipe gives, by their names there."""
    sampling = {_SAMPLING[name]: value for name, value in asked.items() if name in _SAMPLING}
    for name, value in asked.items():
        if name == "precision" and str(value).lower() in _TYPES:
            yield from (OPTIONS.keys[name], _TYPES[str(value).lower()])
        elif name == "kv_cache_type":
            yield from (OPTIONS.keys[name], _CACHE_TYPES[str(value)])
        elif name == "use_mmap":
            yield from (OPTIONS.keys[name], "lazy" if value else "eager")
        elif name == "num_batch":
            yield from (OPTIONS.keys[name], text_of(value))
    if sampling:
        yield from ("--override-generation-config", json.dumps(sampling, separators=(",", ":")))


def _ready(ask: Ask, root: str, model: str, name: str) -> Facts | str:
    """It lists the model (that one, not any), and answers a request for one token."""
    listed = ask(f"{root}{MODELS}")
    if listed.status == 200 and (others := listing(listed.json, model)):
        raise ServiceError(f"{name} does not serve {model}{others}.")
    return OPENAI.ready(ask, root, model, name)


VLLM = Deployed(
    service="vllm",
    title="vLLM",
    api="openai",
    engine=replace(OPENAI, ready=_ready),
    usual_port=8000,
    image="docker://vllm/vllm-openai:v0.32.0",
    allowed=Allowed(
        read=(HEALTH, VERSION, METRICS, "/v1/models"),
        read_below=(),
        ask=(*OPENAIS_PATHS, "/tokenize", "/detokenize"),
    ),
    health=HEALTH,
    exporter="--metrics",
    metrics=METRICS,
    takes="folder",
    options=OPTIONS,
    arguments=arguments,
    query_options={
        **OPENAIS_QUERY,
        **{name: name for name in ("top_k", "min_p")},
        "repeat_penalty": "repetition_penalty",
    },
    cannot=OF_ONE_MODEL,
)
