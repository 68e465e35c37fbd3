"""Why a comparison may mislead: runs that are not valid, conditions that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence

from contracts.json_object import JsonObject
from engines.ollama import OLLAMA
from engines.registry import ENGINES
from loadgen.outputs import tables
from loadgen.outputs.formatting import NA, every, lookup, part, text
from loadgen.outputs.results import RunResult, Side

#: Of the conditions, what is measured.
MEASURED = ("the engine", "the server's version", "the model", "the quantisation")


def warnings(a: Side, b: Side) -> list[str]:
    """Return a sentence for each way in which A and B are not fair to compare."""
    found = []
    for name, side in (("A", a), ("B", b)):
        for value, runs in side.items():
            found += [_not_valid(name, run) for run in runs if not run.summary.validity.valid]
            found += _differences(f"the runs of {name}{_at(value)}", runs, runs)
    for value in a:
        if value in b:
            found += _differences(f"A and B{_at(value)}", a[value], b[value])
    for name, side, other in (("A", a, b), ("B", b, a)):
        if alone := ", ".join(f"{value:g}" for value in side if value not in other and value):
            found.append(f"Only {name} has these points: {alone}.")
    return list(dict.fromkeys(found))


def _at(value: float | None) -> str:
    return "" if value is None else f" at {value:g}"


def _not_valid(name: str, run: RunResult) -> str:
    reasons = " ".join(run.summary.validity.reasons)
    return f"{run.folder} ({name}) is NOT VALID: {reasons}"


def _differences(who: str, some: Sequence[RunResult], others: Sequence[RunResult]) -> list[str]:
    """A sentence for each condition that is not one and the same in all of these runs; if both
    are the same runs, of those that differ among themselves."""
    found = []
    for name in conditions(some[0]):
        here, there = (
            "; ".join(sorted({conditions(run)[name] for run in runs})) for runs in (some, others)
        )
        among = some is others and len({conditions(run)[name] for run in some}) > 1
        if among or here != there:
            values = here if among else f"A: {here}; B: {there}"
            found.append(f"Not the same in {who}: {name} ({values}).")
    return found


def side_by_side(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """Return what was measured on either side: a word for each fact, and what it is in A and B."""
    sides = [[conditions(run) for runs in side.values() for run in runs] for side in (a, b)]
    facts = [
        (name, *("; ".join(sorted({run[name] for run in runs})) for runs in sides))
        for name in MEASURED
    ]
    return [(name, here, there) for name, here, there in facts if {here, there} != {NA}]


def _engine(context: JsonObject) -> str:
    """The engine that a deployment has started; none if its recipe names a server."""
    service = part(context, "recipe", "job", "service")
    return NA if service.get("server") else text(service.get("engine"))


def _settings(context: JsonObject) -> JsonObject:
    """Without what is said of memory: how much was free there is no setting."""
    return {key: value for key, value in part(context, "settings").items() if key != "memory"}


def _model(options: JsonObject, context: JsonObject) -> str:
    """By the name that its server lists: to Ollama a model has many. A deployment's by what its
    recipe says: engines make different names of one file."""
    name = options.get("model")
    if name == context.get("model"):
        name = lookup(context, "recipe", "job", "service", "model") or name
    if isinstance(name, str):
        engine = ENGINES.get(str(options.get("api")), OLLAMA)  # older runs do not say
        name = engine.listed_as(name)
    return text(name)


def conditions(run: RunResult) -> dict[str, str]:
    """Return what a fair comparison holds equal, in words."""
    summary = run.summary
    origin, load, prompts = summary.provenance, summary.load, summary.prompts
    options, context = part(origin, "options"), part(origin, "context")
    sources = [context.get("loaded_model"), origin.get("server")]
    kinds = {key: getattr(prompts, key) for key in ("source", "distinct", "input_tokens_asked")}
    return {
        "the engine": _engine(context),
        "the model": _model(options, context),
        "the model's digest": text(every(sources, "digest")),
        "the quantisation": text(every(sources, "quantization")),
        "the server's version": text(every(sources, "version", "ollama_version")),
        "the server's settings": text(_settings(context)),
        "the number of replicas": text(len(summary.replicas)),
        "the load": tables.load_in_words(summary),
        "the number of processes": text(load.get("processes")),
        "the way to the engines": text(load.get("through") or "engines"),  # older runs do not say
        "the use of connections": text(load.get("reuse_connections")),
        "the prompts": json.dumps([kinds, options.get("prompts")], ensure_ascii=False)[:300],
        "the output tokens at most": text(options.get("num_predict")),
        "the API": text(options.get("api")),
        "the host of the load generator": text(origin.get("host")),
        "the commit of the load generator": text(origin.get("git_commit")),
    }
