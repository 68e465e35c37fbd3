"""Runs made by hand: records with chosen times, and what becomes of them."""

from array import array
from pathlib import Path

from loadgen.metrics import summarise
from loadgen.options import Options, parse_replica
from loadgen.prompts import Texts
from loadgen.records import Answer, Measured, Part, Record

URL = "http://h:80"
START = 10.0


def options_of(**changes):
    """Two clients and two requests, and what is changed."""
    plain = {"clients": 2, "requests": 2, "prompts": Texts(), "out": Path()}
    return Options((parse_replica(URL),), "m", **{**plain, **changes})


def record(index, sent, first, end, tokens=3, error=None, intended=None):
    """A request whose three chunks come at `first` and 0.1 and 0.3 s after it. With a time at which
    it was intended it is one of an open loop."""
    answer = Answer(chunks=array("d", [first, first + 0.1, first + 0.3]), end=end)
    answer.output_tokens, answer.input_tokens = tokens, 5
    answer.load, answer.prefill, answer.decode = 0.0, 0.1, 0.4
    when = sent if intended is None else intended
    made = Record(index, index, when, URL, counts_from=intended, answer=answer)
    made.sent, made.end, made.error = sent, end, error
    return made


def part(records, idle_from=None, lags=(0.0001,), pauses=()):
    """What one process saw."""
    return Part(list(records), array("d", lags), array("d", pauses), 0.1, idle_from, [])


def measured_of(*parts, **changes):
    """A run of these parts that began at START."""
    plain = {"warmup_seconds": 0.5, "stopped": None, "urls": [URL]}
    return Measured(start=START, parts=parts, **{**plain, **changes})


def run_of(*records, idle_from=None, **asked):
    """The summary of a run of these records; lists among them are processes of their own."""
    several = isinstance(records[0], list)
    parts = [part(mine, idle_from) for mine in (records if several else [records])]
    asked = {"requests": sum(len(p.records) for p in parts), **asked}
    return summarise(measured_of(*parts), options_of(**asked))
