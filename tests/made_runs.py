"""Runs made by arithmetic, as the files of a run have them: their truth is known."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

from loadgen.measure import stats
from loadgen.measure.definitions import DEFINITIONS

URL = "http://127.0.0.1:11434"


def request(index, sent, ttft=0.2, gaps=(0.02,) * 15, **changes):
    """One line of requests.jsonl: a whole answer of len(gaps) + 1 tokens."""
    e2e = None if ttft is None else ttft + sum(gaps)
    tpot = sum(gaps) / len(gaps) if gaps else None
    return {
        "request": index,
        "client": index % 4,
        "replica": URL,
        "retried": False,
        "retried_from": None,
        "intended": sent,
        "due": sent,
        "sent": sent,
        "in_window": True,
        "connect": None,
        "ttft": ttft,
        "e2e": e2e,
        "tpot": tpot,
        "gaps": list(gaps),
        "output_tokens": len(gaps) + 1,
        "input_tokens": 7,
        "server": {
            "embed": None,
            "search": None,
            "load": 0.0,
            "prefill": 0.1,
            "decode": 0.3,
            "total": 0.5,
            "queue": 0.01,
        },
        "http_status": 200,
        "error": None,
        "message": None,
    } | changes


def failed(index, sent, error="http_503", message="busy", **changes):
    """A request that got no answer."""
    missing = dict.fromkeys(("ttft", "tpot", "output_tokens", "input_tokens"))
    none = dict.fromkeys(("embed", "search", "load", "prefill", "decode", "total", "queue"))
    more = {"gaps": [], "server": none, "e2e": 0.01, "error": error, "message": message}
    return request(index, sent) | missing | more | changes


def closed_loop(clients=4, rounds=25, ttft=0.2, seed=1, jitter=0.1, tokens=16):
    """The requests of clients that each send one after another; times vary by `jitter`."""
    dice = random.Random(seed)
    made = []
    for client in range(clients):
        at = 0.0
        for turn in range(rounds):
            gaps = tuple(dice.gauss(0.02, 0.001) for _ in range(tokens - 1))
            first = max(0.001, dice.gauss(ttft, ttft * jitter))
            made.append(request(turn * clients + client, at, first, gaps, client=client))
            at += made[-1]["e2e"]
    return sorted(made, key=lambda line: line["request"])


def distribution(values):
    """As summary.json has it."""
    return asdict(stats.distribution(values))


def summary_of(requests, reasons=(), clients=4, **changes):
    """A summary of these requests, with figures by loadgen's own `distribution`."""
    whole = [line for line in requests if line["error"] is None]
    urls = sorted({line["replica"] for line in requests}) or [URL]
    seconds = max((line["sent"] + line["e2e"] for line in requests), default=0.0)
    tokens = sum(line["output_tokens"] for line in whole)
    rate = {"requests_per_second": len(whole), "output_tokens_per_second": tokens}
    rate["input_tokens_per_second"] = 7 * len(whole)
    errors = {line["error"]: 0 for line in requests if line["error"]}
    for line in requests:
        if line["error"]:
            errors[line["error"]] += 1
    return {
        "partial": False,
        "stopped": None,
        "load": {
            "mode": "closed", "clients": clients, "rate": None, "arrivals": None,
            "max_concurrency": None, "requests": len(requests), "duration_seconds": None,
            "processes": 1, "reuse_connections": True,
        },
        "requests": {
            "planned": len(requests), "started": len(requests), "succeeded": len(whole),
            "failed": len(requests) - len(whole), "interrupted": 0, "retried": 0,
            "without_tokens": 0, "errors": errors,
        },
        "replicas": [replica_of(url, requests) for url in urls],
        "seconds": {
            "measured": seconds, "total": seconds, "ramp_up": 0.0, "drain": 0.0, "warmup": 0.5,
        },
        "concurrency": {"asked": clients, "mean": clients * 0.98, "max": clients},
        "latency_seconds": {
            **{k: distribution(line[k] for line in whole) for k in ("ttft", "tpot", "e2e")},
            "itl": distribution(gap for line in whole for gap in line["gaps"]),
        },
        "throughput": {k: v / seconds if whole else None for k, v in rate.items()},
        "per_request": {
            "output_tokens_per_second": distribution(1 / r["tpot"] for r in whole if r["tpot"])
        },
        "server_seconds": {
            key: distribution(line["server"][key] for line in whole)
            for key in ("embed", "search", "load", "prefill", "decode", "queue")
        },
        "connect_seconds": distribution([]),
        "goodput": None,
        "energy": {"joules": None, "joules_per_output_token": None, "source": None, "why": None},
        "prompts": {"source": "text", "distinct": 1, "input_tokens_asked": None, "note": ""},
        "client": {
            "cpu_seconds": 0.1, "cpu_share": 0.02, "processes": 1,
            "dispatch_delay_seconds": {"p50": 1e-5, "p99": 2e-4, "max": 1e-3},
            "loop_lag_seconds": {"p99": 1e-4, "max": 1e-3},
            "unsure": {"ttft": 0.0, "itl": 0.012, "e2e": 0.0},
        },
        "definitions": dict(DEFINITIONS),
        "validity": {"valid": not reasons, "reasons": list(reasons), "codes": [], "notes": []},
        "provenance": {
            "began": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T00:01:00.000+00:00",
            "host": "here", "python": "3.12.0", "event_loop": "uvloop", "git_commit": "abc1234",
            "command": "python3 -m loadgen --url h", "context": None,
            "server": {
                at: [{"url": urls[0], "version": "0.17.4"}] for at in ("before", "after")
            },
            "options": {"model": "known:latest", "seed": 0, "replicas": urls, "clients": clients},
        },
    } | changes  # fmt: skip


