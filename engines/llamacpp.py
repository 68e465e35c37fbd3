"""llama.cpp's own server: OpenAI's API, and what it says of itself beside that."""

from __future__ import annotations

from engines.deployed import Deployed
from engines.openai import OPENAI

LLAMACPP = Deployed("llamacpp", "llama.cpp", OPENAI)
