"""Ollama's part of a recipe's options, as 0.17 takes them: by its environment, or as parameters of
a model (lib/threads.sh shows it those)."""

from __future__ import annotations

import re

from engines.servers.options import (
    DURATION,
    LIBRARY,
    ON,
    SWITCH,
    VERSION,
    Options,
    Variable,
    level,
    number,
)

#: Its word is the recipe's: parameters of a model, as a Modelfile and /api/show have them.
PARAMETERS = ("num_thread", "num_batch", "num_gpu", "use_mmap")
SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty"),
    *("seed", "stop"),
)
FLASH_ATTENTION, KV_CACHE_TYPE = "OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE"

#: Of ggml, which llama.cpp computes with, too.
GGML_CACHE_TYPES = ("f16", "q8_0", "q4_0")
_CUDA = "Of NVIDIA's GPUs: "
OPTIONS = Options(
    keys={
        "num_parallel": "OLLAMA_NUM_PARALLEL",
        "context_length": "OLLAMA_CONTEXT_LENGTH",
        "keep_alive": "OLLAMA_KEEP_ALIVE",
        "flash_attention": FLASH_ATTENTION,
        "kv_cache_type": KV_CACHE_TYPE,
        **{name: name for name in PARAMETERS},
    },
    values={"kv_cache_type": GGML_CACHE_TYPES},
    sampling={name: name for name in SAMPLING},
    variables={
        "OLLAMA_DEBUG": Variable(level(2), "How much it logs: 1 more, 2 all."),
        "OLLAMA_LOAD_TIMEOUT": Variable(
            DURATION, "How long the load of a model may stand still before it fails (its own: 5m)."
        ),
        "OLLAMA_GPU_OVERHEAD": Variable(
            number(0, 2**40), "Bytes of each GPU's memory that it leaves free."
        ),
        "OLLAMA_SCHED_SPREAD": Variable(
            SWITCH, "Whether a model is spread over all GPUs, also if it fits on one."
        ),
        "OLLAMA_MAX_LOADED_MODELS": Variable(
            number(0, 64), "Models in memory at once, at most; 0: it decides (its own)."
        ),
        "OLLAMA_MULTIUSER_CACHE": Variable(
            SWITCH, "Whether the prompt cache is kept for many users at once."
        ),
        "OLLAMA_NEW_ENGINE": Variable(
            SWITCH, "Whether its newer engine runs models that either of the two can run."
        ),
        "OLLAMA_LLM_LIBRARY": Variable(
            LIBRARY, "The one library that it computes with, such as `cuda_v12` or `rocm`."
        ),
        "OLLAMA_VULKAN": Variable(SWITCH, "Whether GPUs are used by Vulkan, too (experimental)."),
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY": Variable(
            ON, f"{_CUDA}what does not fit into their memory goes to the node's, slowly."
        ),
        "GGML_CUDA_DISABLE_GRAPHS": Variable(ON, f"{_CUDA}no CUDA graphs."),
        "GGML_CUDA_NO_PINNED": Variable(ON, f"{_CUDA}no pinned memory of the node."),
        "CUDA_LAUNCH_BLOCKING": Variable(SWITCH, f"{_CUDA}one kernel at a time, to find faults."),
        "HSA_OVERRIDE_GFX_VERSION": Variable(
            VERSION, "Of AMD's GPUs: the architecture that they are taken for."
        ),
        "HSA_ENABLE_SDMA": Variable(SWITCH, "Of AMD's GPUs: whether their copy engines are used."),
    },
    own=(
        *("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_MAX_QUEUE", "OLLAMA_NOPRUNE"),
        *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    ),
)

#: What it does without, in its own words; it says so in its log alone.
_DOES_WITHOUT = re.compile(
    r'msg="((?:flash attention enabled but|OLLAMA_FLASH_ATTENTION must|unsupported OLLAMA_KV_CACHE'
    r'|kv cache type not|quantized kv cache requested)[^"]*)"'
)
#: Of the first model that it has loaded.
_LOADED = "Operation:commit"


def unheeded(log: str) -> list[str]:
    """Return what Ollama's log says of options that it does without for its first model, each once:
    it does not fail by that, it only warns."""
    found = _DOES_WITHOUT.findall(log.partition(_LOADED)[0])
    return list(dict.fromkeys(found))
