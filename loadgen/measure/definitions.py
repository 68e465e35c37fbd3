"""What each figure of a summary means; every summary has it, so that none is read otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.figures import FIGURES

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
    **{figure.key: figure.definition for figure in FIGURES},
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
    "or cut before any byte of the answer, and sent once more, to another one or anew; its times "
    "count from its first sending, its queue is not known",
    "dispatch_delay": "actual sending - the earliest possible: its intended time, then a free slot "
    "(--max-concurrency) or a connection that stands; intended is, in a closed loop, the common "
    "start, then the end of the client's previous request",
    "client.unsure": "share of the arrivals that may be stamped late, by up to the loop_lag: of "
    "lines that are read together only the last one's stamp is known, and some systems have none",
    "loop_lag": "how late the program hears of an event whose time is known (a kernel timer, read "
    "as sockets are, every 10 ms on average; missed looks count)",
}
