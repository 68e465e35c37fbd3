"""All engines: by the name of the API that they speak, and those that a deployment can start."""

from __future__ import annotations

from collections.abc import Mapping

from engines.client_service import CLIENT_SERVICE
from engines.deployed import Deployed
from engines.engine import Engine
from engines.llamacpp import LLAMACPP
from engines.ollama import OLLAMA
from engines.ollama_server import DEPLOYED_OLLAMA
from engines.openai import OPENAI

#: The API of --retrieval: /query of a client service, with retrieval.
RETRIEVAL = "retrieval"

ENGINES: Mapping[str, Engine] = {
    "ollama": OLLAMA,
    "openai": OPENAI,
    RETRIEVAL: CLIENT_SERVICE,
}

#: Those that a deployment can start, by what a recipe calls them (`job.service.engine`).
DEPLOYED: dict[str, Deployed] = {"ollama": DEPLOYED_OLLAMA, "llama.cpp": LLAMACPP}
