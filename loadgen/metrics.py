"""The figures of a run, made of what was recorded.

Definitions stand in DEFINITIONS, which goes into every summary, so that a figure is never read
without them; docs/measurement.md says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.options import Options
from loadgen.records import INTERRUPTED, Measured, Outage, Record
from loadgen.stats import concurrency, distribution, some

DEFINITIONS: Mapping[str, str] = {
    "clock": "time.perf_counter (CLOCK_MONOTONIC); arrival is the kernel's stamp on what came "
    "(SO_TIMESTAMPNS), brought to that clock, or the time of reading where there is none",
    "percentiles": "linear interpolation between order statistics (numpy's 'linear'); n/a where "
    "fewer than one value in the mean lies beyond",
    "std": "sample standard deviation (n - 1)",
    "window": "the time in which the load is what was asked for. Closed loop: from the common "
    "start to the moment at which the first client has nothing more to send. Open loop: from one "
    "median E2E after the start (until then fewer requests are in flight than later; from the "
    "start where that is more than half of the run) to the moment at which the next arrival would "
    "be due. With a duration: to its end",
    "counted": "latency, per-request and server figures count requests that began in the window "
    "and came whole, whenever they ended",
    "ttft": "to the first chunk with text, from the sending (closed loop; connections are opened "
    "beforehand, and connect time is recorded apart) or from the intended sending (open loop); "
    "where connections are not reused, from the begin of connecting",
    "itl": "gaps between successive chunks with text (a chunk may carry several tokens); chunks "
    "that arrive in one segment have a gap of 0",
    "e2e": "to the arrival of the final chunk, from where ttft counts",
    "tpot": "(e2e - ttft) / (output tokens - 1), by the server's own count of tokens",
    "throughput": "of requests that came whole, by seconds.measured; one that lies partly "
    "in the window counts, with its tokens, by the share of its time that lies in it",
    "per_request.output_tokens_per_second": "1 / tpot: the pace that one user sees while text "
    "comes; not the throughput",
    "seconds.measured": "the window's length; ramp_up: from the start to its begin; drain: from "
    "its end to the end of the last request",
    "server_seconds.queue": "sending to end, without load, prefill and decode: waiting for a slot, "
    "and the way there and back (Ollama's total_duration includes the wait); with --retrieval also "
    "without embed and search",
    "server_seconds.embed": "with --retrieval: the client service's time for the question's vector "
    "(waiting for Ollama included); search: for the nearest chunks; both lie before the model",
    "server_rates": "tokens by the server's own time for them, per request: input by prefill, "
    "output by decode",
    "goodput": "requests of the window that came whole and within each limit (itl: the mean gap), "
    "by all that began in it, and by seconds.measured",
    "energy.joules_per_output_token": "energy from start to the last end, by all output tokens",
    "replicas": "requests = succeeded + failed + interrupted + retried_away; retried_away: refused "
    "or cut before any byte of the answer, and sent once more, to another replica; its times "
    "count from its first sending, its queue is not known",
    "dispatch_delay": "actual sending - the earliest possible: its intended time, then a free slot "
    "(--max-concurrency) or a connection that stands; intended is, in a closed loop, the common "
    "start, then the end of the client's previous request",
    "client.unsure": "share of the arrivals that may be stamped late, by up to the loop_lag: of "
    "lines that are read together only the last one's stamp is known, and some systems have none",
    "loop_lag": "how late the program hears of an event whose time is known (a kernel timer, read "
    "as sockets are, every 10 ms on average; missed looks count)",
}


@dataclass(frozen=True)
class Window:
    """The time in which the load was what was asked for, as times of perf_counter."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin

    def has(self, record: Record) -> bool:
        """Whether a request began in it."""
        return record.began is not None and self.begin <= record.began < self.end

    def share(self, begin: float, end: float) -> float:
        """Of the time from `begin` to `end` that which lies in it."""
        if end <= begin:
            return 1.0 if self.begin <= end <= self.end else 0.0
        return max(0.0, min(end, self.end) - max(begin, self.begin)) / (end - begin)


