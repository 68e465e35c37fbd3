"""The service does what its OpenAPI document says, also when it is asked for nonsense."""

import os
import subprocess
import sys
from pathlib import Path

import embedding_server
import pytest
from paced_server import Pace
from served import gunicorn

from retrieval.settings import section

TESTS = Path(__file__).resolve().parents[1]
CHECKS = (
    "only_true_server_errors,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
    "positive_data_acceptance,unsupported_method,allow_header_conformance"
)


@pytest.fixture
def served(server, tmp_path):
    server.pace = Pace(tokens=4)
    with gunicorn(server, tmp_path) as process:
        yield process


#: How many cases of each kind it thinks of.
EXAMPLES = (8, pytest.param(200, marks=pytest.mark.long))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_nothing_that_schemathesis_thinks_of_breaks_the_service(served, tmp_path, examples):
    assault(served, tmp_path, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_nor_does_it_break_retrieval(tmp_path, monkeypatch, examples):
    monkeypatch.setenv("ORCH_RETRIEVAL", section("c", "known:latest", 3))
    monkeypatch.setenv("ORCH_QDRANT", str(tmp_path / "storage"))
    with embedding_server.running() as server, gunicorn(server, tmp_path) as served:
        routes = ["--include-path-regex", "^/(query|search|points|health)$"]
        assault(served, tmp_path, examples, *routes, "--phases", "coverage,fuzzing")


def assault(served, tmp_path, examples, *more):
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file"]
    command += [str(TESTS / "schemathesis.toml"), "run", "--no-color"]
    command += [f"http://127.0.0.1:{served.port}/openapi.json", "--checks", CHECKS]
    command += ["--max-examples", str(examples), "--request-timeout", "120"]
    command += [*more, "--seed", os.environ.get("ORCH_SEED", "1"), "--generation-database", "none"]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
