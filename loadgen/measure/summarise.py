"""The figures of a run, made of what was recorded.

Definitions stand in DEFINITIONS, which goes into every summary, so that a figure is never read
without them; docs/measurement.md says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from contracts.figures import FIGURES, e2e, tpot
from contracts.summary import (
    STEPS,
    Client,
    Concurrency,
    Distribution,
    EnergyUsed,
    Goodput,
    LoadAsked,
    OutageTimes,
    PromptsUsed,
    ReplicaShare,
    RequestCounts,
    Seconds,
    Summary,
    Throughput,
)
from engines.registry import RETRIEVAL
from loadgen.measure.definitions import DEFINITIONS
from loadgen.measure.prompt_cut import out_of_room
from loadgen.measure.stats import concurrency, distribution, some
from loadgen.measurements import INTERRUPTED, Measured, Outage, RequestRecord
from loadgen.options import Options


@dataclass(frozen=True)
class Window:
    """The time in which the load was what was asked for, as times of perf_counter."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin

    def has(self, record: RequestRecord) -> bool:
        """Return whether a request began in it."""
        return record.started_at is not None and self.begin <= record.started_at < self.end

    def share(self, begin: float, end: float) -> float:
        """Return the part of the time from `begin` to `end` that lies in it."""
        if end <= begin:
            return 1.0 if self.begin <= end <= self.end else 0.0
        return max(0.0, min(end, self.end) - max(begin, self.begin)) / (end - begin)


def window_of(measured: Measured, options: Options) -> Window:
    """Return the window of a run; DEFINITIONS has the rule."""
    end = _window_end(measured, options)
    begin = measured.start
    if options.open_loop:
        typical = distribution(e2e(r) for r in measured.records if r.error is None).p50 or 0.0
        if typical <= (end - begin) / 2:
            begin += typical
    return Window(begin, end)


def _window_end(measured: Measured, options: Options) -> float:
    ends = [record.end for record in measured.records if record.end is not None]
    last = max(ends, default=measured.start)
    idle = [part.idle_from for part in measured.parts if part.idle_from is not None]
    if not idle:
        return last
    return max(measured.start, min(last, max(idle) if options.open_loop else min(idle)))


def summarise(measured: Measured, options: Options) -> Summary:
    """Return all figures of a run; what is to be said of them is not in it yet."""
    records, window, prompts = measured.records, window_of(measured, options), options.prompts
    whole = [record for record in records if record.error is None]
    counted = [record for record in whole if window.has(record)]
    seconds = _seconds(measured, window)
    return Summary(
        partial=measured.stopped is not None,
        stopped=measured.stopped,
        load=_load(options),
        requests=_requests(measured, options, whole, len(counted)),
        replicas=[_replica(url, measured) for url in measured.urls],
        seconds=seconds,
        concurrency=_concurrency(measured, options, window),
        latency_seconds={
            figure.key: distribution(value for r in counted for value in figure.values(r))
            for figure in FIGURES
        },
        throughput=_throughput(whole, window),
        per_request={
            "output_tokens_per_second": distribution(1 / t for r in counted if (t := tpot(r))),
        },
        goodput=_goodput(measured, options, window),
        server_seconds=_server(counted),
        server_rates=_server_rates(counted),
        energy=_energy(measured, whole),
        connect_seconds=distribution(record.connect for record in records),
        prompts=PromptsUsed(
            prompts.source, prompts.distinct, prompts.input_tokens_asked, prompts.note
        ),
        client=_client(measured, options, seconds.whole, counted),
        definitions=DEFINITIONS,
    )


def _load(options: Options) -> LoadAsked:
    asked = {
        "mode": "open" if options.open_loop else "closed",
        "clients": None if options.open_loop else options.clients,
        "rate": options.rate,
        "arrivals": options.arrivals if options.open_loop else None,
        "max_concurrency": options.max_concurrency,
        "requests": options.requests,
        "duration_seconds": options.duration_seconds,
        "num_predict": options.num_predict,
        "through": None if options.api == RETRIEVAL else options.through or "engines",
        **options.extras,
        "processes": options.workers,
        "reuse_connections": options.reuse_connections,
    }
    return cast("LoadAsked", asked)


def _seconds(measured: Measured, window: Window) -> Seconds:
    last = max((r.end for r in measured.records if r.end is not None), default=measured.start)
    return Seconds(
        measured=window.seconds,
        total=last - measured.start,
        ramp_up=window.begin - measured.start,
        drain=max(0.0, last - window.end),
        warmup=measured.warmup_seconds,
    )


def _requests(
    measured: Measured, options: Options, whole: Sequence[RequestRecord], counted: int
) -> RequestCounts:
    errors = Counter(record.error for record in measured.records if record.error)
    interrupted = errors.pop(INTERRUPTED, 0)
    started = len(measured.records)
    return RequestCounts(
        planned=started if options.requests is None else options.requests,
        started=started,
        succeeded=len(whole),
        failed=sum(errors.values()),
        interrupted=interrupted,
        retried=sum(record.retried_from is not None for record in measured.records),
        without_tokens=sum(not record.answer.output_tokens for record in whole),
        thinking=sum(record.answer.thoughts > 0 for record in whole),
        thinking_alone=sum(r.answer.thoughts > 0 and r.answer.spoke is None for r in whole),
        out_of_room=out_of_room(measured, options),
        finished=_by_name(record.answer.finish for record in whole),
        errors=dict(sorted(errors.items())),
        counted=counted,
    )