def window_of(measured: Measured, options: Options) -> Window:
    """The window of a run; DEFINITIONS has the rule."""
    end = _window_end(measured, options)
    begin = measured.start
    if options.open_loop:
        typical = distribution(r.e2e for r in measured.records if r.error is None)["p50"] or 0.0
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


def summarise(measured: Measured, options: Options) -> dict[str, Any]:
    """All figures of a run, as summary.json has them; None where a figure is not known."""
    records, window = measured.records, window_of(measured, options)
    whole = [record for record in records if record.error is None]
    counted = [record for record in whole if window.has(record)]
    seconds = _seconds(measured, window)
    return {
        "partial": measured.stopped is not None,
        "stopped": measured.stopped,
        "load": _load(options),
        "requests": {**_requests(measured, options, whole), "counted": len(counted)},
        "replicas": [_replica(url, measured) for url in measured.urls],
        "seconds": seconds,
        "concurrency": _concurrency(measured, options, window),
        "latency_seconds": {
            "ttft": distribution(record.ttft for record in counted),
            "itl": distribution(gap for record in counted for gap in record.itl),
            "tpot": distribution(record.tpot for record in counted),
            "e2e": distribution(record.e2e for record in counted),
        },
        "throughput": _throughput(whole, window),
        "per_request": {
            "output_tokens_per_second": distribution(1 / r.tpot for r in counted if r.tpot),
        },
        "goodput": _goodput(measured, options, window),
        "server_seconds": _server(counted),
        "server_rates": _server_rates(counted),
        "energy": _energy(measured, whole),
        "connect_seconds": distribution(record.connect for record in records),
        "prompts": _prompts(options),
        "client": {**_client(measured, options, seconds["total"]), "unsure": _unsure(counted)},
        "definitions": dict(DEFINITIONS),
    }


def _load(options: Options) -> dict[str, Any]:
    return {
        "mode": "open" if options.open_loop else "closed",
        "clients": None if options.open_loop else options.clients,
        "rate": options.rate,
        "arrivals": options.arrivals if options.open_loop else None,
        "max_concurrency": options.max_concurrency,
        "requests": options.requests,
        "duration_seconds": options.duration_s,
        "num_predict": options.num_predict,
        "processes": options.processes,
        "reuse_connections": options.reuse_connections,
    }


def _seconds(measured: Measured, window: Window) -> dict[str, float]:
    last = max((r.end for r in measured.records if r.end is not None), default=measured.start)
    return {
        "measured": window.seconds,
        "total": last - measured.start,
        "ramp_up": window.begin - measured.start,
        "drain": max(0.0, last - window.end),
        "warmup": measured.warmup_seconds,
    }


def _requests(measured: Measured, options: Options, whole: Sequence[Record]) -> dict[str, Any]:
    errors = Counter(record.error for record in measured.records if record.error)
    interrupted = errors.pop(INTERRUPTED, 0)
    started = len(measured.records)
    return {
        "planned": started if options.requests is None else options.requests,
        "started": started,
        "succeeded": len(whole),
        "failed": sum(errors.values()),
        "interrupted": interrupted,
        "retried": sum(record.retried_from is not None for record in measured.records),
        "without_tokens": sum(not record.answer.output_tokens for record in whole),
        "errors": dict(sorted(errors.items())),
    }


def _replica(url: str, measured: Measured) -> dict[str, Any]:
    """What one replica did; `outages` in seconds from the common start, `to` None: to the end."""
    mine = [record for record in measured.records if record.replica == url]
    away = sum(record.retried_from == url for record in measured.records)
    whole = [record for record in mine if record.error is None]
    outages = [o for part in measured.parts for o in part.outages if o.url == url]
    return {
        "url": url,
        "requests": len(mine) + away,
        "succeeded": len(whole),
        "failed": sum(record.error not in (None, INTERRUPTED) for record in mine),
        "retried_away": away,
        "output_tokens": sum(record.answer.output_tokens or 0 for record in whole),
        "outages": [_outage(outage, measured.start) for outage in outages],
    }


def _outage(outage: Outage, start: float) -> dict[str, Any]:
    end = None if outage.end is None else max(0.0, outage.end - start)
    return {"from": max(0.0, outage.begin - start), "to": end, "why": outage.why}


