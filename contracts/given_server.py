"""A server that nobody here starts: what is measured if a recipe names one by its URL."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GivenServer(BaseModel):
    """Where a server is, what it speaks, and where the key is that it asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    api: Literal["ollama", "openai"] = Field(
        "openai",
        description="What it speaks: OpenAI's API, as vLLM, SGLang, llama.cpp and many services "
        "do, or Ollama's own.",
    )
    url: str = Field(
        min_length=1,
        max_length=2048,
        description="Its address as compute nodes reach it: `http://HOST:PORT` or `https://HOST`, "
        "with or without `/v1`.",
    )
    token_file: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="File with the key that it asks for (`/…` or `~/…`), for its owner alone "
        "(chmod 600). Default: it asks for none.",
    )
