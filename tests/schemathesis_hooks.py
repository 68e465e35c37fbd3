"""For schemathesis: keep benchmarks small, and say which 5xx are true.

The stand-in for Ollama never fails. A 5xx is then true only where a caller asks it for a model that
it does not have, or gives a benchmark less time than a request takes.
"""

import os
from pathlib import Path

import schemathesis

MODEL = "known"
#: Of the door in front of the service, if there is one.
TOKEN_FILE = os.environ.get("ORCH_FUZZ_TOKEN_FILE")
# Sizes in the bounds are cut to these; those out of bounds are sent as they are.
SMALL = {
    "n_clients": (10_000, 3),
    "n_requests_per_client": (1_000_000, 4),
    "n_requests": (1_000_000, 8),
    "max_concurrency": (10_000, 8),
    "warmup": (1_000, 2),
    "num_predict": (32_768, 8),
    "input_tokens": (100_000, 64),
    "processes": (64, 2),
    "duration_seconds": (86_400, 0.3),
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Benchmarks that are right are short ones, and half of the models are known."""
    body = case.body
    if TOKEN_FILE:
        token = Path(TOKEN_FILE).read_text().strip()
        case.headers["Authorization"] = f"Bearer {token}"
    if not isinstance(body, dict):
        return
    for name, (high, small) in SMALL.items():
        value = body.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            body[name] = small if small < value <= high else value
    rate = body.get("rate")
    if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate <= 20_000:
        body["rate"] = min(max(rate, 50), 200)
    _announce_chunks(body)
    _converse(body)
    model = body.get("model")
    if isinstance(model, str) and 0 < len(model) <= 256 and len(model) % 2:
        body["model"] = MODEL


def _converse(body):
    """What an object among prompts must be, what they go with, and that /query takes no object: the
    schema does not say it."""
    prompts = body.get("prompts")
    if isinstance(prompts, list):
        for name, kind in (("prompt", str), ("input_tokens", (int, float))):
            if isinstance(body.get(name), kind) and body[name]:
                del body[name]
        turns = {"messages": [{"role": "user", "content": "Hi"}]}
        turn = "Hi" if body.get("retrieval") is True else turns
        body["prompts"] = [turn if isinstance(one, dict) and one else one for one in prompts]


def _announce_chunks(body):
    """Positions of chunks are below the number of chunks: a schema cannot say it."""
    count, chunks = body.get("count"), body.get("chunks")
    if isinstance(count, (int, float)) and count > 0 and isinstance(chunks, list):
        for chunk in chunks:
            if isinstance(chunk, dict) and isinstance(chunk.get("position"), (int, float)):
                chunk["position"] = min(chunk["position"], int(count) - 1)


@schemathesis.check
def only_true_server_errors(ctx, response, case):
    """A 5xx is one that the caller has asked for, in the shape of our errors."""
    if response.status_code < 500:
        return
    words = response.json()["error"]
    body = case.body if isinstance(case.body, dict) else {}
    asked = body.get("model", MODEL) != MODEL or "timeout_seconds" in body
    true = words["type"] in ("ollama_error", "benchmark_failed", "timeout")
    assert asked and true, f"{response.status_code} {words}"
