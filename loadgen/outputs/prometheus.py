"""metrics.json: how nodes and GPUs were while a run was measured, as Prometheus saw it.

It shows why latencies were as they were, and outlives the monitoring. What could not be had is said
in the file; it never makes a run fail.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from time import monotonic
from typing import TypedDict, cast
from urllib.parse import urlencode, urlsplit

from typing_extensions import NotRequired

from contracts.errors import UsageError
from contracts.files import write_whole
from contracts.summary import Summary, Sweep
from engines.http.asking import FinalResponse, why_unreadable
from engines.http.headers import Headers
from engines.json_values import part_of, text_of
from loadgen.arguments import add_login, monitoring_login
from loadgen.console import print_error, print_line
from loadgen.options import parse_service
from loadgen.outputs import results

FILE = "metrics.json"
#: Prometheus is asked every 5 s at most, which is how often it looks itself; of long runs so seldom
#: that a plot can be read.
LEAST_STEP_S, MOST_POINTS = 5, 300
#: A rate needs two samples: so many seconds are there to have them also if one is missing.
LEAST_RANGE_S = 15
TIMEOUT_S, ALL_TOGETHER_S = 5.0, 15.0


@dataclass(frozen=True)
class Wanted:
    """A series for each value of the labels. `expression`: PromQL, in which $on stands for the
    deployment's label and $range for the time of a rate."""

    name: str
    title: str
    unit: str
    labels: tuple[str, ...]
    expression: str


_NODE, _GPU, _SOURCE = ("node",), ("node", "gpu", "UUID"), ("source",)
# Several exporters may tell of one node, one for each job on it: hence max by (node). UUID: two
# jobs on one node each call their own first GPU 0. In MIG mode each instance has a line: power and
# temperature are the whole GPU's in all of them, memory is the instance's own.
WANTED = (
    Wanted(
        "gpu", "GPU utilisation", "percent", _GPU,
        "max by (node, gpu, UUID) (DCGM_FI_DEV_GPU_UTIL{$on})",
    ),
    Wanted(
        "gpu_memory", "GPU memory used", "bytes", _GPU,
        '(max by (node, gpu, UUID) (DCGM_FI_DEV_FB_USED{GPU_I_ID="",$on}) or '
        "max by (node, gpu, UUID) (sum by (node, gpu, UUID, instance, job_id) "
        '(DCGM_FI_DEV_FB_USED{GPU_I_ID!="",$on}))) * 1048576',
    ),
    Wanted(
        "gpu_power", "GPU power", "watts", _GPU,
        "max by (node, gpu, UUID) (DCGM_FI_DEV_POWER_USAGE{$on})",
    ),
    Wanted(
        "gpu_temperature", "GPU temperature", "celsius", _GPU,
        "max by (node, gpu, UUID) (DCGM_FI_DEV_GPU_TEMP{$on})",
    ),
    Wanted(
        "cpu", "CPU utilisation", "percent", _NODE,
        '100 * (1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle",$on}[$range])))',
    ),
    Wanted(
        "memory", "Memory used", "bytes", _NODE,
        "max by (node) (node_memory_MemTotal_bytes{$on} - node_memory_MemAvailable_bytes{$on})",
    ),
    Wanted(
        "in_flight", "Requests in flight", "requests", _SOURCE,
        "sum by (source) (orch_requests_in_flight{$on})",
    ),
    Wanted(
        "tokens", "Output tokens", "tokens per second", _SOURCE,
        "sum by (source) (rate(orch_generation_tokens_total{$on}[$range]))",
    ),
)  # fmt: skip


# --- of a run ---


def wall_window(summary: Summary) -> tuple[float, float]:
    """Return the Unix times of a run's common start and last end."""
    origin, seconds = summary.provenance, summary.seconds
    if "started" in origin:
        start = datetime.fromisoformat(str(origin["started"])).timestamp()
    else:  # older runs
        start = datetime.fromisoformat(str(origin["began"])).timestamp() + seconds.warmup
    return start, start + seconds.whole


def deployment_of(summary: Summary) -> str:
    """Return the id of the deployment that a run's context tells of; empty if it tells of none."""
    return text_of(part_of(summary.provenance, "context"), "id") or ""


def write_snapshot(out: Path, summary: Summary, url: str, login: Headers = ()) -> str | None:
    """Write metrics.json of a run into its folder; None, or a sentence on what is missing in it.

    Raises OSError if it cannot be written.
    """
    found = snapshot(url, *wall_window(summary), deployment_of(summary), login)
    write_whole(out / FILE, [json.dumps(found, allow_nan=False) + "\n"])
    return found.get("problem")


