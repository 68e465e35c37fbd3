"""Which API a deployment's engine is asked by."""

from __future__ import annotations

from client.engine_apis.interface import EngineApi
from client.engine_apis.ollama import OllamaApi
from client.engine_apis.openai import OpenAIApi
from engines.servers.deployed import Deployed


def api_of(engine: Deployed) -> EngineApi:
    """Return Ollama's own of what speaks that, else OpenAI's."""
    if engine.api == OllamaApi.speaks[0]:
        return OllamaApi()
    return OpenAIApi(engine)
