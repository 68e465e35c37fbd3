"""What the pages say about a run, as text: figures, load, and where it all comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from contracts.figures import BY_KEY, COURSES, DRAWN, FIGURES
from contracts.summary import (
    Distribution,
    EnergyUsed,
    Goodput,
    ReplicaEnergy,
    RequestCounts,
    Seconds,
    Summary,
)
from engines.json_values import count_of
from loadgen.measure.stats import distribution
from loadgen.measurements import RequestLine
from loadgen.outputs import steps
from loadgen.outputs.formatting import (
    NA,
    in_ms,
    ms,
    number,
    part,
    share,
    text,
    with_unit,
)
from loadgen.outputs.plot_data import Requests, counted, latency

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


def load_in_words(summary: Summary) -> str:
    """Return what load was put on the server."""
    load, options = summary.load, part(summary.provenance, "options")
    if summary.open_loop:
        most = load.get("max_concurrency")
        limit = f", at most {most:,} in flight" if most else ""
        kind = f"open loop, {load.get('arrivals')} arrivals at {load['rate']:g} requests/s{limit}"
    else:
        clients = load.get("clients") or summary.concurrency.asked
        kind = f"closed loop, {number(clients)} client{'s' * (clients != 1)}"
    seconds = load.get("duration_seconds")
    requests = load.get("requests") or count_of(options, "requests")
    amount = f"{seconds:g} s" if seconds else f"{number(requests)} requests"
    return f"{kind}, {amount}"


def headline(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the figures that one looks for first: name, figure, and what it is."""
    rates, requests = summary.throughput, summary.requests
    each = with_unit(rates.requests_per_second, "requests/s")
    cards = [
        ("Throughput", with_unit(rates.output_tokens_per_second, "tokens/s"),
         f"output of all clients together; {each}"),
        ("Pace of one request", with_unit(summary.pace.p50, "tokens/s"),
         "p50, while its text comes"),
    ]  # fmt: skip
    cards += [
        (figure.name, in_ms(found.p50), f"p50; p99 {in_ms(found.p99)}")
        for figure in DRAWN
        if (found := summary.latency_seconds.get(figure.key))  # older runs do not have them all
    ]
    done = f"{requests.succeeded:,} of {requests.planned:,}"
    cards.append(("Requests answered", done, f"{requests.failed:,} failed"))
    return cards + _goodput(summary.goodput) + _energy(summary.energy)


def _goodput(goodput: Goodput | None) -> list[tuple[str, str, str]]:
    if not goodput:
        return []
    objectives = ", ".join(
        f"{BY_KEY[key].label} ≤ {in_ms(limit)}" for key, limit in goodput.slo.items()
    )
    rate = number(goodput.requests_per_second)
    return [("Goodput", f"{rate} requests/s", f"{share(goodput.share)} with {objectives}")]


def _energy(energy: EnergyUsed) -> list[tuple[str, str, str]]:
    if energy.joules_per_output_token is None:
        return []
    each = f"{number(energy.joules_per_output_token, 3)} J/token"
    return [("Energy", each, f"{number(energy.joules)} J, from {energy.source}")]


def tables(summary: Summary, requests: Requests) -> list[Table]:
    """Return all figures of a run; tables that would have nothing to say are left out."""
    shown = [_latencies(summary), *_steps(requests), _rates(summary)]
    shown += [*_replicas(summary, requests), *_failures(summary, requests)]
    return [*shown, _throughput(summary), _counts(summary), _generator(summary)]


def _latencies(summary: Summary) -> Table:
    latency, server = summary.latency_seconds, summary.server_seconds
    shown = [it for it in FIGURES if it.key in latency and it.shown(summary.requests)]
    cells = [[figure.label, *_spread(latency[figure.key])] for figure in shown]
    cells += [[f"server: {key}", *_spread(server[key])] for key in server if key not in _APART]
    cells.append(["connecting", *_spread(summary.connect_seconds)])
    note = f"{NA}: the requests are too few for that percentile, or the server does not say."
    return Table("Latency [ms]", ["", *SPREAD], cells, note)


_APART = ("embed", "search")  # those have a table of all steps


def _steps(requests: Requests) -> list[Table]:
    """What the steps of retrieval take, and of the mean E2E latency which share."""
    found = steps.steps_of(requests)
    if not found:
        return []
    means = steps.mean(found)
    whole = steps.total(means)
    cells = [
        [step, share(means[step] / whole), *_spread(distribution(each[step] for each in found))]
        for step in steps.STEPS
    ]
    cells.append(["E2E", share(1.0), *_spread(distribution(steps.total(each) for each in found))])
    note = "Means add up to that of E2E, percentiles do not. Rest: waiting, and the way and back."
    return [Table("Steps of a request with retrieval [ms]", ["", "of E2E", *SPREAD], cells, note)]


def _spread(figures: Distribution, times: float = 1000.0) -> list[str]:
    scaled = [None if (v := figures.at(key)) is None else v * times for key in SPREAD[:-1]]
    return [*map(number, scaled), number(figures.n)]