def read_snapshot(out: Path) -> Snapshot | None:
    """Return metrics.json of a run; None if there is none that can be read."""
    try:
        found = json.loads((out / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return cast("Snapshot", found) if isinstance(found, dict) and "series" in found else None


# --- Prometheus ---


class Series(TypedDict):
    """A figure over time; a point is seconds since the start, and a value."""

    name: str
    title: str
    unit: str
    labels: Mapping[str, str]
    points: Sequence[Sequence[float]]


class Snapshot(TypedDict):
    """metrics.json; `window` in Unix seconds."""

    window: Mapping[str, float]
    source: str
    series: list[Series]
    problem: NotRequired[str]


class _NotHad(Exception):
    """Prometheus does not answer as it should; the words say how."""


def snapshot(
    url: str, start: float, end: float, deployment: str = "", login: Headers = ()
) -> Snapshot:
    """Return what Prometheus at `url`, which asks for `login`, has of the time from `start` to
    `end` (Unix seconds), as metrics.json has it. Points are seconds since the start, and values;
    the last one is at the end."""
    step = max(LEAST_STEP_S, math.ceil((end - start) / MOST_POINTS))
    first = end - math.ceil((end - start) / step) * step
    times = {"start": f"{first:.3f}", "end": f"{end:.3f}", "step": str(step)}
    parts = {
        "on": f"deployment={json.dumps(deployment)}" if deployment else "",
        "range": f"{max(LEAST_RANGE_S, step)}s",
    }
    content: Snapshot = {
        "window": {"start": start, "end": end, "step_seconds": step},
        "source": url,
        "series": [],
    }
    until = monotonic() + ALL_TOGETHER_S
    try:
        for wanted in WANTED:
            query = Template(wanted.expression).substitute(parts)
            found = _ask(url, {"query": query, **times}, until, login)
            content["series"] += [_series(wanted, each, start) for each in found]
    except _NotHad as error:
        content["problem"] = f"Prometheus at {url} {error}."
    if not content["series"]:
        empty = f"Prometheus at {url} has nothing about the time of this run."
        content.setdefault("problem", empty)
    return content


def _series(wanted: Wanted, found: _Found, start: float) -> Series:
    points = [(float(at), float(value)) for at, value in found["values"]]
    return {
        "name": wanted.name,
        "title": wanted.title,
        "unit": wanted.unit,
        "labels": {name: found["metric"].get(name, "") for name in wanted.labels},
        "points": [
            [round(at - start, 3), float(f"{value:.9g}")]
            for at, value in points
            if math.isfinite(value)
        ],
    }


class _Found(TypedDict):
    """A series as Prometheus' range queries tell it: Unix times, and values as text."""

    metric: Mapping[str, str]
    values: Sequence[tuple[float, str]]


def _ask(url: str, query: Mapping[str, str], until: float, login: Headers) -> list[_Found]:
    """The series that a range query finds. Raises _NotHad."""
    timeout = min(TIMEOUT_S, until - monotonic())
    if timeout <= 0:
        raise _NotHad("answers too slowly")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    connection.response_class = FinalResponse
    try:
        path = f"/api/v1/query_range?{urlencode(query)}"
        connection.request("GET", path, headers=dict(login))
        response = connection.getresponse()
        why = why_unreadable(response)
        if why is not None:
            raise _NotHad(f"answers {response.status}: {why}")
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise _NotHad(f"does not answer ({error or type(error).__name__})") from error
    except ValueError as error:
        raise _NotHad("answers with something that is no JSON") from error
    finally:
        connection.close()
    try:
        if answer["status"] != "success":
            raise _NotHad(f"refuses a query ({answer['error']})")
        found: list[_Found] = answer["data"]["result"]
    except (LookupError, TypeError) as error:
        raise _NotHad("answers otherwise than Prometheus does") from error
    return found


# --- the command ---


def main(arguments: Sequence[str]) -> int:
    """Run `python3 -m loadgen snapshot DIR --prometheus URL`; return the exit code.

    Raises UsageError, OSError.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m loadgen snapshot",
        description="Write metrics.json of a finished run that has none: nodes and GPUs meanwhile.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what --out was")
    parser.add_argument("--prometheus", required=True, metavar="URL", help="http://HOST:PORT")
    add_login(parser)
    given = parser.parse_args(arguments)
    url = parse_service("--prometheus", given.prometheus)
    return _snapshot_of(given.folder, url, monitoring_login(given))


def _snapshot_of(folder: Path, url: str, login: Headers) -> int:
    """One that is whole stays: Prometheus may have forgotten meanwhile."""
    summary = results.read_summary(folder)
    if isinstance(summary, Sweep):
        raise UsageError(f"{folder} is a sweep; name the folder of one of its points.")
    before = read_snapshot(folder)
    if before is None or "problem" in before:
        problem = write_snapshot(folder, summary, url, login)
        if problem is not None:
            print_error(problem)
    print_line(f"{folder / FILE}")
    return 0
