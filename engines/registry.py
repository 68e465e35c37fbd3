"""All engines, by the name of the API that they speak. Those that a deployment can start are in
engines/servers/deployable.py."""

from __future__ import annotations

from collections.abc import Mapping

from engines.client_service import CLIENT_SERVICE
from engines.engine import Engine
from engines.ollama import OLLAMA
from engines.openai import OPENAI

#: The API of --retrieval: /query of a client service, with retrieval.
RETRIEVAL = "retrieval"

ENGINES: Mapping[str, Engine] = {
    "ollama": OLLAMA,
    "openai": OPENAI,
    RETRIEVAL: CLIENT_SERVICE,
}
