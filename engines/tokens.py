"""What can be known of a prompt's tokens without its tokenizer: whether a server read them all."""

from __future__ import annotations

import re

from engines.json_values import count_of, object_of, part_of, text_of

#: Tokens that a tokenizer makes at least of each word: one as a rule, as none of the usual ones has
#: tokens that reach over blanks; half of that, for those that do.
TOKENS_PER_WORD = 0.5
#: Shorter prompts fit any context: a server that tells fewer tokens counts in a way of its own.
MIN_WORDS = 100


def too_few(read: int, words: int, tokens_per_word: float = TOKENS_PER_WORD) -> bool:
    """Return whether so few tokens cannot be all of a prompt of so many words."""
    return words >= MIN_WORDS and read < words * tokens_per_word


#: Bytes of a text by its tokens, roughly: of English, in the usual vocabularies.
BYTES_PER_TOKEN = 4


def estimate(size: int, holds: int | None) -> int:
    """Return about how many tokens a text of so many bytes has, which is longer than a context that
    holds so many of them (None: that is not known)."""
    return max(size // BYTES_PER_TOKEN, (holds or 0) + 1)


#: What Ollama, OpenAI, vLLM, llama.cpp and our own client service say: whoever speaks one API may
#: pass on the words of a server of another.
_TOO_LONG = re.compile(
    r"context.length.exceeded|exceeds? the (available )?context|maximum context length|"
    r"exceeds maximum context|longer than the (maximum )?(model|context)|exceeds the max_model_len",
    re.IGNORECASE,
)
#: Lengths in the words of vLLM, of 0.32 and before, which may stop to count at one too many.
_VLLMS_LENGTHS = (
    re.compile(
        r"maximum context length is (?P<holds>\d+) tokens\. However, you(r prompt|r request)? "
        r"(requested|contains|has) (?P<tokens>(at least )?\d+) (input )?tokens"
    ),
    re.compile(r"Input length \((?P<tokens>\d+)\) exceeds.* context length \((?P<holds>\d+)\)"),
    re.compile(r"prompt length (?P<tokens>\d+) exceeds the max_model_len (?P<holds>\d+)"),
)


def told_lengths(refused: bytes) -> tuple[str, int] | None:
    """Return how many tokens a prompt has, such as `513` or `at least 513`, and how many the
    context holds, of the body of a refusal; None if it does not tell: llama.cpp's and vLLM's do."""
    try:
        error = part_of(object_of(refused), "error")
    except (ValueError, RecursionError):
        return None
    tokens, holds = count_of(error, "n_prompt_tokens"), count_of(error, "n_ctx")
    if tokens is not None and holds is not None:
        return str(tokens), holds
    words = text_of(error, "message") or ""
    found = next(filter(None, (shape.search(words) for shape in _VLLMS_LENGTHS)), None)
    return None if found is None else (found["tokens"], int(found["holds"]))


def says_too_long(error: str) -> bool:
    """Return whether a server refuses a text because it has more tokens than the model reads: none
    has another sign of it."""
    return _TOO_LONG.search(error) is not None
