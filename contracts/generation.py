"""What the stream of one request said."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Generation:
    """What the stream of one request said. Times are time.perf_counter() seconds.

    `chunks`: arrival of each chunk with text; the first `thoughts` of them hold what the model
    thinks before it answers. `end`: arrival of the final chunk; `finish`: why it was the last, in
    the server's word; `in_one_piece`: it has all of the text. Counts and durations are the server's
    own, durations in seconds; None if it did not say. `embed` and `search` are what retrieval
    took before the model was asked. `held`: the data of an event whose other lines are still to
    come.

    Of lines that are read together all but the last came earlier than stamped, by up to as much as
    we were late to read them. `unsure` is the number of chunks that came so, `unsure_first` whether
    the first one did; `unsure_end`: the final chunk has no stamp of the kernel.
    """

    chunks: array[float] = field(default_factory=lambda: array("d"))
    thoughts: int = 0
    end: float | None = None
    finish: str | None = None
    in_one_piece: bool = False
    output_tokens: int | None = None
    input_tokens: int | None = None
    embed: float | None = None
    search: float | None = None
    load: float | None = None
    prefill: float | None = None
    decode: float | None = None
    total: float | None = None
    error: str | None = None
    held: list[bytes] | None = None
    unsure: int = 0
    unsure_first: bool = False
    unsure_end: bool = False

    def think(self, at: float) -> None:
        """Add a chunk of what the model thinks; among the text of the answer it is like it."""
        if self.thoughts == len(self.chunks):
            self.thoughts += 1
        self.chunks.append(at)

    @property
    def spoke(self) -> float | None:
        """Arrival of the first chunk of the answer itself; None if there is thinking alone."""
        return self.chunks[self.thoughts] if self.thoughts < len(self.chunks) else None

    def not_sure(self, before: int) -> None:
        """Mark the chunks that were added since there were `before` as not sure."""
        number = len(self.chunks) - before
        self.unsure += number
        self.unsure_first = self.unsure_first or (before == 0 and number > 0)
