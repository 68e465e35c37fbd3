"""Images, sounds and videos of a request: an engine that is not sealed would fetch them from
wherever a URL leads, and so ask others in the cluster for whoever sent it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from client.compatible.errors import BadRequest


def only_inline(prompt: object, param: str) -> None:
    """Raise BadRequest if a part of a prompt is to be fetched; `param` is the prompt's key."""
    for key, url in _urls(prompt):
        if not url.startswith("data:"):
            raise BadRequest(
                f"{param}: {key} must be a data: URL: nothing is fetched from elsewhere.",
                param,
                "invalid_value",
            )


def _urls(prompt: object) -> Iterator[tuple[str, str]]:
    """Each URL among its parts, with its key: OpenAI's `image_url` and the like, a text or an
    object with `url`; Anthropic's source of the type `url`."""
    left = [prompt]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            for key, value in part.items():
                url = value.get("url") if isinstance(value, Mapping) else value
                is_one = key.endswith("_url") or (key == "url" and part.get("type") == "url")
                if is_one and isinstance(url, str):
                    yield key, url
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
