"""Ollama's own API (docs/api.md of Ollama): its paths, what it says of itself and of its models,
and how it answers.

An answer is streamed as NDJSON. A chunk of a stream is not a token: it may carry several or, when a
character is not complete yet, none. So tokens are counted by the server, at the end of the stream,
and never by chunks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from contracts.errors import ServiceError
from contracts.job_files import DEFAULT_PORTS
from contracts.json_object import JsonObject
from engines.engine import BadUrl, Chat, Engine, Facts, LoadedModel, without_end
from engines.json_values import (
    NO_ERROR,
    count_of,
    error_words,
    keys_before,
    object_of,
    seconds_of,
    text_of,
)
from engines.names import entry_of, listed_as, loaded_entry

if TYPE_CHECKING:
    from contracts.conversations import CalledFunction, Conversation
    from contracts.generation import Generation
    from contracts.load import LoadSpec
    from engines.engine import Ask, BodyParts, Get

GENERATE, CHAT = "/api/generate", "/api/chat"
EMBED, SHOW = "/api/embed", "/api/show"
#: What it says of itself: its version, the models that it has, and those in memory.
VERSION, TAGS, RUNNING = "/api/version", "/api/tags", "/api/ps"
#: Its statuses when its queue is full, and when it does not have the model.
QUEUE_FULL, NO_SUCH_MODEL = 503, 404

# --- requests ------------------------------------------------------------------------------------


def one_token(model: str) -> JsonObject:
    """Return the body of a request that shows whether the model answers, for GENERATE."""
    return {"model": model, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}


def embed_body(model: str, texts: Sequence[str], truncate: bool) -> JsonObject:
    """Return the body of a request for a vector of each text, for EMBED; without `truncate` one
    that is longer than the model reads is refused."""
    return {"model": model, "input": list(texts), "truncate": truncate}


#: Keys of a request itself; all others are among its options.
_OWN_KEYS = ("think", "format", "keep_alive")


def body_of(model: str, load: LoadSpec, more: str = "") -> BodyParts:
    """Return a streamed request for GENERATE; `more`: keys before others."""
    return _streamed("prompt", model, load, more)


def _chat_body_of(model: str, load: LoadSpec) -> BodyParts:
    """A streamed request for CHAT, of which no message is to be dropped for want of room."""
    return _streamed("messages", model, load, '"truncate": false, ')


def _encoded(conversation: Conversation) -> bytes:
    """A tool's answer names the tool, not the call; a call has no text of JSON, but an object."""
    names: dict[str | None, str] = {}
    messages = []
    for message in conversation.messages:
        said: dict[str, object] = {"role": message.role, "content": message.content or ""}
        if message.tool_calls:
            names |= {call.id: call.function.name for call in message.tool_calls}
            said["tool_calls"] = [_call(call.function) for call in message.tool_calls]
        if message.role == "tool":
            said["tool_name"] = names.get(message.tool_call_id, "")
        messages.append(said)
    return conversation.encoded(messages)


def _call(called: CalledFunction) -> JsonObject:
    return {"function": {"name": called.name, "arguments": json.loads(called.arguments)}}


def _streamed(asked: str, model: str, load: LoadSpec, more: str) -> BodyParts:
    own = {name: value for name, value in load.extras.items() if name in _OWN_KEYS}
    limit = {} if load.num_predict is None else {"num_predict": load.num_predict}
    others = {name: value for name, value in load.extras.items() if name not in own}
    options = keys_before({**limit, **others})
    return (
        f'{{"model": {json.dumps(model)}, "{asked}": '.encode(),
        f', "stream": true, {more}{keys_before(own)}"options": {{{options}"seed": '.encode(),
        b"}}",
    )


def _root_of(path: str) -> str:
    if path.endswith(("/v1", "/v1/chat/completions", "/v1/models")):
        raise BadUrl("is OpenAI's API: give --api openai")
    return without_end(path, (GENERATE, CHAT, TAGS, "/api"))


# --- what it says of itself ----------------------------------------------------------------------


def loaded_model(entry: JsonObject) -> LoadedModel:
    """Return an entry of RUNNING; what is not of its kind counts as not said."""
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    return LoadedModel(
        name=text_of(entry, "name"),
        digest=text_of(entry, "digest"),
        quantization=text_of(details, "quantization_level"),
        parameters=text_of(details, "parameter_size"),
        size=count_of(entry, "size"),
        size_vram=count_of(entry, "size_vram"),
        context_length=count_of(entry, "context_length"),
    )


def ollama_facts(get: Get, root: str, model: str) -> Facts:
    """Return the facts of a server at `root`, on a model in its memory under whatever name."""
    version = text_of(get(f"{root}{VERSION}"), "version")
    if version is None:  # it is gone: not to be waited for a second time
        return Facts()
    running = get(f"{root}{RUNNING}")
    found = entry_of(running, model)
    found = found or loaded_entry(get(f"{root}{TAGS}"), running, model)
    return Facts(version, loaded_model(found or {}))


def _ready(ask: Ask, root: str, model: str, name: str) -> Facts | str:
    """It lists the model (that one, not any), answers a request for one token, and says where the
    model sits."""
    tags = ask(f"{root}{TAGS}").json
    if entry_of(tags, model) is None:
        return f"{name} does not list {model} yet"
    answer = ask(f"{root}{GENERATE}", one_token(model))
    if answer.status != 200:
        raise ServiceError(f"{name} cannot answer with {model}: {answer.error}.")
    loaded = loaded_entry(tags, ask(f"{root}{RUNNING}").json, model)
    if loaded is None:
        return f"{model} is not in memory yet"
    return Facts(text_of(ask(f"{root}{VERSION}").json, "version"), loaded_model(loaded))


