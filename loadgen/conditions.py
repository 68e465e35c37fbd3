"""Why a comparison may mislead: runs that are not valid, conditions that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence

from loadgen import rows
from loadgen.results import Run, Side


def warnings(a: Side, b: Side) -> list[str]:
    """A sentence for each."""
    found = []
    for name, side in (("A", a), ("B", b)):
        for value, runs in side.items():
            found += [_not_valid(name, run) for run in runs if not run.summary["validity"]["valid"]]
            found += _apart(f"the runs of {name}{_at(value)}", runs, runs)
    for value in a:
        if value in b:
            found += _apart(f"A and B{_at(value)}", a[value], b[value])
    for name, side, other in (("A", a, b), ("B", b, a)):
        if alone := ", ".join(f"{value:g}" for value in side if value not in other and value):
            found.append(f"Only {name} has these points: {alone}.")
    return list(dict.fromkeys(found))


def _at(value: float | None) -> str:
    return "" if value is None else f" at {value:g}"


def _not_valid(name: str, run: Run) -> str:
    reasons = " ".join(run.summary["validity"]["reasons"])
    return f"{run.folder} ({name}) is NOT VALID: {reasons}"


def _apart(who: str, some: Sequence[Run], others: Sequence[Run]) -> list[str]:
    """A sentence for each condition that is not one and the same in all of these runs; where both
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


def conditions(run: Run) -> dict[str, str]:
    """What a fair comparison holds equal, in words."""
    summary = run.summary
    origin, load = summary.get("provenance") or {}, summary.get("load") or {}
    options = origin.get("options") or {}
    sources = [rows.look(origin, "context", "loaded_model"), origin.get("server")]
    prompts = summary.get("prompts") or {}
    kinds = {key: prompts.get(key) for key in ("source", "distinct", "input_tokens_asked")}
    return {
        "the model": rows.text(options.get("model")),
        "the model's digest": rows.text(rows.every(sources, "digest")),
        "the quantisation": rows.text(rows.every(sources, "quantization")),
        "the server's version": rows.text(rows.every(sources, "version", "ollama_version")),
        "the server's settings": rows.text(rows.look(origin, "context", "settings")),
        "the number of replicas": rows.text(len(summary["replicas"])),
        "the load": rows.load_in_words(summary),
        "the number of processes": rows.text(load.get("processes")),
        "the use of connections": rows.text(load.get("reuse_connections")),
        "the prompts": json.dumps([kinds, options.get("prompts")], ensure_ascii=False)[:300],
        "the output tokens at most": rows.text(options.get("num_predict")),
        "the API": rows.text(options.get("api")),
        "the host of the load generator": rows.text(origin.get("host")),
        "the commit of the load generator": rows.text(origin.get("git_commit")),
    }
