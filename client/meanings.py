"""What the keys of answers mean, by the schema that has them: for openapi.json and docs/api.md."""

from __future__ import annotations

from collections.abc import Mapping

from loadgen.stats import PERCENTILES

_RUN = {
    "id": "Name of the run; its files are in `benchmarks/ID/` of the output directory.",
    "state": "`running`, `done`, `failed`, or `cancelled`.",
    "progress": "How far it is.",
}
_HEALTH = {
    "status": "`healthy`: all replicas answer; `degraded`: some do; `unhealthy`: none does.",
    "ollama_host": "Host of the first replica.",
    "ollama": "Every replica.",
    "model": "The deployment's model.",
    "deployment": "Id of the deployment.",
    "job_id": "Id of this service's job.",
    "ollama_job": "Id of Ollama's job.",
    "retrieval": "The collection, where there is one: `points` in it, and whether it is `ok`.",
}

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "Error": {"error": "What went wrong."},
    "ErrorWords": {
        "type": "The kind, for programs.",
        "message": "A sentence for people, which names all that is wrong.",
    },
    "Health": _HEALTH,
    "Unhealthy": {**_HEALTH, "error": "Why the replicas do not answer."},
    "Replica": {
        "address": "`host:port`.",
        "ok": "Whether it answers.",
        "reason": "Why it does not.",
        "version": "Of Ollama.",
        "model": "The name under which it has the deployment's model.",
        "available": "Whether it has that model.",
        "loaded": "Whether that model is in memory.",
        "placement": "Where that sits: `size` and `size_vram` in bytes; `where`: `cpu`, `gpu` or "
        "`gpu+cpu`.",
        "outstanding": "Queries that it works on now, for this service.",
    },
    "Answer": {
        "request_time": "Seconds from the query's arrival here to the end of Ollama's answer.",
        "replica": "Address of the replica that answered.",
        "retried": "Whether another replica was asked before, and gave no answer.",
        "sources": "Where there was retrieval: what the model was given, by number.",
        "timings": "Likewise: seconds of each step; `prefill` and `decode` by Ollama's own count.",
    },
    "Hit": {
        "number": "Its number in the prompt, from 1; the best is first.",
        "score": "Cosine similarity to the question.",
        "source": "File that it is from.",
        "position": "Its place among that file's chunks, from 0.",
        "heading": "Headings that it stands under.",
        "metadata": "What a JSON line brought beside its text.",
        "text": "Of a source of a query only the beginning.",
    },
    "SearchAnswer": {"hits": "The best first.", "timings": "Seconds of each step."},
    "PointsAnswer": {
        "points": "In the collection now.",
        "added": "That were new.",
        "present": "That were there.",
        "removed": "Of an earlier version of the source.",
        "truncated": "Chunks that were longer than the embedding model reads, and were cut.",
        "complete": "Whether all chunks of the source are there.",
    },
    "Begun": {key: _RUN[key] for key in ("id", "state")},
    "Progress": {
        "phase": "`start`, `warmup`, or `measure`.",
        "planned": "Requests in all; null where a time was asked for.",
        "done": "Requests that have ended, with those that failed.",
        "failed": "Requests that failed.",
        "elapsed_seconds": "Since the start.",
        "requests_per_second": "So far.",
        "ttft_p50": "Median TTFT so far, in seconds.",
        "output_tokens_per_second": "Of all clients together, so far.",
    },
    "BenchmarkState": {**_RUN, "error": "Why it failed."},
    "BenchmarkResult": {
        **_RUN,
        "n_clients": "As asked for; null at a rate.",
        "n_requests_per_client": "As asked for; null at a rate or for a time.",
        "total_queries": "Requests that were sent, without the warm-up.",
        "successful": "Those that were answered whole.",
        "failed": "Those that were not.",
        "retried": "Those that were sent once more, to another replica.",
        "total_time": "Seconds from the start to the end of the last request.",
        "avg_request_time": "Mean E2E latency of those that succeeded, in seconds.",
        "queries_per_second": "successful / total_time.",
        "results": "A line for each request.",
        "latency_seconds": "TTFT, ITL, TPOT and E2E latency.",
        "throughput": "Requests and tokens per second, of all clients together.",
        "validity": "Whether the figures may be used, and in words why not.",
        "provenance": "Where the figures come from.",
    },
    "Distribution": {
        "mean": "Mean.",
        "std": "Standard deviation.",
        "min": "Least value.",
        **{f"p{p}": f"Percentile {p}; null where the values are too few." for p in PERCENTILES},
        "max": "Greatest value.",
        "n": "How many values.",
    },
}
