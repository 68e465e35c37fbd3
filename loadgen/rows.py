"""What the pages say about a run, as text: figures, load, and where it all comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen import steps
from loadgen.series import Requests, counted
from loadgen.stats import distribution

NA = "n/a"
SPREAD = ("mean", "std", "min", "p50", "p90", "p95", "p99", "max", "n")
Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table: the cells of the first column are names, the others figures, or `words`."""

    title: str
    head: Row
    rows: Sequence[Row]
    note: str = ""
    words: bool = False


# --- numbers in words ---


def number(value: float | None, digits: int = 2) -> str:
    """With thousands separated; `digits` after the point where it is no whole number; n/a."""
    if value is None:
        return NA
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def with_unit(value: float | None, unit: str, digits: int = 2) -> str:
    """A number and its unit, or n/a alone."""
    return NA if value is None else f"{number(value, digits)} {unit}"


def ms(seconds: float | None) -> str:
    """Seconds as milliseconds."""
    return NA if seconds is None else number(seconds * 1000.0)


def in_ms(seconds: float | None) -> str:
    """Seconds as milliseconds, with the unit."""
    return NA if seconds is None else f"{ms(seconds)} ms"


def share(value: float | None) -> str:
    """A part of one as a percentage."""
    return NA if value is None else f"{value:.2%}"


