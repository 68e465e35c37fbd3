"""The live state of a deployment: what GET /state says whole, and GET /events as it changes.

Times are Unix times in seconds. Readers pass over keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: Of the series: seconds between two points, and how many are kept (15 minutes).
STEP_S, POINTS = 5.0, 180
#: Lines of each log.
LOG_LINES = 20
#: Events that are no key of the state: all of it, first; and one more point of the series.
WHOLE, POINT = "state", "point"


class Part(BaseModel):
    """What the state is made of."""

    model_config = ConfigDict(
        frozen=True,
        populate_by_name=True,
        defer_build=True,
        json_schema_serialization_defaults_required=True,
    )


class Idle(Part):
    """A deployment that ends, or sleeps, when nobody asks it anything."""

    timeout_s: float = Field(description="Seconds without a request until then.")
    ends: float | None = Field(
        description="When that is; null if no engine answers, as one comes with a request."
    )


class Deployment(Part):
    """The deployment as a whole."""

    id: str = Field(description="Its id.")
    name: str = Field(description="Its recipe's name.")
    model: str = Field(description="The model that it serves.")
    engine: str = Field(description="What serves it: `ollama`, `llamacpp`, `vllm`.")
    state: Literal["starting", "healthy", "degraded", "unhealthy", "sleeping", "ended"] = Field(
        description="`starting`: no query has been answered yet; `healthy`, `degraded`, "
        "`unhealthy`: as GET /health says it; `sleeping`: the next request submits its jobs; "
        "`ended`: only orch.py --watch says it."
    )
    reason: str = Field("", description="Why it is not healthy, in a sentence; empty if it is.")
    address: str = Field(description="The URL of its door; empty until that is known.")
    security: str = Field(description="`required`, `token` or `none`.")
    idle: Idle | None = Field(None, description="When it ends by itself; null: it does not.")


class Successor(Part):
    """The job that is to come after another one."""

    id: str = Field(description="Its id.")
    state: str = Field(description="In Slurm's words: `PENDING`, `RUNNING`, …")
    reason: str = Field(description="The same in plain words, with why it waits.")


class Job(Part):
    """A job of the deployment."""

    service: str = Field(description="`ollama`, `client`, `qdrant`, `monitoring`, …")
    id: str = Field(description="Its id.")
    state: str = Field(description="In Slurm's words: `PENDING`, `RUNNING`, `FAILED`, …")
    reason: str = Field(description="The same in plain words, with why it waits or has ended.")
    host: str | None = Field(None, description="Its node; null until it begins.")
    began: float | None = Field(None, description="When it began.")
    expected: float | None = Field(None, description="When Slurm expects it to begin, if it says.")
    ends: float | None = Field(None, description="When its time limit ends.")
    successor: Successor | None = Field(None, description="The job that takes its place.")


class Engine(Part):
    """One engine of the deployment."""

    address: str = Field(description="`host:port`.")
    host: str = Field(description="The host of that.")
    ok: bool = Field(description="Whether it would answer a query, as GET /health says it.")
    reason: str | None = Field(None, description="Why not, or what else there is to say of it.")
    device: str | None = Field(
        None, description="Where the model is: `gpu`, `cpu` or `gpu+cpu`; null if not in memory."
    )
    gpus: tuple[str, ...] = Field((), description="The GPUs of its job, and their driver.")
    quantization: str | None = Field(None, description="Of the model's weights.")
    in_flight: int = Field(description="Requests that it works on.")
    queued: int = Field(description="Requests that wait for it at the door.")


class Point(Part):
    """What the requests of one step came to, whichever API they spoke; null: there were none."""

    time: float = Field(description="When the step began.")
    ttft_p50: float | None = Field(description="Median seconds to the first token.")
    ttft_p99: float | None = Field(description="Percentile 99 of them.")
    itl_p50: float | None = Field(description="Median seconds between two tokens.")
    itl_p99: float | None = Field(description="Percentile 99 of them.")
    tokens_per_s: float = Field(description="Tokens generated a second, by all together.")
    queued: int = Field(description="Requests that waited at the door at the end of the step.")
    in_flight: int = Field(description="Requests that were worked on then.")


class Series(Part):
    """The last 15 minutes, the oldest first; all lists have the same length."""

    start: float = Field(description="When the first step began.")
    step_s: float = Field(STEP_S, description="Seconds of a step.")
    ttft_p50: tuple[float | None, ...] = Field(description="As of a [Point](#point), of each step.")
    ttft_p99: tuple[float | None, ...] = Field(description="Likewise.")
    itl_p50: tuple[float | None, ...] = Field(description="Likewise.")
    itl_p99: tuple[float | None, ...] = Field(description="Likewise.")
    tokens_per_s: tuple[float, ...] = Field(description="Likewise.")
    queued: tuple[int, ...] = Field(description="Likewise.")
    in_flight: tuple[int, ...] = Field(description="Likewise.")


class Benchmark(Part):
    """The benchmark that runs, or was the last one."""

    run: str = Field(description="Its id: GET /benchmark/ID has all of it.")
    state: str = Field(description="`running`, `done`, `failed` or `cancelled`.")
    done: int = Field(description="Requests that have ended, with those that failed.")
    failed: int = Field(0, description="Requests that failed.")
    planned: int | None = Field(description="Requests in all; null if a time was asked for.")
    eta_s: float | None = Field(description="Seconds until it is done, at this rate.")


class Batch(Part):
    """A batch that came by POST /v1/batches, or that the recipe has."""

    id: str = Field(description="Its id; `recipe`: the recipe's.")
    state: str = Field(description="`checking`, `in_progress`, `completed`, …")
    total: int = Field(description="Its lines.")
    completed: int = Field(description="Those that have an answer.")
    failed: int = Field(description="Those that have failed.")


class Campaign(Part):
    """A campaign that measures this deployment."""

    name: str = Field(description="Its name.")
    group: str = Field(description="The settings that this deployment stands for.")
    done: int = Field(description="Repetitions that are done, of all its deployments.")
    planned: int | None = Field(description="Repetitions in all, as far as they are planned.")


class NextJobs(Part):
    """The jobs that take over."""

    client: str | None = Field(None, description="The id of the client's.")
    engine: str | None = Field(None, description="The id of the engine's.")


class Handover(Part):
    """How the deployment gets beyond its jobs' time limit."""

    job: int = Field(description="Which one of its jobs this is, from 1 on.")
    max_jobs: int | None = Field(None, description="How many there will be at most.")
    phase: str = Field(
        description="`serving`, `submitted`, `waiting`, `handing_over` or `handed_over`."
    )
    lead_s: float | None = Field(None, description="Seconds before the end of this job at which "
                                 "the next one is submitted.")  # fmt: skip
    submit_at: float | None = Field(None, description="When that is.")
    ends: float | None = Field(None, description="When this job's time limit ends.")
    successor: NextJobs | None = Field(None, description="The next jobs, once submitted.")
    expected: float | None = Field(None, description="When those are expected to serve.")
    dark_s: float | None = Field(None, description="Seconds for which nobody will serve, if so.")
    address: str | None = Field(None, description="The URL of the new door, once it serves.")
    problem: str | None = Field(None, description="Why no successor is to be had, in a sentence.")


