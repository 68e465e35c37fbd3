"""The routes by which a deployment is watched, as OpenAPI has them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue as Schema

from client.api.openapi_parts import in_json, named, operation
from contracts.live import state

#: In the order in which docs/api.md has them.
ANSWERS: Sequence[type[BaseModel]] = (
    *(state.State, state.Deployment, state.Idle, state.Job, state.Successor, state.Engine),
    *(state.Series, state.Point, state.Benchmark, state.Batch, state.Campaign, state.Handover),
    *(state.NextJobs, state.Warning, state.Log, state.Copy, state.Report),
)
_FULL = "32 watch already. (Retry-After says when to come again.)"


def show_state() -> Schema:
    """Return GET /state."""
    summary = "All that is known of the deployment now. It asks no engine for a token."
    return operation("state", summary, {"200": in_json("As it is now.", named("State"))}, {})


def show_events() -> Schema:
    """Return GET /events."""
    told = (
        "Server-sent events. `state`: all of it, once; then, when it has changed, an event that is "
        "called as a key of State, whose data is the new value; and `point`, each 5 seconds: one "
        "more [Point](#point) of `series`. A comment at least each 15 seconds. Who is slow to read "
        "is let go: come again."
    )
    text = {"description": told, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    summary = "The same, and what changes, until the deployment ends. At most 32 at once."
    return operation("events", summary, {"200": text}, {503: _FULL})
