"""The least that passes a question on to Ollama, by the same libraries as the client service: what
client_overhead.py holds it against. It checks nothing, counts nothing, and knows of one replica."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import urllib3
from flask import Flask, request

app = Flask(__name__)
pool = urllib3.PoolManager(maxsize=1000)
ollama = (Path(os.environ["ORCH_OUTPUT_DIR"]) / "ollama_ip_1.txt").read_text().strip()


@app.get("/health")
def health() -> dict[str, Any]:
    """It is there."""
    return {}


@app.post("/query")
def query() -> dict[str, Any]:
    """Ollama's own answer."""
    given = request.get_json()
    body = {"model": given["model"], "prompt": given["prompt"], "stream": False}
    answer: dict[str, Any] = pool.request("POST", f"http://{ollama}/api/generate", json=body).json()
    return answer