def _rates(summary: Summary) -> Table:
    found = {
        "text comes at": summary.pace,
        "server: prefill": summary.server_rates.get("prefill_tokens_per_second"),
        "server: decode": summary.server_rates.get("decode_tokens_per_second"),
    }
    cells = [[words, *_spread(figures, 1.0)] for words, figures in found.items() if figures]
    return Table("Rates of one request [tokens/s]", ["", *SPREAD], cells)


def _counts(summary: Summary) -> Table:
    requests = _known(summary.requests)
    cells = [[key.replace("_", " "), number(requests[key])] for key in requests]
    cells += [[f"ended: {name}", number(n)] for name, n in summary.requests.finished.items()]
    seconds = _known(summary.seconds)
    cells += [[f"seconds {key.replace('_', ' ')}", number(seconds[key], 3)] for key in seconds]
    flight = asdict(summary.concurrency)
    cells += [[f"in flight, {key}", number(flight[key])] for key in flight]
    return Table("Requests and time", _FIGURE, cells)


def _known(part: RequestCounts | Seconds) -> dict[str, float]:
    """Its numbers; what older runs do not say is left out."""
    return {key: value for key, value in asdict(part).items() if isinstance(value, (int, float))}


_FIGURE = ("", "figure")


def _throughput(summary: Summary) -> Table:
    rates, energy = asdict(summary.throughput), summary.energy
    cells = [
        [key.replace("_per_second", "/s").replace("_", " "), number(rates[key])] for key in rates
    ]
    for label, figure, words in _goodput(summary.goodput):
        cells.append([f"{label.lower()}: {words}", figure])
    cells += [["energy [J]", number(energy.joules)]]
    cells += [["energy per output token [J]", number(energy.joules_per_output_token, 4)]]
    why = f"Energy is not known: {energy.why}" if energy.why else ""
    return Table("All clients together", _FIGURE, cells, why)


def replica_spreads(summary: Summary, requests: Requests) -> dict[str, list[Distribution]]:
    """Return latencies of the requests of each replica that count, in the summary's order."""
    done = counted(requests)
    return {
        figure.key: [
            distribution(latency(r, figure.key) for r in done if r["replica"] == replica.url)
            for replica in summary.replicas
        ]
        for figure in COURSES
        if figure.key in summary.latency_seconds
    }


def _replicas(summary: Summary, requests: Requests) -> list[Table]:
    if len(summary.replicas) < 2:
        return []
    spreads = replica_spreads(summary, requests)
    counts = ("requests", "succeeded", "failed", "retried_away", "output_tokens")
    measured = any(replica.energy for replica in summary.replicas)
    cells = [
        [
            replica.url,
            *(number(getattr(replica, key)) for key in counts),
            *(ms(spread[at].at(p)) for spread in spreads.values() for p in ("p50", "p95")),
            *(_replica_energy(replica.energy) if measured else ()),
        ]
        for at, replica in enumerate(summary.replicas)
    ]
    head = ["", *(key.replace("_", " ") for key in counts)]
    head += [f"{BY_KEY[key].label} {p} [ms]" for key in spreads for p in ("p50", "p95")]
    head += ["energy [J]", "power [W]", "J/token", "GPUs"] if measured else []
    return [Table("Replicas", head, cells)]


def _replica_energy(energy: ReplicaEnergy | None) -> list[str]:
    if energy is None:
        return [NA] * 4
    each = number(energy.joules_per_output_token, 4)
    gpus = ", ".join(energy.joules_by_gpu)
    return [number(energy.joules), number(energy.watts), each, gpus]


def _failures(summary: Summary, requests: Requests) -> list[Table]:
    classes: dict[str, list[RequestLine]] = {}
    for request in requests:
        if request["error"] is not None:
            classes.setdefault(request["error"], []).append(request)
    cells = [
        [name, number(len(mine)), f"{mine[0]['request']}", text(mine[0]["message"])]
        for name, mine in sorted(classes.items(), key=lambda item: -len(item[1]))
    ]
    head = ["class", "requests", "first one", "its message"]
    return [Table("Failures", head, cells, words=True)] if cells else []


def _generator(summary: Summary) -> Table:
    client = summary.client
    cells = [
        ["CPU seconds", number(client.cpu_seconds, 3)],
        ["share of one core", share(client.cpu_share)],
        ["processes", number(client.processes)],
    ]
    for delays, words in (
        (client.dispatch_delay_seconds, "sent late [ms]"),
        (client.loop_lag_seconds, "event loop late [ms]"),
        (client.gc_pause_seconds, "garbage collection [ms]"),
    ):
        cells += [[f"{words}: {name}", ms(delays[name])] for name in delays if name != "n"]
    cells += [
        [f"arrivals read too late to be sure: {name.upper()}", share(value)]
        for name, value in client.unsure.items()
    ]
    return Table("The load generator itself", _FIGURE, cells)
