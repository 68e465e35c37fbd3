"""OpenAI's API as others speak it, too (vLLM, SGLang, llama.cpp, Ollama): its paths, what a server
says of itself, and the stream of an answer: server-sent events of chat completions."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from contracts.errors import ServiceError
from contracts.generation import Generation
from contracts.json_object import JsonObject
from engines.engine import BadUrl, Chat, Engine, Facts, LoadedModel, without_end
from engines.json_values import NO_ERROR, count_of, error_words, keys_before, object_of, text_of
from engines.names import same_model
from engines.ollama import ollama_facts

if TYPE_CHECKING:
    from contracts.load import LoadSpec
    from engines.engine import Ask, BodyParts, Get

#: Below the root, which has the version.
CHAT, MODELS = "/chat/completions", "/models"
_USUAL_ROOT = "/v1"
_VERSION = re.compile(r"v\d+(alpha|beta)?\d*")
_UNSPOKEN = ("/completions", "/responses", "/embeddings")
#: Models that a sentence names.
MOST_NAMED = 10
#: Statuses of a server that is still loading its model, or has no room just now.
_NOT_YET = (429, 503)

# --- requests ------------------------------------------------------------------------------------


def one_token(model: str) -> JsonObject:
    """Return the body of a request that shows whether the model answers, for CHAT."""
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def _body_of(model: str, load: LoadSpec) -> BodyParts:
    before, after, close = _chat_body_of(model, load)
    return before + b'[{"role": "user", "content": ', b"}]" + after, close


def _chat_body_of(model: str, load: LoadSpec) -> BodyParts:
    """A streamed request for CHAT."""
    limit = {} if load.num_predict is None else {"max_tokens": load.num_predict}
    given = keys_before({**limit, **openai_keys(load.extras)})
    usage = '"stream": true, "stream_options": {"include_usage": true}'
    return (
        f'{{"model": {json.dumps(model)}, "messages": '.encode(),
        f', {usage}, {given}"seed": '.encode(),
        b"}",
    )


def openai_keys(extras: JsonObject) -> JsonObject:
    """Return what a load asks for under OpenAI's names: `reasoning_effort` and `response_format`
    are its own, `chat_template_kwargs` vLLM's. The others have the same name everywhere."""
    keys = {name: value for name, value in extras.items() if name not in ("think", "format")}
    if isinstance(extras.get("think"), bool):
        keys["chat_template_kwargs"] = {"enable_thinking": extras["think"]}
    elif "think" in extras:
        keys["reasoning_effort"] = extras["think"]
    if extras.get("format") == "json":
        keys["response_format"] = {"type": "json_object"}
    elif "format" in extras:
        schema = {"name": "answer", "schema": extras["format"], "strict": True}
        keys["response_format"] = {"type": "json_schema", "json_schema": schema}
    return keys


def _root_of(path: str) -> str:
    """It has a version, as a rule at its end, named or not."""
    if path.endswith(("/api/generate", "/api/tags")):
        raise BadUrl("is Ollama's API: give --api ollama")
    if path.endswith(CHAT):
        return path.removesuffix(CHAT)  # wherever it is
    if path.endswith(_UNSPOKEN):
        raise BadUrl("is of an API that is not spoken here: give that of /chat/completions")
    path = without_end(path, (MODELS,))
    return path if any(map(_VERSION.fullmatch, path.split("/"))) else f"{path}{_USUAL_ROOT}"


# --- what a server says of itself ----------------------------------------------------------------

#: Whose models Ollama says all of its are.
_OLLAMAS = "library"


def _facts(get: Get, root: str, model: str) -> Facts:
    """By MODELS, and /version, which vLLM has. It says nothing of where a model sits. If it is
    Ollama that speaks OpenAI's API, it is asked in its own, too."""
    beside = root.removesuffix(_USUAL_ROOT)
    found = listed_entry(get(f"{root}{MODELS}"), model)
    if found is not None and found.get("owned_by") == _OLLAMAS:
        return ollama_facts(get, beside, model)
    version = text_of(get(f"{beside}/version"), "version")
    if found is None:
        return Facts(version)
    length = count_of(found, "max_model_len")  # vLLM's and SGLang's
    return Facts(version, LoadedModel(model, context_length=length))


def listed_entry(models: JsonObject, model: str) -> JsonObject | None:
    """Return a model's entry in what MODELS lists, by any of its names; None if it has none."""
    listed = models.get("data")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and _is_named(entry, model):
            return entry
    return None


def listing(models: JsonObject, model: str) -> str:
    """Return what is to be said of a list without a model; "" if there is none, or it has it."""
    listed = models.get("data")
    if not isinstance(listed, list) or not listed or listed_entry(models, model) is not None:
        return ""
    names = [str(entry.get("id")) for entry in listed if isinstance(entry, dict)]
    more = ", …" if len(names) > MOST_NAMED else ""
    return f" (it lists {', '.join(names[:MOST_NAMED])}{more})"


def _is_named(entry: JsonObject, model: str) -> bool:
    """llama.cpp has lists of other names."""
    name, others = str(entry.get("id")), entry.get("aliases")
    if name == model or (isinstance(others, list) and model in others):
        return True
    return entry.get("owned_by") == _OLLAMAS and same_model(name, model)


def _ready(ask: Ask, root: str, model: str, name: str) -> Facts | str:
    """It answers a request for one token: some take names that they do not list."""
    listed = ask(f"{root}{MODELS}")
    if listed.status in _NOT_YET:
        return f"{name} is not ready yet: {listed.error}"
    answer = ask(f"{root}{CHAT}", one_token(model))
    if answer.status in _NOT_YET:
        return f"{name} is not ready yet: {answer.error}"
    if answer.status != 200:
        others = listing(listed.json, model)
        raise ServiceError(f"{name} cannot answer with {model}: {answer.error}{others}.")
    return _facts(lambda path: ask(path).json, root, model)