def _by_name(names: Iterable[str | None]) -> dict[str, int]:
    """How often each comes."""
    return dict(sorted(Counter(name for name in names if name is not None).items()))


def _replica(url: str, measured: Measured) -> ReplicaShare:
    mine = [record for record in measured.records if record.replica == url]
    away = sum(record.retried_from == url for record in measured.records)
    whole = [record for record in mine if record.error is None]
    outages = [o for part in measured.parts for o in part.outages if o.url == url]
    return ReplicaShare(
        url=url,
        requests=len(mine) + away,
        succeeded=len(whole),
        failed=sum(record.error not in (None, INTERRUPTED) for record in mine),
        retried_away=away,
        output_tokens=sum(record.answer.output_tokens or 0 for record in whole),
        outages=[_outage(outage, measured.start) for outage in outages],
    )


def _outage(outage: Outage, start: float) -> OutageTimes:
    end = None if outage.end is None else max(0.0, outage.end - start)
    return {"from": max(0.0, outage.begin - start), "to": end, "why": outage.why}


def _concurrency(measured: Measured, options: Options, window: Window) -> Concurrency:
    spans = [(r.sent, r.end) for r in measured.records if r.sent is not None and r.end is not None]
    asked = None if options.open_loop else options.clients
    return Concurrency(asked, *concurrency(spans, window.begin, window.end))


def _throughput(whole: Sequence[RequestRecord], window: Window) -> Throughput:
    shares = [
        window.share(r.sent, r.end) for r in whole if r.sent is not None and r.end is not None
    ]

    def rate(counts: Iterable[int | None]) -> float | None:
        known = [c * share for c, share in zip(counts, shares, strict=True) if c is not None]
        return sum(known) / window.seconds if known and window.seconds > 0 else None

    return Throughput(
        requests_per_second=rate(1 for _ in whole),
        output_tokens_per_second=rate(record.answer.output_tokens for record in whole),
        input_tokens_per_second=rate(record.answer.input_tokens for record in whole),
    )


def _goodput(measured: Measured, options: Options, window: Window) -> Goodput | None:
    if not options.goodput:
        return None
    started = [record for record in measured.records if window.has(record)]
    good = sum(_is_good(record, options.goodput) for record in started)
    return Goodput(
        slo=options.goodput,
        share=good / len(started) if started else None,
        requests_per_second=good / window.seconds if window.seconds > 0 else None,
    )


def _is_good(record: RequestRecord, slo: Mapping[str, float]) -> bool:
    if record.error is not None:
        return False
    values = [(figure.of(record), slo[figure.key]) for figure in FIGURES if figure.key in slo]
    return all(value is not None and value <= limit for value, limit in values)


def _server(whole: Sequence[RequestRecord]) -> dict[str, Distribution]:
    return {
        **{step: distribution(getattr(r.answer, step) for r in whole) for step in STEPS},
        "queue": distribution(record.queue for record in whole),
    }


def _server_rates(whole: Sequence[RequestRecord]) -> dict[str, Distribution]:
    def rates(pairs: Iterable[tuple[int | None, float | None]]) -> Distribution:
        return distribution(count / seconds for count, seconds in pairs if count and seconds)

    answers = [record.answer for record in whole]
    return {
        "prefill_tokens_per_second": rates((a.input_tokens, a.prefill) for a in answers),
        "decode_tokens_per_second": rates((a.output_tokens, a.decode) for a in answers),
    }


def _energy(measured: Measured, whole: Sequence[RequestRecord]) -> EnergyUsed:
    energy, tokens = measured.energy, sum(record.answer.output_tokens or 0 for record in whole)
    known = energy.joules is not None and tokens > 0
    return EnergyUsed(
        joules=energy.joules,
        joules_per_output_token=energy.joules / tokens if energy.joules and known else None,
        source=energy.source,
        why=energy.why,
    )


def _client(
    measured: Measured, options: Options, seconds: float, counted: Sequence[RequestRecord]
) -> Client:
    lags = [lag for part in measured.parts for lag in part.lags]
    pauses = [pause for part in measured.parts for pause in part.pauses]
    cpu = [part.cpu_seconds for part in measured.parts]
    return Client(
        processes=options.workers,
        cpu_seconds=sum(cpu),
        cpu_share=max(cpu, default=0.0) / seconds if seconds > 0 else None,
        dispatch_delay_seconds=some(
            (record.dispatch_delay for record in measured.records), "mean", "p50", "p99", "max"
        ),
        loop_lag_seconds=some(lags, "mean", "p50", "p90", "p95", "p99", "max", "n"),
        gc_pause_seconds={"max": max(pauses, default=0.0), "total": sum(pauses)},
        unsure=_unsure(counted),
    )


def _unsure(counted: Sequence[RequestRecord]) -> dict[str, float | None]:
    """Of the first chunks, of all chunks (by their gaps) and of the ends."""
    answers = [record.answer for record in counted]
    gaps = sum(max(0, len(answer.chunks) - 1) for answer in answers)

    def share(number: int, of: int) -> float | None:
        return min(1.0, number / of) if of else None

    return {
        "ttft": share(sum(answer.unsure_first for answer in answers), len(answers)),
        "itl": share(sum(answer.unsure for answer in answers), gaps),
        "e2e": share(sum(answer.unsure_end for answer in answers), len(answers)),
    }
