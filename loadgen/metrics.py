"""The figures of a run, made of what was recorded.

Definitions stand in DEFINITIONS, which goes into every summary, so that a figure is never read
without them; docs/measurement.md says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadgen.options import Options
from loadgen.records import INTERRUPTED, Measured, Outage, Record
from loadgen.stats import concurrency, distribution, some

DEFINITIONS: Mapping[str, str] = {
    "clock": "time.perf_counter (CLOCK_MONOTONIC); arrival is taken before the bytes are parsed",
    "percentiles": "linear interpolation between order statistics (numpy's 'linear'); n/a where "
    "fewer than one value in the mean lies beyond",
    "std": "sample standard deviation (n - 1)",
    "window": "from the common start to the moment from which the load is not what was asked for: "
    "closed loop: the first client has nothing more to send; open loop: the next arrival would be "
    "due; with a duration: its end",
    "counted": "latency, per-request and server figures count requests that began in the window "
    "and came whole, whenever they ended",
    "ttft": "to the first chunk with text, from the sending (closed loop; connections are opened "
    "beforehand, and connect time is recorded apart) or from the intended sending (open loop); "
    "where connections are not reused, from the begin of connecting",
    "itl": "gaps between successive chunks with text (a chunk may carry several tokens); chunks "
    "that arrive in one segment have a gap of 0",
    "e2e": "to the arrival of the final chunk, from where ttft counts",
    "tpot": "(e2e - ttft) / (output tokens - 1), by the server's own count of tokens",
    "throughput": "of requests that came whole, by seconds.measured; one that goes beyond the "
    "window counts by the share of its time (its tokens: of its chunks) that lies in it",
    "per_request.output_tokens_per_second": "1 / tpot: the pace that one user sees while text "
    "comes; not the throughput",
    "seconds.measured": "the window's length; drain: from its end to the end of the last request",
    "server_seconds.queue": "sending to end, without load, prefill and decode: waiting for a slot, "
    "and the way there and back (Ollama's total_duration includes the wait)",
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
    "loop_lag": "how late the program hears of an event whose time is known (a kernel timer, read "
    "as sockets are, every 10 ms on average; missed looks count)",
}


def window_end(measured: Measured, options: Options) -> float:
    """When the load ceased to be what was asked for, as a time of perf_counter."""
    ends = [record.end for record in measured.records if record.end is not None]
    last = max(ends, default=measured.start)
    idle = [part.idle_from for part in measured.parts if part.idle_from is not None]
    if not idle:
        return last
    return max(measured.start, min(last, max(idle) if options.open_loop else min(idle)))


def begins_in(record: Record, end: float) -> bool:
    """Whether a request began in the window that ends at `end`."""
    return record.began is not None and record.began < end


def summarise(measured: Measured, options: Options) -> dict[str, Any]:
    """All figures of a run, as summary.json has them; None where a figure is not known."""
    records, end = measured.records, window_end(measured, options)
    whole = [record for record in records if record.error is None]
    counted = [record for record in whole if begins_in(record, end)]
    seconds = _seconds(measured, end)
    throughput = _throughput(whole, end, seconds["measured"])
    return {
        "partial": measured.stopped is not None,
        "stopped": measured.stopped,
        "load": _load(options),
        "requests": {**_requests(measured, options, whole), "counted": len(counted)},
        "replicas": [_replica(url, measured) for url in measured.urls],
        "seconds": seconds,
        "concurrency": _concurrency(measured, options, end),
        "latency_seconds": {
            "ttft": distribution(record.ttft for record in counted),
            "itl": distribution(gap for record in counted for gap in record.itl),
            "tpot": distribution(record.tpot for record in counted),
            "e2e": distribution(record.e2e for record in counted),
        },
        "throughput": throughput,
        "per_request": {
            "output_tokens_per_second": distribution(1 / r.tpot for r in counted if r.tpot),
        },
        "goodput": _goodput(measured, options, end, seconds["measured"]),
        "server_seconds": _server(counted),
        "server_rates": _server_rates(counted),
        "energy": _energy(measured, whole),
        "connect_seconds": distribution(record.connect for record in records),
        "prompts": _prompts(options),
        "client": _client(measured, options, seconds["total"]),
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


def _seconds(measured: Measured, end: float) -> dict[str, float]:
    last = max((r.end for r in measured.records if r.end is not None), default=measured.start)
    return {
        "measured": end - measured.start,
        "total": last - measured.start,
        "drain": max(0.0, last - end),
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


def _concurrency(measured: Measured, options: Options, end: float) -> dict[str, Any]:
    spans = [(r.sent, r.end) for r in measured.records if r.sent is not None and r.end is not None]
    asked = None if options.open_loop else options.clients
    return {"asked": asked, **concurrency(spans, measured.start, end)}


def _throughput(whole: Sequence[Record], end: float, seconds: float) -> dict[str, float | None]:
    def rate(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / seconds if known and seconds > 0 else None

    return {
        "requests_per_second": rate(_share_of_time(record, end) for record in whole),
        "output_tokens_per_second": rate(
            _times(record.answer.output_tokens, _share_of_chunks(record, end)) for record in whole
        ),
        "input_tokens_per_second": rate(
            _times(record.answer.input_tokens, _share_of_time(record, end)) for record in whole
        ),
    }


def _times(count: int | None, share: float) -> float | None:
    return None if count is None else count * share


def _share_of_time(record: Record, end: float) -> float:
    """Of a request's time that which lies in the window."""
    assert record.sent is not None and record.end is not None
    if record.end <= end:
        return 1.0
    return max(0.0, end - record.sent) / (record.end - record.sent)


def _share_of_chunks(record: Record, end: float) -> float:
    """Of a request's text that which came in the window."""
    chunks = record.answer.chunks
    if record.end is None or record.end <= end or not chunks:
        return _share_of_time(record, end)
    return sum(at <= end for at in chunks) / len(chunks)


def _goodput(
    measured: Measured, options: Options, end: float, seconds: float
) -> dict[str, Any] | None:
    if not options.goodput:
        return None
    begun = [record for record in measured.records if begins_in(record, end)]
    good = sum(_is_good(record, options.goodput) for record in begun)
    return {
        "slo": dict(options.goodput),
        "share": good / len(begun) if begun else None,
        "requests_per_second": good / seconds if seconds > 0 else None,
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