# --- answers -------------------------------------------------------------------------------------

_DATA, _EVENT, DONE = b"data:", b"event:", b"[DONE]"


def openai_line(answer: Generation, line: bytes, at: float) -> None:
    """Parse a line of OpenAI's server-sent events ("Chat completions", "Streaming"); usage comes
    in a chunk of its own before `[DONE]`."""
    chunk = event_of(answer, line)
    if chunk is DONE:
        _openai_end(answer, at)
    if not isinstance(chunk, dict):
        return
    if answer.error is not None or "error" in chunk or "choices" not in chunk:
        answer.error = failure_of(chunk, answer.error)
    try:
        _read_choices(answer, chunk.get("choices") or (), at)
    except (AttributeError, TypeError) as error:
        raise ValueError("a chunk of the stream is not of the API") from error
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        answer.output_tokens = count_of(usage, "completion_tokens")
        answer.input_tokens = count_of(usage, "prompt_tokens")


def _read_choices(answer: Generation, choices: Iterable[Any], at: float) -> None:
    """Read what a chunk brings. Raises AttributeError, TypeError if that is not of the API."""
    for choice in choices:
        delta = choice.get("delta") or {}
        if delta.get("content"):
            answer.chunks.append(at)
        else:
            _read_other(answer, delta, at)
        if choice.get("finish_reason"):
            _read_finish(answer, choice)


def _read_other(answer: Generation, delta: JsonObject, at: float) -> None:
    """Read what is no text: a call of a tool or a refusal, which is an answer, too, and what the
    model thinks (under vLLM's and DeepSeek's keys)."""
    if delta.get("tool_calls") or delta.get("refusal"):
        answer.chunks.append(at)
    elif delta.get("reasoning") or delta.get("reasoning_content"):
        answer.think(at)


def _read_finish(answer: Generation, choice: JsonObject) -> None:
    answer.finish = text_of(choice, "finish_reason")
    if answer.finish in FAILED:
        answer.error = answer.error or f"the choice ended with {answer.finish!r}"


#: finish_reason of answers that failed half way: OpenRouter's and vLLM's words.
FAILED = ("error", "abort")


def _openai_end(answer: Generation, at: float) -> None:
    """The last event. If none before it was of an answer, there was none."""
    answer.end = at
    if not answer.chunks and not answer.output_tokens and answer.finish is None:
        answer.error = answer.error or "the stream holds no answer"


def failure_of(chunk: JsonObject, before: str | None) -> str | None:
    """Return the words of an event that says that the request failed; `before` if it does not.

    OpenAI's shape is {"error": …}; vLLM's of old {"object": "error", "message": …}; FastAPI's
    {"detail": …}. After a line `event: error` any data is one.
    """
    if chunk.get("error") not in NO_ERROR:
        return error_words(chunk["error"])
    if before == _ERROR_EVENT or "choices" not in chunk:
        words = chunk.get("message") or chunk.get("detail")
        if words:
            return error_words(words)
    return before or (_ERROR_EVENT if chunk.get("object") == "error" else None)


_ERROR_EVENT = "the server sent an event that is an error"


def event_of(answer: Generation, line: bytes) -> JsonObject | bytes | None:
    """Return what the event says that is whole with this line (HTML, "Interpreting an event
    stream"): an object, or DONE; None if there is none. Comments and other fields mean nothing.

    Of the lines of one event the data is joined; one line is all of it as a rule, and is taken
    before the empty line that ends the event.
    """
    if answer.held is not None or not line.startswith(_DATA):
        return _other_line(answer, line)
    data = line[len(_DATA) :].strip()
    if data == DONE:
        return DONE
    try:
        return object_of(data)
    except ValueError:
        answer.held = [data] if data else None
        return None


def _other_line(answer: Generation, line: bytes) -> JsonObject | bytes | None:
    """The same for what is not the first data of an event."""
    if not line:
        held, answer.held = answer.held, None
        return _joined(answer, held) if held else None
    if line.startswith(codecs.BOM_UTF8):
        return event_of(answer, line.removeprefix(codecs.BOM_UTF8))
    if line.startswith(b"{"):
        return _no_event(line)
    if answer.held is not None and line.startswith(_DATA):
        answer.held.append(line[len(_DATA) :].strip())
    elif line.startswith(_EVENT) and line[len(_EVENT) :].strip() == b"error":
        answer.error = _ERROR_EVENT
    return None


def _joined(answer: Generation, held: Sequence[bytes]) -> JsonObject | None:
    """The data of an event that came in several lines; that of an error may be any text."""
    data = b"\n".join(held)
    if answer.error != _ERROR_EVENT:
        return object_of(data)
    try:
        return object_of(data)
    except ValueError:
        answer.error = data.decode("utf-8", "replace")
        return None


def _no_event(line: bytes) -> JsonObject:
    """An object in place of a stream: an error, of which that is all. Raises ValueError if it
    is none."""
    chunk = object_of(line)
    if failure_of(chunk, None) is None:
        raise ValueError("a line of the stream is no event")
    return chunk


OPENAI = Engine(
    path=CHAT,
    body_of=_body_of,
    parse_line=openai_line,
    facts=_facts,
    ready=_ready,
    root_of=_root_of,
    chat=Chat(CHAT, _chat_body_of),
    usual_root=_USUAL_ROOT,
    events=True,
    key_variable="OPENAI_API_KEY",
)