def same_precision(asked: str, quantization: str) -> bool:
    """Return whether what people call a precision and Ollama's quantisation mean the same.

    Ollama writes F16, BF16, F32, Q4_0, Q4_K_M, …; people write fp16, float16, int8, q4.
    """
    aliases = {"fp16": "f16", "float16": "f16", "half": "f16", "fp32": "f32", "float32": "f32"}
    aliases |= {"bfloat16": "bf16", "int8": "q8", "int4": "q4", "8bit": "q8", "4bit": "q4"}
    wanted = aliases.get(asked.lower(), asked.lower())
    found = quantization.lower()
    return found == wanted or found.startswith(wanted + "_")


# --- answers -------------------------------------------------------------------------------------

#: How a line ends that is not the last.
UNFINISHED = b',"done":false}'
_BEGIN = b'{"model":"'
_TEXT, _THOUGHT = b'"response":"', b'"thinking":"'
_TEXT_LENGTH = len(_TEXT)
_QUOTE = ord('"')
_ERROR = b'"error":'


def ollama_line(answer: Generation, line: bytes, at: float) -> None:
    """Parse a line of a stream ("Generate a completion", "Generate a chat completion").

    All lines but the last begin and end alike, as Go's encoder writes them; they need no more than
    a look, since in JSON no text can hold a quote that is not escaped.
    """
    if line.endswith(UNFINISHED) and line.startswith(_BEGIN):
        text = line.find(_TEXT)
        if text > 0 and line.find(_ERROR, text) < 0:
            if line[text + _TEXT_LENGTH] != _QUOTE:
                answer.chunks.append(at)
                return
            if line.find(_THOUGHT, text) > 0:
                answer.think(at)
                return
    chunk = object_of(line)
    said, thought = _said(chunk)
    if said:
        answer.chunks.append(at)
    elif thought:
        answer.think(at)
    if is_final(chunk):
        _ollama_end(answer, chunk, at)
    error = error_of(chunk)
    if error is not None:
        answer.error = error


def _said(chunk: JsonObject) -> tuple[object, object]:
    """What a chunk brings of the answer, text or calls of tools, and of what the model thinks."""
    message = chunk.get("message")
    if isinstance(message, dict):
        return message.get("content") or message.get("tool_calls"), message.get("thinking")
    return chunk.get("response"), chunk.get("thinking")


def _ollama_end(answer: Generation, chunk: JsonObject, at: float) -> None:
    """The final chunk; one that ends a request to load the model is no answer to a prompt."""
    answer.end, answer.finish = at, text_of(chunk, "done_reason")
    read_counts(answer, chunk)
    answer.in_one_piece = bool(_said(chunk)[0]) and len(answer.chunks) == 1
    if answer.finish in _NO_ANSWER and not answer.chunks:
        answer.error = f"the server answered nothing ({answer.finish})"


#: done_reason of what only moves the model into memory or out of it.
_NO_ANSWER = ("load", "unload")


def input_tokens_of(final: JsonObject) -> int | None:
    """Return the tokens of the prompt that a final chunk or whole answer tells."""
    return count_of(final, "prompt_eval_count")


def read_counts(answer: Generation, final: JsonObject) -> Generation:
    """Read tokens and durations of a final chunk or whole answer into `answer`; return that."""
    answer.output_tokens = count_of(final, "eval_count")
    answer.input_tokens = input_tokens_of(final)
    answer.load = seconds_of(final, "load_duration")
    answer.prefill = seconds_of(final, "prompt_eval_duration")
    answer.decode = seconds_of(final, "eval_duration")
    answer.total = seconds_of(final, "total_duration")
    return answer


def is_final(chunk: JsonObject) -> bool:
    """Return whether a chunk is the last of a stream, or an answer is whole."""
    return bool(chunk.get("done"))


def may_be_final(lines: bytes) -> bool:
    """Return whether one of these lines may be the last one, without parsing any."""
    return b'"done":true' in lines or b'"done": true' in lines


def error_of(chunk: JsonObject) -> str | None:
    """Return why it fails, in Ollama's words; None if it does not."""
    error = chunk.get("error")
    return None if error in NO_ERROR else error_words(error)


def error_in(lines: bytes) -> str | None:
    """Return the same for whole lines of a stream, wherever it stands: a text cannot hold such a
    key, since its quotes are escaped."""
    if _ERROR not in lines:
        return None
    for line in lines.split(b"\n"):
        try:
            error = error_of(object_of(line)) if _ERROR in line else None
        except (ValueError, RecursionError):
            continue  # what it is, is said at the end
        if error is not None:
            return error
    return None


def is_whole(last_line: bytes) -> bool:
    """Return whether a stream with this last line has come to its end."""
    try:
        return is_final(object_of(last_line))
    except (ValueError, RecursionError):
        return False


OLLAMA = Engine(
    path=GENERATE,
    body_of=body_of,
    parse_line=ollama_line,
    facts=ollama_facts,
    ready=_ready,
    root_of=_root_of,
    usual_port=DEFAULT_PORTS["ollama"],
    chat=Chat(CHAT, _chat_body_of, _encoded),
    key_variable="OLLAMA_API_KEY",
    listed_as=listed_as,
)
