"""The campaign's file: what is compared, how often, and within which bounds."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from campaign.cells import Setting
from contracts.json_object import JsonObject
from contracts.validation import STRICT, SchemaAddress
from loadgen.flags import limits_of

#: More cells than that are a mistake in the file.
MOST_CELLS, MOST_VALUES, MOST_PATHS = 1_000, 100, 20
#: A run's name begins with that of its campaign, and has at most 100 characters.
MOST_NAME = 60
NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"


def _slo(value: str) -> str:
    limits_of(value)
    return value


def _setting(value: object) -> Setting:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("must be a text, a number, true, false or null")


def _recipe(value: object) -> str | JsonObject:
    if isinstance(value, dict) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError("must be a recipe, or the path of one")


class _Part(BaseModel):
    model_config = STRICT


_Setting = Annotated[
    Setting,
    PlainValidator(_setting),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
_Recipe = Annotated[
    str | JsonObject,
    PlainValidator(_recipe),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "object"}]}),
]
_Settings = Annotated[dict[str, _Setting], Field(min_length=1)]
_Values = Annotated[list[_Setting], Field(min_length=1, max_length=MOST_VALUES)]


class Budget(_Part):
    """What a campaign may take; when it is used up nothing more is begun."""

    gpu_hours: float | None = Field(
        None, gt=0, description="GPU-hours of all its deployments, from the begin of their jobs."
    )
    jobs: int | None = Field(None, ge=1, description="Jobs that are submitted, of all services.")


Number = TypeVar("Number", int, float)


def _range(value: list[Number]) -> list[Number]:
    if not 0 < value[0] < value[1]:
        raise ValueError("must be two numbers, both more than 0, the lower one first")
    return value


_Range = Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_range)]
#: What is searched: a knob of the load.
Searched = Literal["rate", "n_clients"]


class Search(_Part):
    """In each cell the highest rate, or number of clients, is searched that keeps the SLO."""

    rate: _Range[float] | None = Field(
        None, description="Requests per second, between which it is searched."
    )
    n_clients: _Range[int] | None = Field(
        None, description="Clients, between which it is searched, in place of `rate`."
    )
    goodput: float = Field(
        0.95, gt=0, lt=1, description="Share of requests within the SLO with which it is kept."
    )
    runs: int = Field(10, ge=1, le=100, description="Runs of a search, at most.")

    @model_validator(mode="after")
    def _one(self) -> Search:
        if (self.rate is None) == (self.n_clients is None):
            raise ValueError("must have either rate or n_clients: what is searched")
        return self

    @property
    def knob(self) -> Searched:
        """What is searched."""
        return "n_clients" if self.rate is None else "rate"

    @property
    def between(self) -> tuple[float, float]:
        """Where it is searched."""
        low, high = self.rate or self.n_clients or (0, 0)
        return low, high

    def words(self, load: float) -> str:
        """Return such a load as people read it."""
        return f"{load:.4g} requests/s" if self.knob == "rate" else f"{load:.0f} clients"


class Campaign(_Part):
    """What is compared, how often, and within which bounds."""

    name: Annotated[str, Field(pattern=NAME, max_length=MOST_NAME)] | None = Field(
        None, description="Its folder in output/campaigns. Default: the file's name."
    )
    recipe: _Recipe = Field(
        description="What all cells have in common: a recipe, or the path of one (relative paths "
        "start at the campaign's folder)."
    )
    vary: Annotated[dict[str, _Values], Field(min_length=1, max_length=MOST_PATHS)] = Field(
        description="Values by their paths in the recipe (`job.service.num_parallel`), or by "
        "`load.KNOB` for a knob of the load: each combination of them is a cell."
    )
    exclude: list[_Settings] = Field(
        default_factory=list, description="Combinations that are left out: cells with all of them."
    )
    repetitions: int = Field(
        5,
        ge=1,
        le=1000,
        description="How often each cell is measured: in blocks of all.",
    )
    seed: int = Field(
        1, ge=0, le=2**31 - 1, description="Of the order of cells, and of the load's prompts."
    )
    parallel: int = Field(1, ge=1, le=100, description="Deployments that are up at once, at most.")
    budget: Budget = Field(
        default_factory=lambda: Budget(), description="What it may take; default: no bounds."
    )
    baseline: _Settings | None = Field(
        None, description="The cell that others are compared with: all settings that tell it."
    )
    slo: Annotated[str, AfterValidator(_slo)] | None = Field(
        None,
        description="Limits that a good request keeps, in seconds (`ttft:0.5,itl:0.05`); it is the "
        "load's `goodput` where the recipe has none.",
    )
    search: Search | None = Field(
        None,
        description="A repetition is then no single run, but a search for the highest load that "
        "keeps the SLO.",
    )

    @property
    def limits(self) -> dict[str, float]:
        """The limits of the SLO: seconds by figure; none if there is no SLO."""
        return limits_of(self.slo) if self.slo is not None else {}


class CampaignFile(_Part):
    """A campaign of orch.py: one JSON file that compares settings."""

    schema_: SchemaAddress = None
    campaign: Campaign = Field(description="What is compared.")
