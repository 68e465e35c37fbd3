"""The engines that a deployment can start, by what a recipe calls them.

Apart from engines/registry.py, since what recipes may tell them (pydantic) is of no use to those
who only ask a server: an exporter on each node begins just as the model is first asked.
"""

from __future__ import annotations

from engines.servers.deployed import Deployed
from engines.servers.llamacpp import LLAMACPP
from engines.servers.ollama import DEPLOYED_OLLAMA
from engines.servers.vllm import VLLM

DEPLOYED: dict[str, Deployed] = {
    "ollama": DEPLOYED_OLLAMA,
    "llama.cpp": LLAMACPP,
    "vllm": VLLM,
}
