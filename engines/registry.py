"""All engines, by the name of the API that they speak."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.load import RETRIEVAL
from engines.client_service import CLIENT_SERVICE
from engines.engine import Engine
from engines.ollama import OLLAMA
from engines.openai import OPENAI

ENGINES: Mapping[str, Engine] = {
    "ollama": OLLAMA,
    "openai": OPENAI,
    RETRIEVAL: CLIENT_SERVICE,
}
