"""The counts of tokens in answers of the APIs of OpenAI and Anthropic."""

from __future__ import annotations

from contracts.json_object import JsonObject
from engines.json_values import count_of, part_of

#: What has `usage`: a whole answer or a chunk itself; events of a response, and of a message.
_HOLDERS = ("response", "message")
#: Anthropic does not count as input what was read before.
_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def usage_in(said: JsonObject) -> JsonObject:
    """Return the counts that an answer or an event tells, under the names of a chat's."""
    parts = (part_of(holder, "usage") for holder in (said, *(part_of(said, k) for k in _HOLDERS)))
    usage = next(filter(None, parts), {})
    read, written = count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens")
    if read is None and "input_tokens" in usage:
        read = sum(count_of(usage, key) or 0 for key in _INPUT)
    if written is None:
        written = count_of(usage, "output_tokens")
    counts = {"prompt_tokens": read, "completion_tokens": written}
    return {name: count for name, count in counts.items() if count is not None}
