"""The prompt that a question becomes: the sources by number, and what to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retrieval.chunks import with_heading

if TYPE_CHECKING:
    from retrieval.store import Hit

INSTRUCTION = (
    "Answer the question from the numbered sources below. After each statement give the number of "
    "its source in brackets, such as [1]. If the sources do not answer the question, say so."
)


def build(question: str, hits: Sequence[Hit]) -> str:
    """Return the prompt for `question`; source n is `hits[n - 1]`."""
    sources = [f"[{n}] {with_heading(hit.heading, hit.text)}" for n, hit in enumerate(hits, 1)]
    listed = "\n\n".join(sources) or "(There are none.)"
    return f"{INSTRUCTION}\n\nSources:\n\n{listed}\n\nQuestion: {question}\n\nAnswer:"
