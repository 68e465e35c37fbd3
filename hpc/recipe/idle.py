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
#: What would ask for something, or end the deployment, whoever else asks.
_BESIDES = ("batch",)


class Idle(Section):
    """Beside what is served, since requests at the service decide it, whatever the jobs' limit."""

    idle_timeout: Duration | None = Field(
        None,
        description="No request of a model for so long (`90s`, `30m`, `2h`, `1d`) ends the "
        "deployment, all of its jobs (docs/idle.md). Default: the time limit alone ends it.",
    )

    @field_validator(*_BESIDES, check_fields=False)
    @classmethod
    def _asked_by_users_alone(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("idle_timeout"):
            raise ValueError(
                "does not go with job.service.idle_timeout: the batch's end is the deployment's"
            )
        return value

    @property
    def idle_seconds(self) -> int | None:
        """Seconds without a request that end the deployment; None if nothing but time does."""
        return None if self.idle_timeout is None else parse_duration(self.idle_timeout)
