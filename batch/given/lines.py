"""What a line of the input may be, and what is asked for it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic_core import from_json

from contracts.json_object import JsonObject, check_numbers
from ledger.conditions import fingerprint

#: Paths that may be asked, and what a body must have for each.
PATHS: Mapping[str, str] = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
    "/api/generate": "prompt",
    "/api/chat": "messages",
    "/api/embed": "input",
}
#: Those whose answer is no stream in any case.
_WITHOUT_STREAM = ("/v1/embeddings", "/api/embed")
#: Characters of a custom_id.
MOST_OF_AN_ID = 512
#: What a line with a prompt may say of how it is to be answered, as in OpenAI's chat completions.
_KNOBS = frozenset(
    (
        *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "seed"),
        *("stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"),
        *("logprobs", "top_logprobs", "response_format", "reasoning_effort"),
    )
)
_OF_A_PROMPT = ("prompt", "custom_id", "model", "system")
_OF_A_REQUEST = ("custom_id", "method", "url", "body")


class BrokenLine(ValueError):
    """What is wrong with a line, to follow its number."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One line, which gets one answer. `number`: of the line, from 1 on."""

    number: int
    custom_id: str
    path: str
    body: JsonObject

    @property
    def key(self) -> str:
        """Fingerprint of all that the line says; the model is what it says, if it does."""
        return fingerprint([self.custom_id, self.path, self.body])

    @property
    def names_model(self) -> bool:
        """Whether it says which model is to answer."""
        return "model" in self.body

    def request(self, model: str | None) -> bytes:
        """Return the body that is sent: with the batch's model if the line names none."""
        body = dict(self.body)
        if model is not None:
            body.setdefault("model", model)
        if self.path not in _WITHOUT_STREAM:
            body["stream"] = False  # Ollama streams otherwise
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def unit_of_text(number: int, line: bytes) -> Unit:
    """Return what is asked for a line of plain text. Raises BrokenLine."""
    try:
        return _of_prompt(number, {"prompt": line.decode()})
    except UnicodeDecodeError as error:
        raise BrokenLine(f"is not UTF-8 (byte {error.start + 1})") from error


def unit_of_json(number: int, line: bytes) -> Unit:
    """Return what is asked for a line of JSON. Raises BrokenLine."""
    try:
        given = from_json(line, allow_inf_nan=False)
        check_numbers(line)
    except ValueError as error:
        why = str(error).removesuffix(" at line 1").replace(" at line 1 column", " at column")
        raise BrokenLine(f"is no JSON ({why})") from error
    if not isinstance(given, dict):
        raise BrokenLine(f'is {_kind(given)}, but must be an object such as {{"prompt": …}}')
    if "body" in given or "url" in given:
        return _of_request(number, given)
    if "prompt" in given:
        return _of_prompt(number, given)
    raise BrokenLine('has neither "prompt" nor "url" and "body"')


def _of_request(number: int, given: JsonObject) -> Unit:
    """OpenAI's line of a batch."""
    _no_others(given, _OF_A_REQUEST)
    if "custom_id" not in given:
        raise BrokenLine('has no "custom_id"')
    method, path, body = given.get("method", "POST"), given.get("url"), given.get("body")
    if method != "POST":
        raise BrokenLine(f'has the method {_shown(method)}, but only "POST" is asked')
    if not isinstance(path, str) or path not in PATHS:
        raise BrokenLine(
            f"has the url {_shown(path)}, but must have one of {', '.join(PATHS)}"
            if "url" in given
            else 'has no "url"'
        )
    if not isinstance(body, dict):
        raise BrokenLine(
            f'has {_kind(body)} as its "body", but must have an object'
            if "body" in given
            else 'has no "body"'
        )
    if body.get(PATHS[path]) in (None, "", []):
        raise BrokenLine(f'has no "{PATHS[path]}" in its body, which {path} needs')
    if body.get("stream", False) is not False:
        raise BrokenLine('asks for a stream ("stream" in its body): leave that out')
    _check_model(body)
    return Unit(number, _custom_id(given, number), path, body)


def _of_prompt(number: int, given: JsonObject) -> Unit:
    """A prompt, as a chat of one message."""
    _no_others(given, (*_OF_A_PROMPT, *_KNOBS))
    prompt, system = given["prompt"], given.get("system")
    if not isinstance(prompt, str) or not prompt:
        raise BrokenLine(f'has {_kind(prompt)} as its "prompt", but must have a text')
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        if not isinstance(system, str):
            raise BrokenLine(f'has {_kind(system)} as its "system", but must have a text')
        messages.insert(0, {"role": "system", "content": system})
    rest = {k: v for k, v in given.items() if k in _KNOBS or k == "model"}
    _check_model(rest)
    body = {**rest, "messages": messages}
    return Unit(number, _custom_id(given, number), "/v1/chat/completions", body)


def _custom_id(given: JsonObject, number: int) -> str:
    found = given.get("custom_id", f"line-{number}")
    if not isinstance(found, str) or not found or len(found) > MOST_OF_AN_ID:
        raise BrokenLine(
            f'has {_kind(found)} as its "custom_id", but must have a text of 1 to {MOST_OF_AN_ID} '
            "characters"
        )
    return found


def _check_model(body: JsonObject) -> None:
    model = body.get("model", "named")
    if not isinstance(model, str) or not model:
        raise BrokenLine(f'has {_kind(model)} as its "model", but must have a name')


def _no_others(given: JsonObject, known: Iterable[str]) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f': did you mean "{near[0]}"?' if near else ""
            raise BrokenLine(f"has the unknown key {_shown(key)}{hint}")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if value else "an empty text"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list",
             dict: "an object"}  # fmt: skip
    return names.get(type(value), "null")
