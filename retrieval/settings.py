"""What a recipe's section on retrieval comes to, as the client service is told it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

MAX_TOP_K = 100
DEFAULT_TOP_K = 5
DEFAULT_CHUNK_TOKENS = 256
DEFAULT_CHUNK_OVERLAP = 32
#: What a collection may be called: its name is a folder's name, too.
COLLECTION = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Chunking:
    """How documents are cut: lengths in tokens, as `retrieval.chunks` counts them."""

    tokens: int = DEFAULT_CHUNK_TOKENS
    overlap: int = DEFAULT_CHUNK_OVERLAP


@dataclass(frozen=True)
class RetrievalSettings:
    """Where the points are and how they are found.

    `place`: the absolute path of a folder (Qdrant's local mode, in the client service) or the URL
    of a server. `job`: the one whose address file says where the server is, whatever `place` says.
    `grpc_port`: gRPC is used if it is given. `key_file`: holds the server's API
    key, for its owner alone. `embedding_model`: as Ollama knows it. `top_k`: hits where a request
    does not say how many.
    """

    place: str
    collection: str
    embedding_model: str
    top_k: int = DEFAULT_TOP_K
    grpc_port: int | None = None
    key_file: Path | None = None
    job: str | None = None

    @property
    def embedded(self) -> bool:
        """Whether the points are in a folder of ours rather than with a server."""
        return self.place.startswith("/")

    def key(self) -> str | None:
        """Return the API key, read each time. Raises ValueError if others could read it, too."""
        if self.key_file is None:
            return None
        try:
            mode = self.key_file.stat().st_mode
            text = self.key_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.key_file} cannot be read: {error}") from error
        if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(f"{self.key_file} is open to others; chmod 600 {self.key_file}")
        return text or None


def section(collection: str, embedding_model: str, top_k: int) -> str:
    """Return the value of ORCH_RETRIEVAL."""
    wanted = {"collection": collection, "embedding_model": embedding_model, "top_k": top_k}
    return json.dumps(wanted)


def retrieval_settings_from(
    environment: Mapping[str, str] = os.environ,
) -> RetrievalSettings | None:
    """Return settings from ORCH_RETRIEVAL (JSON), ORCH_QDRANT (path or URL) or ORCH_QDRANT_JOB,
    ORCH_QDRANT_GRPC_PORT and ORCH_QDRANT_KEY_FILE; None if there is no ORCH_RETRIEVAL.

    Raises ValueError naming the variable that is wrong.
    """
    text, place = environment.get("ORCH_RETRIEVAL", ""), environment.get("ORCH_QDRANT", "")
    if not text:
        return None
    job = environment.get("ORCH_QDRANT_JOB") or None
    if job is None and not place.startswith(("/", "http://", "https://")):
        raise ValueError(f"ORCH_QDRANT is {place!r}, but must be an absolute path or a URL")
    port = environment.get("ORCH_QDRANT_GRPC_PORT") or None
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"ORCH_QDRANT_GRPC_PORT is {port!r}, but must be a port")
    key_file = environment.get("ORCH_QDRANT_KEY_FILE") or None
    return RetrievalSettings(
        place=place,
        job=job,
        grpc_port=int(port) if port else None,
        key_file=Path(key_file) if key_file else None,
        **_parsed(text),
    )


class _Given(TypedDict):
    collection: str
    embedding_model: str
    top_k: int


def _parsed(text: str) -> _Given:
    try:
        given = json.loads(text)
        found: _Given = {
            "collection": given["collection"],
            "embedding_model": given["embedding_model"],
            "top_k": given["top_k"],
        }
        valid = re.fullmatch(COLLECTION, found["collection"]) and found["embedding_model"]
        if not valid or not 0 < found["top_k"] <= MAX_TOP_K:
            raise ValueError("a value is out of bounds")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"ORCH_RETRIEVAL is {text[:200]!r}, not usable: {error}") from error
    return found
