"""When a service is ready, and where its model sits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hpc.errors import ServiceError
from hpc.recipe import full_model_name
from hpc.web import Answer, NoAnswer, call

#: A first token may wait for the model to be loaded again.
TOKEN_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ModelInfo:
    """The model as Ollama has it in memory; sizes in bytes, of which `size_vram` on GPUs."""

    name: str
    digest: str
    quantization: str
    parameters: str
    ollama_version: str
    size: int
    size_vram: int
    context_length: int

    @property
    def where(self) -> str:
        """ "gpu", "cpu", or "gpu+cpu" for a part of each."""
        if self.size_vram <= 0:
            return "cpu"
        return "gpu" if self.size_vram >= self.size else "gpu+cpu"

    def as_dict(self) -> dict[str, Any]:
        """The fields, and `where`, for records."""
        return {**asdict(self), "where": self.where}


def probe_ollama(url: str, model: str) -> ModelInfo | str:
    """Whether Ollama at `url` is ready to answer with `model`, or a sentence saying why not yet.

    Ready: /api/tags lists the model (that one, not any), a request for one token is answered,
    and /api/ps says where the model sits. Raises ServiceError with Ollama's own words where the
    model fails.
    """
    try:
        tags = call("GET", f"{url}/api/tags")
        if _find(tags, model) is None:
            return f"Ollama at {url} does not list {model} yet"
        body = {"model": model, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
        answer = call("POST", f"{url}/api/generate", body, TOKEN_TIMEOUT_S)
        if answer.status != 200:
            raise ServiceError(f"Ollama at {url} cannot answer with {model}: {answer.error}.")
        loaded = _find(call("GET", f"{url}/api/ps"), model)
        version = str(call("GET", f"{url}/api/version").json.get("version", ""))
    except NoAnswer as error:
        return error.message
    return _model_info(loaded, version) if loaded else f"{model} is not in memory yet"


def probe_client(url: str) -> dict[str, Any] | str:
    """/health of the client service, or a sentence saying why it is not healthy yet."""
    try:
        answer = call("GET", f"{url}/health", timeout_s=15.0)
    except NoAnswer as error:
        return error.message
    retrieval = answer.json.get("retrieval") or {}
    if answer.status == 200 and not retrieval.get("ok", True):
        return str(retrieval.get("reason"))
    if answer.status == 200 and answer.json.get("status") != "healthy":
        return "the client service does not reach every replica of Ollama"
    return answer.json if answer.status == 200 else answer.error


def probe_url(url: str) -> bool | str:
    """True where a service answers 200 at `url`, or a sentence saying why it does not yet."""
    try:
        answer = call("GET", url)
    except NoAnswer as error:
        return error.message
    return True if answer.status == 200 else f"{url} says: {answer.error}"


def _find(answer: Answer, model: str) -> dict[str, Any] | None:
    wanted = full_model_name(model).lower()
    models = answer.json.get("models") or []
    return next((entry for entry in models if str(entry.get("name")).lower() == wanted), None)


def _model_info(entry: dict[str, Any], version: str) -> ModelInfo:
    details = entry.get("details") or {}
    return ModelInfo(
        name=str(entry.get("name", "")),
        digest=str(entry.get("digest", "")),
        quantization=str(details.get("quantization_level", "")),
        parameters=str(details.get("parameter_size", "")),
        ollama_version=version,
        size=int(entry.get("size") or 0),
        size_vram=int(entry.get("size_vram") or 0),
        context_length=int(entry.get("context_length") or 0),
    )


def same_precision(asked: str, quantization: str) -> bool:
    """Whether a recipe's precision and Ollama's quantisation mean the same.

    Ollama writes F16, BF16, F32, Q4_0, Q4_K_M, …; people write fp16, float16, int8, q4.
    """
    aliases = {"fp16": "f16", "float16": "f16", "half": "f16", "fp32": "f32", "float32": "f32"}
    aliases |= {"bfloat16": "bf16", "int8": "q8", "int4": "q4", "8bit": "q8", "4bit": "q4"}
    wanted = aliases.get(asked.lower(), asked.lower())
    found = quantization.lower()
    return found == wanted or found.startswith(wanted + "_")
