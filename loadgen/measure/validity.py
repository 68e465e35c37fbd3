"""Whether a run's figures may be used: reasons against it, each with a code and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from contracts.summary import Summary, Validity
from engines.engine import placement
from loadgen.measure.notes import NOTES
from loadgen.measure.prompt_cut import cut_prompts
from loadgen.measure.self_check import own_faults
from loadgen.measure.stats import MAX_ERROR_RATE
from loadgen.measure.summarise import window_of
from loadgen.measurements import Measured, RequestRecord, ServerFacts
from loadgen.options import Options

#: Answers that are on average shorter than this share of what was asked for measure something else.
MIN_LENGTH, MAX_LENGTH = 0.5, 1.05
#: A server that finds its model loaded says so within milliseconds, a busy one within some tens or
#: hundreds; a load takes longer, much longer than that of others, and stops them.
LOADING_S, LOADING_FACTOR = 0.2, 10.0
#: An NTP step, a suspended machine, a server's clock that goes differently: seconds, and a share.
CLOCK_STEP_S, CLOCK_SHARE = 0.5, 0.05

Run = tuple[Summary, Measured, Options]


def judge(summary: Summary, measured: Measured, options: Options) -> Validity:
    """Return the verdict on a run."""
    run = (summary, measured, options)
    found = [(code, reason) for code, check in _CHECKS for reason in check(run)]
    return Validity(
        valid=not found,
        reasons=[reason for _, reason in found],
        codes=[code for code, _ in found],
        notes=[note for find in NOTES for note in find(summary)],
    )


# --- reasons ---


def _stopped(run: Run) -> Iterator[str]:
    summary, requests = run[0], run[0].requests
    if summary.stopped:
        of = f" of {requests.planned}" if requests.planned != requests.started else ""
        yield f"The run was stopped after {requests.completed}{of} requests: {summary.stopped}."


def _errors(run: Run) -> Iterator[str]:
    requests = run[0].requests
    completed = requests.completed
    classes = ", ".join(f"{n} {name}" for name, n in requests.errors.items())
    if not requests.succeeded:
        yield f"No request succeeded{f' ({classes})' if classes else ''}."
    elif requests.failed > MAX_ERROR_RATE * completed:
        yield (
            f"{requests.failed} of {completed} requests failed ({classes}); at most "
            f"{MAX_ERROR_RATE:.0%} may."
        )


def _no_tokens(run: Run) -> Iterator[str]:
    requests = run[0].requests
    if (requests.without_tokens or 0) > MAX_ERROR_RATE * requests.succeeded:
        yield (
            f"{requests.without_tokens} of {requests.succeeded} answers had no tokens, or "
            "their number is missing."
        )


def _no_text(run: Run) -> Iterator[str]:
    """Tokens that cannot be seen: a single one may be the mark of the end."""
    whole = [r for r in run[1].records if r.error is None]
    unseen = sum((r.answer.output_tokens or 0) > 1 and not r.answer.chunks for r in whole)
    if unseen > MAX_ERROR_RATE * len(whole):
        yield (
            f"{unseen} of {len(whole)} answers have tokens by the server's count, but no text that "
            "is known here."
        )


def _length(run: Run) -> Iterator[str]:
    _, measured, options = run
    counts = [r.answer.output_tokens for r in measured.records if r.error is None]
    known = [count for count in counts if count]
    asked = options.num_predict
    if asked is None or not known:
        return
    mean = sum(known) / len(known)
    if not MIN_LENGTH * asked <= mean <= MAX_LENGTH * asked:
        yield (
            f"Answers have {mean:.0f} tokens on average, but {asked} were asked for; ask for as "
            "many as the prompt needs (--num-predict), or take a prompt that needs more."
        )


def _changed(run: Run) -> Iterator[str]:
    measured = run[1]
    for before, after in zip(measured.servers_before, measured.servers_after, strict=True):
        if after.version is None:
            continue  # it does not answer: that it died is to be seen by its requests
        for name in ("version", "digest"):
            was, now = getattr(before, name), getattr(after, name)
            if was is not None and now != was:
                yield (
                    f"{before.url}: the {_NAMES[name]} was {was} before the run and is "
                    f"{now or 'not known'} after it."
                )


def _prompts(run: Run) -> Iterator[str]:
    _, measured, options = run
    yield from cut_prompts(measured, options)


_NAMES = {"version": "server's version", "digest": "loaded model"}


def _place(run: Run) -> Iterator[str]:
    _, measured, options = run
    for facts in measured.servers_before:
        where = sits_on(facts)
        if options.sits_on is not None and where is not None and where != options.sits_on:
            yield (
                f"{facts.url}: the model sits on {where} ({facts.size_vram} of {facts.size} bytes "
                f"in GPU memory), but was to sit on {options.sits_on}."
            )


def sits_on(facts: ServerFacts) -> str | None:
    """Return where a replica's model sits; None if it does not say."""
    if facts.size is None or facts.size_vram is None:
        return None
    return placement(facts.size, facts.size_vram)


