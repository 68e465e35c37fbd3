"""What becomes of a service that nobody asks: a part of the recipe's section on the service."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from hpc.recipe.sections import Section
from hpc.times import parse_duration


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, Field(max_length=16), AfterValidator(_check_duration)]
#: What is asked at the start, and would begin an engine that nobody has asked for.
_AT_THE_START = ("n_requests_per_client", "n_requests", "duration_seconds", "question", "retrieval")


class Idle(Section):
    """Beside what is served, since requests at the service decide it, whatever the jobs' limit."""

    idle_timeout: Duration | None = Field(
        None,
        description="No request of a model for so long (`90s`, `30m`, `2h`, `1d`) ends the "
        "deployment, all of its jobs; with `on_request` the engine's alone (docs/idle.md). "
        "Default: the time limit alone ends it.",
    )
    on_request: bool = Field(
        False,
        description="Submits no engine's job before somebody asks: the first request has it "
        "submitted, and waits for it; `idle_timeout` says when it ends. The client service's job "
        "stays (docs/idle.md).",
    )

    @field_validator("on_request")
    @classmethod
    def _ends_again(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "idle_timeout" in info.data and not info.data["idle_timeout"]:
            raise ValueError("goes with job.service.idle_timeout alone, which says when it ends")
        return value

    @field_validator("batch", check_fields=False)
    @classmethod
    def _asked_by_users_alone(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("idle_timeout"):
            raise ValueError(
                "does not go with job.service.idle_timeout: the batch's end is the deployment's"
            )
        return value

    @field_validator(*_AT_THE_START, check_fields=False)
    @classmethod
    def _asked_later(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("on_request"):
            raise ValueError(
                "does not go with job.service.on_request: nothing is asked before somebody asks"
            )
        return value

    @property
    def idle_seconds(self) -> int | None:
        """Seconds without a request that end the deployment; None if nothing but time does."""
        return None if self.idle_timeout is None else parse_duration(self.idle_timeout)
