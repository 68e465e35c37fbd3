"""What one must know of an engine to deploy it: the interface that each engine fills of which a
deployment starts servers of its own.

All are found by the name that recipes call them by in engines/servers/deployable.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engines.servers.options import Options

if TYPE_CHECKING:
    from engines.engine import Engine


@dataclass(frozen=True)
class Allowed:
    """What may be asked of a server by who has the deployment's token: paths that are read (GET,
    HEAD), alone or with all below them, and those that are asked (POST). All else is refused."""

    read: tuple[str, ...]
    read_below: tuple[str, ...]
    ask: tuple[str, ...]


#: Ollama's options of a request that OpenAI's API has, by what each is called there.
OPENAIS_QUERY: Mapping[str, str] = {
    "num_predict": "max_tokens",
    **{name: name for name in ("temperature", "top_p", "seed", "stop",
                               "presence_penalty", "frequency_penalty")},
}  # fmt: skip
#: Where a server with the APIs of OpenAI and Anthropic is asked.
OPENAIS_PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/v1/messages", "/v1/messages/count_tokens"),
)
#: What a server cannot do that has one model, and keeps it.
OF_ONE_MODEL: Mapping[str, str] = {
    "retrieval": "its server has one model, and does not embed while it answers",
    "keep_alive": "its server keeps the model in memory for as long as it runs",
}


def _nothing() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Deployed:
    """An engine that has a job of its own: templates/SERVICE.sbatch.j2."""

    #: Of its job, template, logs, address file and endpoint: of a to z alone.
    service: str
    #: What sentences call it.
    title: str
    #: The name in ENGINES of what those speak to it who have the choice.
    api: str
    #: How its servers are asked: that, with what they say beyond it.
    engine: Engine
    usual_port: int
    #: Where its container image comes from if the site profile does not say.
    image: str
    allowed: Allowed
    #: What answers 200 once it serves.
    health: str = "/"
    #: The option of `python3 -m exporters` by which Prometheus gets its metrics, and their path;
    #: None: it has none.
    exporter: str | None = None
    metrics: str = ""
    #: The kind of their target (monitoring/prometheus.yml).
    target: str = "engine"
    #: Where records have its version.
    version_key: str = "version"
    #: What it is given of a model: a name, its GGUF file, or its folder of Hugging Face's layout.
    takes: Literal["name", "file", "folder"] = "file"
    #: What it cannot do: keys of `job.service` that it does not know, and why.
    cannot: Mapping[str, str] = field(default_factory=_nothing)
    #: What recipes may tell it beyond its model; by default nothing.
    options: Options = field(default_factory=Options)
    #: Ollama's options that it takes with a query by OpenAI's API, by its names for them.
    query_options: Mapping[str, str] = field(default_factory=lambda: OPENAIS_QUERY)
    #: By what arguments its program is told them, by their names in recipes.
    arguments: Callable[[Mapping[str, object]], Iterable[str]] = lambda asked: ()
