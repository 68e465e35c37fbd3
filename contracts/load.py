"""The ways to ask for a load: the load generator's, and that of recipes and /benchmark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.json_object import JsonObject
from contracts.knobs import (
    EXTRAS,
    MAX_CLIENTS,
    MAX_REQUESTS,
    MAX_SECONDS,
    KeepAlive,
    Load,
    Prompts,
    Valued,
)
from contracts.validation import WHOLE, Sentence

#: Requests that the client service answers at once, each waiting for Ollama most of its time; and
#: those of them that are no queries: lib/door.cfg gives benchmarks 4, logins 2, files 4, batches 4,
#: and all else 8.
SERVING_THREADS, RESERVED_THREADS = 82, 22
#: Requests that wait at the door for the engines, and for each kind of thread of the service; one
#: more is refused at once. One that is translated takes HAProxy four of its files (lib/haproxy.sh).
MOST_WAITING = 2048
#: Requests that wait within an engine, so that it has the next one when one ends.
WAITING_IN_ENGINE = 2
APIS = ("ollama", "openai")

# Also the name of a folder, so neither hidden nor a path.
RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class LoadSpec(Load):
    """A load as the load generator is given it: `clients` at once, each sending one request after
    another (a closed loop), or `rate` requests per second (an open one); `requests` in all."""

    EXCLUSIVE = (*Load.EXCLUSIVE, ("rate", "clients"), ("duration_seconds", "requests"))
    REQUIRES = (*Load.REQUIRES, ("rate", ("requests", "duration_seconds")), ("arrivals", ("rate",)))

    clients: Annotated[int, Field(ge=1, le=MAX_CLIENTS), WHOLE] | None = Field(
        None, description="Clients at once (default: 1)."
    )
    requests: Annotated[int, Field(ge=1, le=MAX_REQUESTS), WHOLE] | None = Field(
        None, description="Requests in all (default: one for each client)."
    )
    keep_alive: KeepAlive = Field(
        None,
        description="How long the model stays in memory after it (default: the deployment's).",
    )

    @property
    def extras(self) -> JsonObject:
        """What each request asks for beside its prompt, its length and its seed, as far as it was
        given."""
        named = {name: getattr(self, name) for name in EXTRAS}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def fill(cls, given: JsonObject) -> dict[str, object]:
        """Return defaults that depend on what else is given."""
        filled = super().fill(given)
        if "rate" not in given:
            filled["clients"] = given.get("clients", 1)
        if not given.keys() & {"rate", "requests", "duration_seconds"}:
            filled["requests"] = filled["clients"]
        return filled


class _Asked(BaseModel):
    """What is asked if it is more than one prompt; the command line has a file of them."""

    model_config = ConfigDict(defer_build=True)  # of what has it as a part alone

    prompts: Prompts = Field(
        None,
        description="Texts that are asked in turn, or conversations as OpenAI's API has them: "
        "objects with `messages`, and perhaps `tools`.",
    )


class RunSpec(LoadSpec, _Asked):
    """A run for the load generator, as request.json has it: a load, the model it is for, and what
    is asked: a server of that API, or with `retrieval` a client service."""

    model: str = Field(description="Name of the model.")
    api: Literal["ollama", "openai"] = Field("ollama", description="What the servers speak.")
    retrieval: bool = Field(False, description="Whether /query is asked, with retrieval.")

    @property
    def asked(self) -> Sequence[JsonObject]:
        """The prompts that were given, as a file of them has them; none if built-in ones are."""
        given = self.prompts or ([] if self.prompt is None else [self.prompt])
        return [{"prompt": one} if isinstance(one, str) else one for one in given]


class _PerClient(BaseModel):
    """The amount, which comes first in schemas and pages."""

    model_config = ConfigDict(defer_build=True)  # of what has it as a part alone

    n_clients: Annotated[int, Field(ge=1, le=MAX_CLIENTS), WHOLE] | None = Field(
        None, description="Clients at once (default: 1)."
    )
    n_requests_per_client: Annotated[int, Field(ge=1, le=MAX_REQUESTS), WHOLE] | None = Field(
        None,
        description="Requests of each client, one after another (default: 1).",
    )
    n_requests: Annotated[int, Field(ge=1, le=MAX_REQUESTS), WHOLE] | None = Field(
        None, description="Requests in all, at a rate."
    )


class LoadPerClient(Load, _Asked, _PerClient):
    """A load as recipes and /benchmark ask for it: of each client so many requests."""

    EXCLUSIVE = (
        *Load.EXCLUSIVE,
        ("prompts", "prompt"),
        ("prompts", "input_tokens"),
        ("rate", "n_clients"),
        ("rate", "n_requests_per_client"),
        ("duration_seconds", "n_requests_per_client"),
        ("duration_seconds", "n_requests"),
    )
    REQUIRES = (
        ("rate", ("n_requests", "duration_seconds")),
        *(("arrivals", ("rate",)), ("n_requests", ("rate",))),
        *Load.REQUIRES,
    )
    EXCLUSIVE_VALUES: ClassVar[Sequence[tuple[Valued, Valued]]] = (
        (("think", (True, False)), ("api", ("openai",))),
    )
    #: Requests of each client if nobody says how many.
    EACH: ClassVar[int] = 1

    api: Literal["ollama", "openai"] | None = Field(
        None,
        description="API that is asked: Ollama's, or OpenAI's by /v1/chat/completions (default: "
        "Ollama's; of a server that is measured alone, its own).",
    )

    @classmethod
    def fill(cls, given: JsonObject) -> dict[str, object]:
        """Return defaults that depend on what else is given."""
        filled = super().fill(given)
        if "rate" not in given:
            filled["n_clients"] = given.get("n_clients", 1)
        if not given.keys() & {"rate", "n_requests_per_client", "duration_seconds"}:
            filled["n_requests_per_client"] = cls.EACH
        return filled

    @property
    def requests_planned(self) -> int | None:
        """Requests in all; None: as many as the time allows."""
        if self.n_clients is not None and self.n_requests_per_client is not None:
            return self.n_clients * self.n_requests_per_client
        return self.n_requests

    def in_words(self) -> str:
        """Return the load in a few words: who sends, and how much."""
        who = f"{self.n_clients} clients" if self.rate is None else f"{self.rate:g} requests/s"
        if self.duration_seconds is not None:
            return f"{who} for {self.duration_seconds:g} s"
        if self.n_requests is not None:
            return f"{who}, {self.n_requests} requests"
        return f"{who} x {self.n_requests_per_client} requests"

    def too_much(self) -> tuple[str, Sentence] | None:
        """Return a field, and what is wrong with it: more requests or time than are to be had."""
        planned = self.requests_planned or 0
        if self.rate is None and planned > MAX_REQUESTS:
            words = f"{{}} x {{}} is {planned}, but must be at most {MAX_REQUESTS} requests"
            product = ("n_clients", "n_requests_per_client")
            return "n_requests_per_client", Sentence(words, *product)
        if self.rate and planned > MAX_SECONDS * self.rate:
            words = f"{{}} at this rate take longer than {MAX_SECONDS:g} seconds"
            return "n_requests", Sentence(words, "n_requests")
        return super().too_much()

    def run(self, model: str, **more: object) -> RunSpec:
        """Return the same for the load generator, with `more` of its fields."""
        known = set(RunSpec.model_fields) & set(type(self).model_fields)
        same = self.model_dump(include=known, exclude_none=True)
        amount = {"clients": self.n_clients, "requests": self.requests_planned}
        return RunSpec.model_validate({**same, **amount, "model": model, **more})
