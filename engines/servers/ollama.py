"""Ollama as a deployment starts it."""

from __future__ import annotations

from contracts.job_files import DEFAULT_PORTS
from engines.ollama import CHAT, EMBED, GENERATE, OLLAMA, RUNNING, SHOW, TAGS, VERSION
from engines.servers.deployed import Allowed, Deployed
from engines.servers.ollama_options import OPTIONS

DEPLOYED_OLLAMA = Deployed(
    service="ollama",
    title="Ollama",
    api="ollama",
    engine=OLLAMA,
    usual_port=DEFAULT_PORTS["ollama"],
    image="docker://ollama/ollama:0.17.4",
    allowed=Allowed(
        read=("/", VERSION, TAGS, RUNNING, "/v1/models"),
        read_below=("/v1/models/",),
        ask=(
            *(SHOW, GENERATE, CHAT, EMBED, "/api/embeddings"),
            *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        ),
    ),
    health=VERSION,
    exporter="--ollama",
    target="ollama",
    version_key="ollama_version",
    takes="name",
    options=OPTIONS,
)
