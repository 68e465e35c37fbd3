"""Names of models, as Ollama reads and lists them (its types/model/name.go).

`library/mistral`, `registry.ollama.ai/library/Mistral:latest` and `mistral` are one model, which
Ollama lists as `mistral:latest`; upper and lower case are the same to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from contracts.json_object import JsonObject

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
#: Web pages of models, which serve no models.
_PAGES = ("ollama.com", "www.ollama.com")
_SIGNS = {"host": "-_.:", "namespace": "-_", "model": "-_.", "tag": "-_."}
_LONGEST = {"host": 350, "namespace": 80, "model": 80, "tag": 80}


class BadName(ValueError):
    """A text that Ollama takes for no name of a model; says why."""


@dataclass(frozen=True)
class Name:
    """A name with all of its parts."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """The shortest form, as Ollama lists it; always with its tag."""
        short = f"{self.model}:{self.tag}"
        if self.host != HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == NAMESPACE else f"{self.namespace}/{short}"


def parse(text: str) -> Name:
    """Return the parts of a name, `[[HOST/]NAMESPACE/]MODEL[:TAG]`. Raises BadName."""
    if "@" in text:
        raise BadName(f"{text!r} has a digest, which Ollama takes in no name: give a tag instead")
    rest, tag = _split_tag(re.sub(r"^(?i:https?)://", "", text))
    *before, model = rest.split("/")
    if len(before) > 2:
        raise BadName(
            f"{text!r} has more parts than HOST/NAMESPACE/MODEL:TAG (of a hub the file is the tag: "
            f"{'/'.join(rest.split('/')[:3])}:{rest.split('/')[-1]})"
        )
    namespace = before.pop() if before else NAMESPACE
    host = before.pop() if before else HOST
    for part, value in (("host", host), ("namespace", namespace), ("model", model), ("tag", tag)):
        _check(text, part, value)
    tag = _default(tag, TAG)
    if host.lower() in _PAGES:
        page = Name(HOST, _default(namespace, NAMESPACE), model, tag)
        raise BadName(f"{text!r} is the address of a web page: write {page}")
    if host.lower() != HOST:
        return Name(host, namespace, model, tag)
    return Name(HOST, _default(namespace, NAMESPACE), model, tag)


def _split_tag(text: str) -> tuple[str, str]:
    """A colon before the last slash is of a port."""
    head, slash, last = text.rpartition("/")
    model, colon, tag = last.partition(":")
    return f"{head}{slash}{model}", tag if colon else TAG


def _default(part: str, default: str) -> str:
    return default if part.lower() == default else part


def _check(text: str, part: str, value: str) -> None:
    if not value:
        raise BadName(f"the {part} of {text!r} is empty")
    if len(value) > _LONGEST[part]:
        raise BadName(f"the {part} of {text[:60]!r}… is longer than {_LONGEST[part]} characters")
    signs = _SIGNS[part]
    if not re.fullmatch(rf"[A-Za-z0-9_][A-Za-z0-9{re.escape(signs)}]*", value):
        raise BadName(
            f"the {part} {value[:60]!r} must be made of letters, digits and {' '.join(signs)}, and "
            "begin with a letter, a digit or _"
        )


def short_name(text: str) -> str:
    """Return the form of a name in which Ollama lists the model. Raises BadName."""
    return str(parse(text))


@lru_cache(maxsize=256)  # each query asks it of the same names
def listed_as(text: str) -> str:
    """Return the same; a text that is no name stays what it is."""
    try:
        return short_name(text)
    except BadName:
        return text


def same_model(one: str, other: str) -> bool:
    """Return whether Ollama means the same model by both."""
    return listed_as(one).lower() == listed_as(other).lower()


def entry_of(listing: JsonObject, model: str, digest: object = None) -> JsonObject | None:
    """Return the entry of a model in what /api/tags or /api/ps lists: by its name, else by its
    digest, since a model that is in memory goes by the name under which it was loaded."""
    entries = list(entries_of(listing))
    named = (entry for entry in entries if same_model(str(entry.get("name")), model))
    alike = (entry for entry in entries if digest and entry.get("digest") == digest)
    return next(named, None) or next(alike, None)


def loaded_entry(tags: JsonObject, running: JsonObject, model: str) -> JsonObject | None:
    """Return the entry of a model in /api/ps, under whatever name of /api/tags it was loaded."""
    listed = entry_of(tags, model)
    return entry_of(running, model, listed and listed.get("digest"))


def entries_of(listing: JsonObject) -> Iterator[JsonObject]:
    """Yield what /api/tags or /api/ps lists."""
    models = listing.get("models")
    for entry in models if isinstance(models, list) else ():
        if isinstance(entry, dict):
            yield entry