def _concurrency(measured: Measured, options: Options, window: Window) -> dict[str, Any]:
    spans = [(r.sent, r.end) for r in measured.records if r.sent is not None and r.end is not None]
    asked = None if options.open_loop else options.clients
    return {"asked": asked, **concurrency(spans, window.begin, window.end)}


def _throughput(whole: Sequence[Record], window: Window) -> dict[str, float | None]:
    shares = [
        window.share(r.sent, r.end) for r in whole if r.sent is not None and r.end is not None
    ]

    def rate(counts: Iterable[int | None]) -> float | None:
        known = [c * share for c, share in zip(counts, shares, strict=True) if c is not None]
        return sum(known) / window.seconds if known and window.seconds > 0 else None

    return {
        "requests_per_second": rate(1 for _ in whole),
        "output_tokens_per_second": rate(record.answer.output_tokens for record in whole),
        "input_tokens_per_second": rate(record.answer.input_tokens for record in whole),
    }


def _goodput(measured: Measured, options: Options, window: Window) -> dict[str, Any] | None:
    if not options.goodput:
        return None
    begun = [record for record in measured.records if window.has(record)]
    good = sum(_is_good(record, options.goodput) for record in begun)
    return {
        "slo": dict(options.goodput),
        "share": good / len(begun) if begun else None,
        "requests_per_second": good / window.seconds if window.seconds > 0 else None,
    }


def _is_good(record: Record, limits: Mapping[str, float]) -> bool:
    if record.error is not None:
        return False
    gaps = record.itl
    figures = {
        "ttft": record.ttft,
        "tpot": record.tpot,
        "e2e": record.e2e,
        "itl": sum(gaps) / len(gaps) if gaps else 0.0,
    }
    return all((value := figures[name]) is not None and value <= limits[name] for name in limits)


def _server(whole: Sequence[Record]) -> dict[str, Any]:
    return {
        "embed": distribution(record.answer.embed for record in whole),
        "search": distribution(record.answer.search for record in whole),
        "load": distribution(record.answer.load for record in whole),
        "prefill": distribution(record.answer.prefill for record in whole),
        "decode": distribution(record.answer.decode for record in whole),
        "queue": distribution(record.queue for record in whole),
    }


def _server_rates(whole: Sequence[Record]) -> dict[str, Any]:
    def rates(pairs: Iterable[tuple[int | None, float | None]]) -> dict[str, Any]:
        return distribution(count / seconds for count, seconds in pairs if count and seconds)

    answers = [record.answer for record in whole]
    return {
        "prefill_tokens_per_second": rates((a.input_tokens, a.prefill) for a in answers),
        "decode_tokens_per_second": rates((a.output_tokens, a.decode) for a in answers),
    }


def _energy(measured: Measured, whole: Sequence[Record]) -> dict[str, Any]:
    energy, tokens = measured.energy, sum(record.answer.output_tokens or 0 for record in whole)
    known = energy.joules is not None and tokens > 0
    return {
        "joules": energy.joules,
        "joules_per_output_token": energy.joules / tokens if energy.joules and known else None,
        "source": energy.source,
        "why": energy.why,
    }


def _prompts(options: Options) -> dict[str, Any]:
    prompts = options.prompts
    return {
        "source": prompts.source,
        "distinct": prompts.distinct,
        "input_tokens_asked": prompts.input_tokens_asked,
        "note": prompts.note,
    }


def _client(measured: Measured, options: Options, seconds: float) -> dict[str, Any]:
    lags = [lag for part in measured.parts for lag in part.lags]
    pauses = [pause for part in measured.parts for pause in part.pauses]
    cpu = [part.cpu_seconds for part in measured.parts]
    return {
        "processes": options.processes,
        "cpu_seconds": sum(cpu),
        "cpu_share": max(cpu, default=0.0) / seconds if seconds > 0 else None,
        "dispatch_delay_seconds": some(
            (record.dispatch_delay for record in measured.records), "mean", "p50", "p99", "max"
        ),
        "loop_lag_seconds": some(lags, "mean", "p50", "p90", "p95", "p99", "max", "n"),
        "gc_pause_seconds": {"max": max(pauses, default=0.0), "total": sum(pauses)},
    }


def _unsure(counted: Sequence[Record]) -> dict[str, float | None]:
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