def text(value: Any) -> str:
    """A value of a JSON file as people read it; n/a for what is not there."""
    if value is None or value in ("", [], {}):
        return NA
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(text(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def when(moment: str | None) -> str:
    """A moment as the files have it (ISO 8601), to the second."""
    return NA if not moment else f"{moment[:19]}{moment[23:]}".replace("T", " ")


def look(data: Any, *path: str) -> Any:
    """What stands at a path of nested objects; None where it does not go so far."""
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def find(data: Any, *names: str) -> Any:
    """The first value that stands under one of the names, however deep; None: there is none."""
    level = [data]
    while level:
        for part in level:
            found = [part[name] for name in names if isinstance(part, Mapping) and part.get(name)]
            if found:
                return found[0]
        level = [inner for part in level for inner in _inner(part)]
    return None


def every(data: Any, *names: str) -> list[Any]:
    """All the different values that stand under one of the names, however deep."""
    here = [data[name] for name in names if isinstance(data, Mapping) and data.get(name)]
    deeper = [value for inner in _inner(data) for value in every(inner, *names)]
    return list({text(value): value for value in [*here, *deeper]}.values())


def _inner(data: Any) -> Iterable[Any]:
    if isinstance(data, Mapping):
        return data.values()
    return data if isinstance(data, list) else ()


# --- figures ---


def load_in_words(summary: Mapping[str, Any]) -> str:
    """What load was put on the server."""
    load = summary.get("load") or {}
    options = look(summary, "provenance", "options") or {}
    if load.get("mode") == "open":
        most = load.get("max_concurrency")
        limit = f", at most {most:,} in flight" if most else ""
        kind = f"open loop, {load.get('arrivals')} arrivals at {load['rate']:g} requests/s{limit}"
    else:
        clients = load.get("clients") or look(summary, "concurrency", "asked")
        kind = f"closed loop, {number(clients)} client{'s' * (clients != 1)}"
    seconds, requests = load.get("duration_seconds"), load.get("requests")
    amount = (
        f"{seconds:g} s" if seconds else f"{number(requests or options.get('requests'))} requests"
    )
    return f"{kind}, {amount}"


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The figures that one looks for first: name, figure, and what it is."""
    latency, rates, requests = (
        summary[key] for key in ("latency_seconds", "throughput", "requests")
    )
    pace = look(summary, "per_request", "output_tokens_per_second")
    each = with_unit(rates["requests_per_second"], "requests/s")
    found = [
        ("Throughput", with_unit(rates["output_tokens_per_second"], "tokens/s"),
         f"output of all clients together; {each}"),
        ("Pace of one request", with_unit(pace["p50"], "tokens/s"), "p50, while its text comes"),
    ]  # fmt: skip
    found += [
        (label, in_ms(latency[key]["p50"]), f"p50; p99 {in_ms(latency[key]['p99'])}")
        for key, label in _LATENCIES
    ]
    done = f"{requests['succeeded']:,} of {requests['planned']:,}"
    found.append(("Requests answered", done, f"{requests['failed']:,} failed"))
    return found + _goodput(summary.get("goodput")) + _energy(summary.get("energy"))


_LATENCIES = (
    ("ttft", "Time to first token"),
    ("itl", "Inter-token latency"),
    ("e2e", "End to end"),
)


def _goodput(goodput: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    if not goodput:
        return []
    limits = ", ".join(f"{key.upper()} ≤ {in_ms(limit)}" for key, limit in goodput["slo"].items())
    rate = number(goodput["requests_per_second"])
    return [("Goodput", f"{rate} requests/s", f"{share(goodput['share'])} with {limits}")]


def _energy(energy: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    if not energy or energy["joules_per_output_token"] is None:
        return []
    each = f"{number(energy['joules_per_output_token'], 3)} J/token"
    return [("Energy", each, f"{number(energy['joules'])} J, from {energy['source']}")]


def tables(summary: Mapping[str, Any], requests: Requests) -> list[Table]:
    """All figures of a run; tables that would have nothing to say are left out."""
    made = [_latencies(summary), *_steps(requests), _rates(summary)]
    made += [*_replicas(summary, requests), *_failures(summary, requests)]
    return [*made, _throughput(summary), _counts(summary), _generator(summary)]


def _latencies(summary: Mapping[str, Any]) -> Table:
    latency, server = summary["latency_seconds"], summary.get("server_seconds") or {}
    cells = [[key.upper(), *_spread(latency[key])] for key in ("ttft", "itl", "tpot", "e2e")]
    cells += [[f"server: {key}", *_spread(server[key])] for key in server if key not in _APART]
    cells.append(["connecting", *_spread(summary["connect_seconds"])])
    note = f"{NA}: the requests are too few for that percentile, or the server does not say."
    return Table("Latency [ms]", ["", *SPREAD], cells, note)


_APART = ("embed", "search")  # those have a table of all steps


def _steps(requests: Requests) -> list[Table]:
    """What the steps of retrieval take, and of the mean E2E latency which share."""
    found = steps.steps_of(requests)
    if not found:
        return []
    means = steps.mean(found)
    whole = steps.e2e(means)
    cells = [
        [step, share(means[step] / whole), *_spread(distribution(each[step] for each in found))]
        for step in steps.STEPS
    ]
    cells.append(["E2E", share(1.0), *_spread(distribution(steps.e2e(each) for each in found))])
    note = "Means add up to that of E2E, percentiles do not. Rest: waiting, and the way and back."
    return [Table("Steps of a request with retrieval [ms]", ["", "of E2E", *SPREAD], cells, note)]


def _spread(figures: Mapping[str, Any], times: float = 1000.0) -> list[str]:
    scaled = {key: None if (v := figures[key]) is None else v * times for key in SPREAD[:-1]}
    return [*(number(value) for value in scaled.values()), number(figures["n"])]


def _rates(summary: Mapping[str, Any]) -> Table:
    found = {
        "text comes at": look(summary, "per_request", "output_tokens_per_second"),
        "server: prefill": look(summary, "server_rates", "prefill_tokens_per_second"),
        "server: decode": look(summary, "server_rates", "decode_tokens_per_second"),
    }
    cells = [[words, *_spread(figures, 1.0)] for words, figures in found.items() if figures]
    return Table("Rates of one request [tokens/s]", ["", *SPREAD], cells)


def _counts(summary: Mapping[str, Any]) -> Table:
    requests, seconds, flight = (summary[k] for k in ("requests", "seconds", "concurrency"))
    cells = [[key.replace("_", " "), number(requests[key])] for key in requests if key != "errors"]
    cells += [[f"seconds {key.replace('_', ' ')}", number(seconds[key], 3)] for key in seconds]
    cells += [[f"in flight, {key}", number(flight[key])] for key in flight]
    return Table("Requests and time", _FIGURE, cells)


_FIGURE = ("", "figure")


def _throughput(summary: Mapping[str, Any]) -> Table:
    rates = summary["throughput"]
    cells = [
        [key.replace("_per_second", "/s").replace("_", " "), number(rates[key])] for key in rates
    ]
    for label, figure, words in _goodput(summary.get("goodput")):
        cells.append([f"{label.lower()}: {words}", figure])
    energy = summary.get("energy") or {}
    cells += [["energy [J]", number(energy.get("joules"))]]
    cells += [["energy per output token [J]", number(energy.get("joules_per_output_token"), 4)]]
    why = f"Energy is not known: {energy['why']}" if energy.get("why") else ""
    return Table("All clients together", _FIGURE, cells, why)


def replica_spreads(
    summary: Mapping[str, Any], requests: Requests
) -> dict[str, list[dict[str, Any]]]:
    """TTFT and E2E of the requests of each replica that count, in the summary's order."""
    done = counted(requests)
    return {
        key: [
            distribution(r[key] for r in done if r["replica"] == replica["url"])
            for replica in summary["replicas"]
        ]
        for key in ("ttft", "e2e")
    }


def _replicas(summary: Mapping[str, Any], requests: Requests) -> list[Table]:
    if len(summary["replicas"]) < 2:
        return []
    spreads = replica_spreads(summary, requests)
    counts = ("requests", "succeeded", "failed", "retried_away", "output_tokens")
    cells = [
        [
            replica["url"],
            *(number(replica[key]) for key in counts),
            *(ms(spreads[key][at][p]) for key in ("ttft", "e2e") for p in ("p50", "p95")),
        ]
        for at, replica in enumerate(summary["replicas"])
    ]
    head = ["", *(key.replace("_", " ") for key in counts)]
    head += ["TTFT p50 [ms]", "TTFT p95 [ms]", "E2E p50 [ms]", "E2E p95 [ms]"]
    return [Table("Replicas", head, cells)]


def _failures(summary: Mapping[str, Any], requests: Requests) -> list[Table]:
    classes: dict[str, list[Mapping[str, Any]]] = {}
    for request in requests:
        if request["error"] is not None:
            classes.setdefault(request["error"], []).append(request)
    cells = [
        [name, number(len(mine)), f"{mine[0]['request']}", text(mine[0]["message"])]
        for name, mine in sorted(classes.items(), key=lambda item: -len(item[1]))
    ]
    head = ["class", "requests", "first one", "its message"]
    return [Table("Failures", head, cells, words=True)] if cells else []


def _generator(summary: Mapping[str, Any]) -> Table:
    client = summary["client"]
    cells = [["CPU seconds", number(client["cpu_seconds"], 3)]]
    cells += [["share of one core", share(client["cpu_share"])]] if "cpu_share" in client else []
    cells += [["processes", number(client["processes"])]] if "processes" in client else []
    for key, words in (
        ("dispatch_delay_seconds", "sent late [ms]"),
        ("loop_lag_seconds", "event loop late [ms]"),
        ("gc_pause_seconds", "garbage collection [ms]"),
    ):
        known = {name: value for name, value in client.get(key, {}).items() if name != "n"}
        cells += [[f"{words}: {name}", ms(value)] for name, value in known.items()]
    cells += [
        [f"arrivals read too late to be sure: {name.upper()}", share(value)]
        for name, value in client.get("unsure", {}).items()
    ]
    return Table("The load generator itself", _FIGURE, cells)


# --- where it comes from ---


def provenance(summary: Mapping[str, Any], load: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of facts by name; what is not known is n/a. `load`: in words."""
    origin = summary.get("provenance") or {}
    context, options = origin.get("context") or {}, origin.get("options") or {}
    groups = {
        "Deployment": _deployment(context),
        "Model and server": _model(origin, context, options),
        "Load": [("load", load), *_load(summary, options)],
        "Repeat": _repeat(origin, context, options),
    }
    return [
        (name, [(label, text(value)) for label, value in facts]) for name, facts in groups.items()
    ]


Facts = list[tuple[str, Any]]


def _deployment(context: Mapping[str, Any]) -> Facts:
    asked = look(context, "recipe", "job", "infrastructure")
    jobs = look(context, "jobs") or {}
    return [
        ("deployment", look(context, "id")),
        ("recipe", look(context, "recipe", "job", "name")),
        ("site", look(context, "site", "name")),
        ("jobs", {name: look(job, "id") for name, job in jobs.items()}),
        ("nodes", look(context, "nodes") or look(asked, "nodes")),
        ("partition", look(asked, "partition")),
        ("GPUs per node", look(context, "gpus")),
        ("GPU", find(context, "gpu_names", "gpu_name", "gpu")),
        ("driver", find(context, "driver_versions", "driver_version", "driver")),
        ("container runtime", look(context, "site", "runtime")),
        *_images(context),
    ]


def _images(context: Mapping[str, Any]) -> Facts:
    """What the images of the services were made from, and which files they are."""
    if look(context, "site", "runtime") in (None, "host"):
        return [("images", None)]
    found = look(context, "images") or {}
    return [
        ("images", look(context, "site", "images")),
        *((f"image of {service}", _image(image)) for service, image in found.items()),
    ]


def _image(image: Mapping[str, Any]) -> str:
    """An image by its digest; where nobody has computed that, by its size and last change."""
    name = image["path"].rpartition("/")[2]
    if image["sha256"]:
        return f"{name}, sha256:{image['sha256']}"
    return f"{name}, {number(image['bytes'])} bytes, changed {image['changed']}"


def _model(
    origin: Mapping[str, Any], context: Mapping[str, Any], options: Mapping[str, Any]
) -> Facts:
    sources = [look(context, "loaded_model"), look(origin, "server")]
    return [
        ("model", options.get("model")),
        ("digest", every(sources, "digest")),
        ("quantisation", every(sources, "quantization")),
        ("parameters", every(sources, "parameters")),
        ("context length", every(sources, "context_length")),
        ("sits on", look(context, "loaded_model", "where") or _place(sources)),
        ("server version", every(sources, "version", "ollama_version")),
        ("server settings", look(context, "settings")),
        ("warnings", look(context, "warnings")),
    ]


def _place(sources: Any) -> str | None:
    size, on_gpus = find(sources, "size"), find(sources, "size_vram") or 0
    return f"{on_gpus / size:.0%} in GPU memory" if size else None


def _load(summary: Mapping[str, Any], options: Mapping[str, Any]) -> Facts:
    prompts = summary.get("prompts") or {}
    return [
        ("replicas", options.get("replicas")),
        ("API", options.get("api")),
        ("prompts", prompts.get("source")),
        ("distinct prompts", prompts.get("distinct")),
        ("input tokens asked for", prompts.get("input_tokens_asked")),
        ("about the prompts", prompts.get("note")),
        ("output tokens at most", options.get("num_predict")),
        ("warm-up requests per replica", options.get("warmup")),
        ("timeout of a request [s]", options.get("timeout_s")),
        ("connections used again", look(summary, "load", "reuse_connections")),
    ]


def _repeat(
    origin: Mapping[str, Any], context: Mapping[str, Any], options: Mapping[str, Any]
) -> Facts:
    return [
        ("command", origin.get("command")),
        ("seed", options.get("seed")),
        ("git commit", origin.get("git_commit") or find(context, "git_commit")),
        ("began", when(origin.get("began"))),
        ("ended", when(origin.get("ended"))),
        ("host of the load generator", origin.get("host")),
        ("Python", origin.get("python")),
        ("event loop", origin.get("event_loop")),
    ]


def as_recorded(summary: Mapping[str, Any]) -> str:
    """The whole provenance, as the file has it."""
    return json.dumps(summary.get("provenance") or {}, indent=2, ensure_ascii=False)
