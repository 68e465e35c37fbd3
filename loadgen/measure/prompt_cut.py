"""Whether the servers read the prompts whole.

Ollama cuts a prompt that is longer than the model's context, and says nothing of it (`truncate` in
its docs/api.md); others refuse it. Either way the run did not measure what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engines.tokens import TOKENS_PER_WORD, says_too_long, too_few
from loadgen.measure.stats import MAX_ERROR_RATE
from loadgen.measurements import Measured, RequestRecord
from loadgen.options import Options

#: The same of the built-in prompts, whose words do not go together so often as to share a token.
BUILT_IN_TOKENS_PER_WORD = 0.9


def cut_prompts(measured: Measured, options: Options) -> Iterator[str]:
    """Yield a sentence for prompts that were cut, and one for those refused as too long."""
    whole = [r for r in measured.records if r.error is None]
    context = {facts.url: facts.context_length for facts in measured.servers_before}
    cut = [r for r in whole if _fills(r, context.get(r.replica))] or _too_few(whole, options)
    if len(cut) > MAX_ERROR_RATE * len(whole):
        holds = context.get(cut[0].replica)
        yield (
            f"{len(cut)} of {len(whole)} prompts were not read whole: of about "
            f"{_least(cut[0], options)} words the server read {cut[0].answer.input_tokens} tokens"
            f"{'' if holds is None else f', and its context holds {holds}'}; take a longer context "
            "(context_length) or shorter prompts."
        )
    refused = [r for r in measured.records if _is_refused(r)]
    if refused:
        yield (
            f"{len(refused)} prompts were refused as longer than the model's context: "
            f"{refused[0].message}; take a longer context (context_length) or shorter prompts."
        )


def out_of_room(measured: Measured, options: Options) -> int:
    """Return how many answers met the end of the context: they stop there, or, with Ollama, go on
    while the beginning of the prompt is dropped."""
    context = {facts.url: facts.context_length for facts in measured.servers_before}
    whole = [r for r in measured.records if r.error is None]
    return sum(_met_the_end(r, options.num_predict, context.get(r.replica)) for r in whole)


def _met_the_end(record: RequestRecord, asked: int | None, context: int | None) -> bool:
    answer = record.answer
    generated = answer.output_tokens or 0
    early = answer.finish == "length" and generated > 0 and (asked is None or generated < asked)
    return early or (context is not None and (answer.input_tokens or 0) + generated > context)


def _fills(record: RequestRecord, context: int | None) -> bool:
    """Whether the prompt leaves no room in the context: then that is all that was read of it, or
    the answer pushes its beginning out."""
    read = record.answer.input_tokens
    return read is not None and context is not None and read >= context > 0


def _too_few(whole: Sequence[RequestRecord], options: Options) -> list[RequestRecord]:
    """Those of which fewer tokens were read than their words can have.

    Old versions of Ollama count only what their cache had not: of requests with one and the same
    prompt the one counts of which most was read.
    """
    suspects = [r for r in whole if r.answer.input_tokens and _is_short(r, options)]
    if not suspects:
        return []
    encoded = options.prompts.encoded
    read = {encoded(r.index) for r in whole if r.answer.input_tokens and not _is_short(r, options)}
    return [record for record in suspects if encoded(record.index) not in read]


def _is_short(record: RequestRecord, options: Options) -> bool:
    built_in = options.prompts.source == "built-in"
    each = BUILT_IN_TOKENS_PER_WORD if built_in else TOKENS_PER_WORD
    return too_few(record.answer.input_tokens or 0, _least(record, options), each)


def _least(record: RequestRecord, options: Options) -> int:
    return options.prompts.words(record.index)


def _is_refused(record: RequestRecord) -> bool:
    status = record.http_status or 0
    return 400 <= status < 500 and says_too_long(record.message or "")