class Warning(Part):
    """Something that is wrong, or soon will be."""

    what: str = Field(description="What, in a sentence.")
    remedy: str = Field(description="What to do about it.")


class Log(Part):
    """The end of a job's log; tokens are not in it."""

    service: str = Field(description="Whose.")
    lines: tuple[str, ...] = Field(description=f"Its last lines, {LOG_LINES} at most.")


class Copy(Part):
    """A line to be copied into a shell; the token is read from its file."""

    name: str = Field(description="What it is for.")
    line: str = Field(description="The line, or several.")


class Report(Part):
    """The report of a benchmark that has ended."""

    name: str = Field(description="The benchmark's id.")
    href: str = Field(description="Where it is, in the output directory.")


class State(Part):
    """All of it."""

    time: float = Field(description="When this was so.")
    deployment: Deployment = Field(description="What it is, and how it is.")
    jobs: tuple[Job, ...] = Field((), description="Its jobs.")
    replicas: tuple[Engine, ...] = Field((), description="Its engines.")
    series: Series | None = Field(None, description="Its requests within the last 15 minutes.")
    benchmark: Benchmark | None = Field(None, description="The one that runs, or the last one.")
    batches: tuple[Batch, ...] = Field((), description="The latest first.")
    campaign: Campaign | None = Field(None, description="One that measures it.")
    handover: Handover | None = Field(None, description="Null: its jobs have no successors.")
    warnings: tuple[Warning, ...] = Field((), description="What is wrong, the worst first.")
    logs: tuple[Log, ...] = Field((), description="The ends of its jobs' logs.")
    copy_lines: tuple[Copy, ...] = Field((), alias="copy", description="Lines to be copied.")
    reports: tuple[Report, ...] = Field((), description="Of its benchmarks, the latest first.")

    def after(self, event: str, data: Mapping[str, object] | list[object] | None) -> State:
        """Return the state after an event; one of a later version changes nothing.

        Raises ValidationError: the event is none.
        """
        if event == WHOLE:
            return State.model_validate(data)
        if event == POINT:
            point = Point.model_validate(data)
            return self.model_copy(update={"series": extended(self.series, point)})
        if event == "series":
            series = None if data is None else Series.model_validate(data)
            return self.model_copy(update={"series": series})
        told = self.model_dump(by_alias=True, exclude={"series"})
        if event not in told:
            return self
        changed = State.model_validate({**told, event: data})
        return changed.model_copy(update={"series": self.series})


def extended(series: Series | None, point: Point) -> Series:
    """Return a series with one more point, and none that is too old."""
    keys = [key for key in Point.model_fields if key != "time"]
    if series is None:
        return Series(start=point.time, **{key: (getattr(point, key),) for key in keys})
    lists = {key: (*getattr(series, key), getattr(point, key))[-POINTS:] for key in keys}
    return Series(start=point.time - STEP_S * (len(lists["queued"]) - 1), **lists)