def _loading(run: Run) -> Iterator[str]:
    measured = run[1]
    loads = sorted(r.answer.load for r in measured.records if r.answer.load is not None)
    if not loads:
        return
    long = max(LOADING_S, LOADING_FACTOR * loads[len(loads) // 10])
    suspects = [r for r in measured.records if (r.answer.load or 0.0) >= long]
    waited = [record for record in suspects if _nothing_came(measured, record)]
    if waited:
        yield (
            f"The model was loaded during the run: {len(waited)} requests waited for that, the "
            f"longest {max(r.answer.load or 0.0 for r in waited):.2f} s; keep it in memory "
            "(keep_alive), and warm up before measuring."
        )


def _nothing_came(measured: Measured, record: RequestRecord) -> bool:
    """Whether a replica gave nobody any text while a request waited for its model: a server that is
    merely busy goes on with the others."""
    answer = record.answer
    assert record.sent is not None and answer.load is not None
    begin = record.sent + (answer.embed or 0.0) + (answer.search or 0.0)
    end = begin + answer.load
    margin = (end - begin) / 4
    return not any(
        begin + margin < at < end - margin
        for other in measured.records
        if other.replica == record.replica
        for at in other.answer.chunks
    )


def _not_loaded(run: Run) -> Iterator[str]:
    """Ollama lists what is loaded; a server that lists nothing at all does not say."""
    measured = run[1]
    if not any(facts.digest for facts in measured.servers_before):
        return
    for facts in measured.servers_before:
        if facts.version is not None and facts.digest is None:
            yield f"{facts.url}: the model was not loaded when the measurement began."


def _stale(run: Run) -> Iterator[str]:
    """A replica that did not serve once is not there: its address is of something that was."""
    summary = run[0]
    if len(summary.replicas) < 2 or not summary.requests.succeeded:
        return
    for replica in summary.replicas:
        out = replica.outages
        if not replica.succeeded and out and out[0]["from"] == 0.0:
            yield (f"{replica.url} never answered: {out[0]['why']}; is the address still right?")


def _concurrency(run: Run) -> Iterator[str]:
    asked, most = run[0].concurrency.asked, run[0].concurrency.max
    if asked is not None and most < asked <= run[0].requests.planned:
        yield (
            f"At most {most} requests were in flight at once, but {asked} clients were asked for."
        )


def _short(run: Run) -> Iterator[str]:
    """A duration in which most clients did not get one answer has no steady state."""
    summary, measured, options = run
    if options.duration_seconds is None or summary.stopped:
        return
    end = window_of(measured, options).end
    within = sum(r.error is None and r.end is not None and r.end <= end for r in measured.records)
    if within < (options.clients or 1 if not options.open_loop else 1):
        yield (
            f"Only {within} answers came within the {options.duration_seconds:g} s of the run: "
            "measure for longer (--duration)."
        )


def _clock(run: Run) -> Iterator[str]:
    summary, measured, _ = run
    if abs(measured.clocks.get("wall_seconds_off", 0.0)) > CLOCK_STEP_S:
        yield (
            f"The machine's clock was set by {measured.clocks['wall_seconds_off']:+.2f} s during "
            "the run."
        )
    if measured.clocks.get("suspended_seconds", 0.0) > CLOCK_STEP_S:
        yield f"The machine slept for {measured.clocks['suspended_seconds']:.2f} s during the run."
    ahead = sum(_is_ahead(r.answer.total, r.sent, r.end) for r in measured.records)
    if ahead > MAX_ERROR_RATE * max(1, summary.requests.succeeded):
        yield (
            f"By the server's clock {ahead} requests took longer than by ours, although we also "
            "see the way there and back: one of the clocks goes wrong."
        )


def _is_ahead(total: float | None, sent: float | None, end: float | None) -> bool:
    if total is None or sent is None or end is None:
        return False
    return total - (end - sent) > max(0.005, CLOCK_SHARE * (end - sent))


def _generator(run: Run) -> Iterator[str]:
    yield from own_faults(run[0])


_CHECKS: tuple[tuple[str, Callable[[Run], Iterator[str]]], ...] = (
    ("stopped", _stopped),
    ("error_rate", _errors),
    ("no_tokens", _no_tokens),
    ("no_text", _no_text),
    ("output_length", _length),
    ("prompt_cut", _prompts),
    ("server_changed", _changed),
    ("model_place", _place),
    ("model_loading", _loading),
    ("model_not_loaded", _not_loaded),
    ("stale_endpoint", _stale),
    ("concurrency", _concurrency),
    ("too_short", _short),
    ("clock", _clock),
    ("load_generator", _generator),
)