def replica_of(url, requests):
    """What one replica did, as the summary has it."""
    mine = [line for line in requests if line["replica"] == url]
    whole = [line for line in mine if line["error"] is None]
    return {
        "url": url,
        "requests": len(mine),
        "succeeded": len(whole),
        "failed": len(mine) - len(whole),
        "retried_away": 0,
        "output_tokens": sum(line["output_tokens"] for line in whole),
        "outages": [],
    }


def observed(seconds=60.0, gpus=2, nodes=1, problem=None):
    """What metrics.json has of a run of so long: GPUs at 10, 20, … percent, nodes at 50."""
    made = [
        _series("gpu", "percent", {"node": f"n{node}", "gpu": str(gpu)}, 10.0 * (gpu + 1), seconds)
        for node in range(nodes)
        for gpu in range(gpus)
    ]
    for node in range(nodes):
        labels = {"node": f"n{node}"}
        made.append(_series("cpu", "percent", labels, 50.0, seconds))
        made.append(_series("memory", "bytes", labels, 8 * 2.0**30, seconds))
    window = {"start": 1_767_225_600.0, "end": 1_767_225_600.0 + seconds, "step_seconds": 5}
    found = {"window": window, "source": "http://127.0.0.1:9090", "series": made}
    return found | ({"problem": problem} if problem else {})


def _series(name, unit, labels, value, seconds):
    times = [seconds - 5.0 * n for n in range(int(seconds / 5) + 2)]
    points = [[at, value] for at in reversed(times)]
    titles = {"gpu": "GPU utilisation", "cpu": "CPU utilisation", "memory": "Memory used"}
    return {"name": name, "title": titles[name], "unit": unit, "labels": labels, "points": points}


def write(folder: Path, requests, summary=None) -> Path:
    """The folder of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(line) + "\n" for line in requests)
    (folder / "requests.jsonl").write_text("".join(lines))
    (folder / "summary.json").write_text(json.dumps(summary or summary_of(requests)))
    return folder


def write_sweep(folder: Path, runs) -> Path:
    """The folder of a sweep; `runs`: requests by number of clients."""
    points, valid = [], {"valid": True, "reasons": [], "codes": [], "notes": []}
    for clients, requests in runs.items():
        summary = summary_of(requests, clients=clients)
        write(folder / f"clients-{clients}", requests, summary)
        points.append({"value": clients, "folder": f"clients-{clients}", "summary": summary})
    whole = {"sweep": {"by": "clients", "points": points}, "validity": valid}
    whole["provenance"] = points[0]["summary"]["provenance"]
    (folder / "summary.json").write_text(json.dumps(whole))
    return folder
