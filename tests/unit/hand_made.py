"""Runs made by hand: records with chosen times, and what becomes of them."""

from array import array
from dataclasses import asdict, replace
from pathlib import Path

from contracts.generation import Generation
from loadgen.load.prompts import Texts
from loadgen.measure.summarise import summarise
from loadgen.measure.validity import judge
from loadgen.measurements import Measured, RequestRecord, WorkerResult
from loadgen.options import Options, parse_replica

URL = "http://h:80"
START = 10.0


def options_of(**changes):
    """Two clients and two requests, and what is changed."""
    plain = {"clients": 2, "requests": 2, "prompts": Texts(), "out": Path()}
    return Options(replicas=(parse_replica(URL),), model="m", **{**plain, **changes})


def record(index, sent, first, end, tokens=3, error=None, intended=None):
    """A request whose three chunks come at `first` and 0.1 and 0.3 s after it. With a time at which
    it was intended it is one of an open loop."""
    answer = Generation(chunks=array("d", [first, first + 0.1, first + 0.3]), end=end)
    answer.output_tokens, answer.input_tokens = tokens, 5
    answer.load, answer.prefill, answer.decode = 0.0, 0.1, 0.4
    when = sent if intended is None else intended
    made = RequestRecord(index, index, when, URL, counts_from=intended, answer=answer)
    made.sent, made.end, made.error = sent, end, error
    return made


def part(records, idle_from=None, lags=(0.0001,), pauses=()):
    """What one process saw."""
    return WorkerResult(list(records), array("d", lags), array("d", pauses), 0.1, idle_from, [])


def measured_of(*parts, **changes):
    """A run of these parts that began at START."""
    plain = {"warmup_seconds": 0.5, "stopped": None, "urls": [URL]}
    return Measured(start=START, parts=parts, **{**plain, **changes})


def run_of(*records, idle_from=None, **asked):
    """The summary of a run of these records; lists among them are processes of their own."""
    several = isinstance(records[0], list)
    parts = [part(mine, idle_from) for mine in (records if several else [records])]
    asked = {"requests": sum(len(p.records) for p in parts), **asked}
    return asdict(summarise(measured_of(*parts), options_of(**asked)))


def judged(measured, options):
    """The summary of a run with the verdict on it."""
    summary = summarise(measured, options)
    return replace(summary, validity=judge(summary, measured, options))


def verdict_on(measured, options):
    """The verdict alone, as summary.json has it."""
    return asdict(judged(measured, options).validity)
