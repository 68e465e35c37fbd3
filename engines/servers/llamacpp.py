"""llama.cpp's own server (its tools/server/README.md): OpenAI's API, and what it says of itself
beside that.

It has one model, and answers with that whatever a request calls it. What it cannot do: say by HTTP
where the model sits (its job does), embed while it answers, load or unload a model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from contracts.json_object import JsonObject
from engines.engine import Facts, LoadedModel
from engines.json_values import count_of, part_of, text_of
from engines.openai import MODELS, OPENAI
from engines.servers.deployed import OF_ONE_MODEL, OPENAIS_PATHS, OPENAIS_QUERY, Allowed, Deployed
from engines.servers.llamacpp_options import OPTIONS, arguments

if TYPE_CHECKING:
    from engines.engine import Ask, Get

#: Beside the root of OpenAI's API.
HEALTH, PROPS, SLOTS, METRICS = "/health", "/props", "/slots", "/metrics"
#: Its status as long as it loads the model.
LOADING = 503
#: A build that does not know its own number says this.
_NO_VERSION = "b0-unknown"


def _beside(root: str, path: str) -> str:
    return f"{root.removesuffix(OPENAI.usual_root)}{path}"


def _facts(get: Get, root: str, model: str) -> Facts:
    """By MODELS and PROPS; older versions say less."""
    props = get(_beside(root, PROPS))
    entry = _entry(get(f"{root}{MODELS}"), model)
    if entry is None:
        return Facts(_version(props))
    meta, settings = part_of(entry, "meta"), part_of(props, "default_generation_settings")
    loaded = LoadedModel(
        name=model,
        quantization=_quantization(text_of(props, "model_ftype") or text_of(meta, "ftype")),
        parameters=_in_words(count_of(meta, "n_params")),
        size=count_of(meta, "size"),
        context_length=count_of(settings, "n_ctx") or count_of(meta, "n_ctx"),
    )
    return Facts(_version(props), loaded)


def _entries(models: JsonObject) -> dict[str, JsonObject]:
    listed = models.get("data")
    entries = listed if isinstance(listed, list) else []
    return {str(entry.get("id")): entry for entry in entries if isinstance(entry, dict)}


def _entry(models: JsonObject, model: str) -> JsonObject | None:
    return _entries(models).get(model)


def _version(props: JsonObject) -> str | None:
    version = text_of(props, "build_info")
    return None if version == _NO_VERSION else version


def _quantization(said: str | None) -> str | None:
    """As Ollama writes it: `Q4_K - Medium` is Q4_K_M there, `all F32` is F32."""
    if said is None:
        return None
    name, _, size = said.removeprefix("all ").partition(" - ")
    return f"{name}_{size[0]}" if size else name


def _in_words(count: int | None) -> str | None:
    """As Ollama writes them: 134.52M, 7.25B."""
    if count is None:
        return None
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"


def _ready(ask: Ask, root: str, model: str, name: str) -> Facts | str:
    """It lists the model (that one, not any), and answers a request for one token."""
    if ask(_beside(root, HEALTH)).status == LOADING:
        return f"{name} is loading {model}"
    listed = _entries(ask(f"{root}{MODELS}").json)
    if listed and model not in listed:
        raise ServiceError(f"{name} serves {', '.join(listed)}, not {model}.")
    ready = OPENAI.ready(ask, root, model, name)
    return ready if isinstance(ready, str) else _facts(lambda path: ask(path).json, root, model)


LLAMACPP = Deployed(
    service="llamacpp",
    title="llama.cpp",
    api="openai",
    engine=replace(OPENAI, facts=_facts, ready=_ready),
    usual_port=8080,
    image="docker://ghcr.io/ggml-org/llama.cpp:server",
    allowed=Allowed(
        read=(HEALTH, PROPS, SLOTS, METRICS, "/v1/models"),
        read_below=(),
        ask=(*OPENAIS_PATHS, "/tokenize", "/apply-template"),
    ),
    health=HEALTH,
    exporter="--metrics",
    metrics=METRICS,
    options=OPTIONS,
    arguments=arguments,
    query_options={
        **OPENAIS_QUERY,
        **{
            name: name
            for name in ("top_k", "min_p", "repeat_penalty", "repeat_last_n", "typical_p")
        },
    },
    cannot=OF_ONE_MODEL,
)
