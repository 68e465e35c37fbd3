"""A server that nobody here started: what the client service says of it, and measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from paced_server import Server
from ports import free_port
from scripted_server import scripted

import clientService
from client import given_server
from engines.http.tls import context_of

KEY = "sk-0123456789abcdef"

Make = Callable[..., FlaskClient]


@pytest.fixture
def client_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Path) -> Make:
    """The client service for a server, perhaps with a key."""

    def make(url: str, api: str = "openai", key: str | None = None) -> FlaskClient:
        token_file = tmp_path / "key"
        given = {"api": api, "url": url, "token_file": str(token_file) if key else None}
        if key:
            token_file.write_text(f"{key}\n")
            token_file.chmod(0o600)
        output = tmp_path / "output"
        output.mkdir()
        names = {"OUTPUT_DIR": str(output), "MODEL": "known:latest", "DEPLOYMENT": "d1"}
        for name, value in {**names, "SERVER": json.dumps(given)}.items():
            monkeypatch.setenv(f"ORCH_{name}", value)
        monkeypatch.delenv("ORCH_OLLAMA_JOB", raising=False)
        return clientService.create_app().test_client()

    return make


def answer(status: int, body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data)


@pytest.mark.parametrize(("api", "end"), [("openai", ""), ("openai", "/v1"), ("ollama", "")])
def test_it_is_measured_in_its_own_api(
    client_of: Make, server: Server, api: str, end: str, tmp_path: Path
) -> None:
    client = client_of(f"http://127.0.0.1:{server.port}{end}", api, KEY)
    health = client.get("/health")
    assert (health.status_code, health.get_json()["status"]) == (200, "healthy")
    load = {"n_clients": 2, "n_requests_per_client": 3, "num_predict": 4}
    result = client.post("/benchmark", json=load).get_json()
    assert (result["successful"], result["failed"]) == (6, 0)
    assert result["throughput"]["output_tokens_per_second"] > 0
    asked = server.seen.bodies[-1]
    assert asked["model"] == "known:latest"
    assert ("messages" in asked) == (api == "openai")
    files = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    assert files and not [path for path in files if KEY.encode() in path.read_bytes()]


def test_it_is_asked_with_its_key(client_of: Make) -> None:
    said = answer(200, {"data": []})
    with scripted(said, spared=()) as server:
        assert client_of(server.url, key=KEY).get("/health").status_code == 200
    assert all(f"Authorization: Bearer {KEY}".encode() in head for head in server.heads)


def test_a_key_that_it_refuses_is_said_at_once_and_not_shown(client_of: Make) -> None:
    with scripted(answer(401, {"error": {"message": f"bad key {KEY}"}}), spared=()) as server:
        client = client_of(server.url, key=KEY)
        health, started = client.get("/health"), client.post("/benchmark", json={})
    assert (health.status_code, started.status_code) == (502, 502)
    words = health.get_json()["error"]["message"]
    assert words.endswith("cannot answer with known:latest: HTTP 401: bad key ***.")
    failed = started.get_json()["error"]
    assert failed["type"] == "benchmark_failed" and "http_401" in failed["message"]
    assert KEY not in failed["message"]


def test_one_that_is_not_there_yet_is_waited_for(client_of: Make) -> None:
    health = client_of(f"http://127.0.0.1:{free_port()}").get("/health")
    assert (health.status_code, health.get_json()["status"]) == (503, "unhealthy")
    assert "does not answer: Connection refused." in health.get_json()["error"]["message"]


def test_certificates_that_are_not_there_are_named(
    client_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    context_of.cache_clear()  # as in a process of its own
    health = client_of("https://127.0.0.1:1").get("/health")
    assert health.status_code == 502
    assert "SSL_CERT_FILE names /nowhere/ca.pem" in health.get_json()["error"]["message"]


def test_looks_at_it_cost_a_token_seldom(client_of: Make, server: Server) -> None:
    client = client_of(f"http://127.0.0.1:{server.port}")
    assert [client.get("/health").status_code for _ in range(5)] == [200] * 5
    assert server.seen.requests == 1
    assert client.get("/metrics").status_code == 200


def test_one_that_comes_back_is_seen_again(
    client_of: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_server, "RETRY_S", 0.0)
    monkeypatch.setattr(given_server, "FRESH_S", 0.0)
    client = client_of(f"http://127.0.0.1:{server.port}")
    server.kill()
    assert client.get("/health").status_code == 503
    server.revive()
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/query", {"prompt": "Hi"}, "not_served"),
        ("/search", {"query": "Hi"}, "not_served"),
        ("/points", {}, "not_served"),
        ("/benchmark", {"retrieval": True}, "no_retrieval"),
    ],
)
def test_what_is_not_to_be_had_is_said(
    client_of: Make, server: Server, path: str, body: object, kind: str
) -> None:
    url = f"http://127.0.0.1:{server.port}"
    found = client_of(url).post(path, json=body)
    assert (found.status_code, found.get_json()["error"]["type"]) == (409, kind)
    assert url in found.get_json()["error"]["message"]
