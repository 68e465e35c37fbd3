"""What is asked: one text, the texts or conversations of a file, or a built-in set in which no
prompt begins as another does, so that the server's prefix cache does not flatter the time to the
first token."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from contracts.conversations import Conversation
from contracts.errors import UsageError
from contracts.json_object import JsonObject, load_finite
from contracts.knobs import DEFAULT_PROMPT, MAX_PROMPT_BYTES
from engines.engine import Chat
from loadgen import json_lines

_CACHED = (
    "requests share their prompts, so that a server with a prefix cache prefills each but once: "
    "TTFT and prefill are those of a cache that hits"
)
_VARIED = (
    "no prompt begins as another does, so that no prefix cache spares the prefill; the words are "
    "common ones of about a token each: server-counted input tokens are in requests.jsonl"
)


class Prompts(Protocol):
    """Prompts by the number of a request."""

    @property
    def source(self) -> str:
        """Where they come from."""

    @property
    def note(self) -> str:
        """What they mean for the figures."""

    @property
    def distinct(self) -> int | None:
        """How many there are; None: as many as requests."""

    @property
    def input_tokens_asked(self) -> int | None:
        """The length that was asked for, if one was."""

    @property
    def chat(self) -> bool:
        """Whether they are conversations, for the chat route of an engine."""

    def encoded(self, index: int) -> bytes:
        """Return the prompt of request `index` as a JSON string, or a conversation as its engine
        takes it."""

    def words(self, index: int) -> int:
        """Return how many words it has: what blanks divide."""


@dataclass(frozen=True)
class Texts:
    """These texts in turn; `conversations`: what they are of, as a chat route takes it."""

    texts: Sequence[str] = (DEFAULT_PROMPT,)
    source: str = "text"
    note: str = _CACHED
    input_tokens_asked: int | None = None
    conversations: Sequence[bytes] = ()

    @property
    def chat(self) -> bool:
        """Whether they are conversations."""
        return bool(self.conversations)

    @property
    def distinct(self) -> int:
        """How many there are."""
        return len(set(self._all))

    @cached_property
    def _all(self) -> Sequence[bytes]:
        return self.conversations or [json.dumps(text).encode() for text in self.texts]

    def encoded(self, index: int) -> bytes:
        """Return text `index` modulo their number, as a JSON string, or its conversation."""
        return self._all[index % len(self._all)]

    @cached_property
    def _words(self) -> list[int]:
        return [len(text.split()) for text in self.texts]

    def words(self, index: int) -> int:
        """Return the words of text `index` modulo their number."""
        return self._words[index % len(self._words)]


def texts_of(conversations: Sequence[Conversation], route: Chat) -> Texts:
    """Return these conversations, in turn, for a chat route."""
    said = ["\n".join(conversation.texts) for conversation in conversations]
    encoded = [route.encoded(conversation) for conversation in conversations]
    return Texts(said, source="messages", conversations=encoded)


@dataclass(frozen=True)
class Varied:
    """For each request a prompt of its own, `input_tokens_asked` words long, by its number and the
    seed. The words follow each other as in one long shuffled text, each time from another place."""

    input_tokens_asked: int
    seed: int
    source: str = "built-in"
    note: str = _VARIED
    distinct: None = None
    chat: bool = False

    @cached_property
    def _words(self) -> list[str]:
        drawn = random.Random(self.seed)
        return drawn.choices(_VOCABULARY, k=2 * self.input_tokens_asked + _PLACES)

    def encoded(self, index: int) -> bytes:
        """Return a beginning of its own, and words from a place that few others have."""
        head = _beginning(index + self.seed)
        length = max(0, self.input_tokens_asked - len(head))
        place = index * _STEP % (len(self._words) - length)
        words = head[: self.input_tokens_asked] + self._words[place : place + length]
        return json.dumps(" ".join(words)).encode()

    def words(self, index: int) -> int:
        """Return as many as tokens were asked for."""
        return self.input_tokens_asked


# Places to begin from beyond the length, and a step that is prime to most lengths.
_PLACES, _STEP = 4096, 1597
_DIGITS = 3


def _beginning(number: int) -> list[str]:
    """A number written in words as digits, the lowest first; three of them reach for a million."""
    words: list[str] = []
    while number or len(words) < _DIGITS:
        number, digit = divmod(number, len(_VOCABULARY))
        words.append(_VOCABULARY[digit])
    return words


_TEXT = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line "
    "end member law car city community name president team minute idea kid body information back "
    "parent face others level office door health person art war history party result change "
    "morning reason research girl guy moment air teacher force education"
)
_VOCABULARY = list(dict.fromkeys(_TEXT.split()))


def check_prompt(prompt: str) -> str:
    """Return `prompt` if it can be sent. Raises UsageError."""
    size = len(prompt.encode("utf-8", "surrogatepass"))
    if not 0 < size <= MAX_PROMPT_BYTES:
        raise UsageError(f"a prompt has {size} bytes, but must have 1 to {MAX_PROMPT_BYTES}.")
    return prompt


def read_prompts(path: Path) -> tuple[str | Conversation, ...]:
    """Return the prompts of a JSON Lines file: each line a string, an object with "prompt", or one
    with "messages", and perhaps "tools".

    Raises UsageError naming the file and the line.
    """
    try:
        prompts = tuple(
            _prompt_of(line, f"--prompts {path}, line {number}")
            for number, line in json_lines.numbered(path)
        )
    except OSError as error:
        raise UsageError(f"--prompts {path} cannot be read: {error}.") from error
    if not prompts:
        raise UsageError(f"--prompts {path} holds no prompt.")
    return prompts


def _prompt_of(line: bytes, where: str) -> str | Conversation:
    try:
        value = load_finite(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    if isinstance(value, dict) and "messages" in value:
        return _conversation_of(value, where, len(line))
    if isinstance(value, dict):
        value = value.get("prompt")
    if not isinstance(value, str):
        raise UsageError(
            f'{where} is neither a string nor an object with a string "prompt" or with "messages".'
        )
    return check_prompt(value)


def _conversation_of(value: JsonObject, where: str, size: int) -> Conversation:
    if "prompt" in value:
        raise UsageError(f'{where} has both "prompt" and "messages".')
    if size > MAX_PROMPT_BYTES:
        raise UsageError(f"{where} has {size} bytes, but must have at most {MAX_PROMPT_BYTES}.")
    try:
        return Conversation.read(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is no conversation: {error}.") from error
