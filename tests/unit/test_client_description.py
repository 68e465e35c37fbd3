"""The service does what its OpenAPI document says, also when it is asked for nonsense."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paced_server import Pace
from served import gunicorn

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


def test_nothing_that_schemathesis_thinks_of_breaks_the_service(served, tmp_path):
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file"]
    command += [str(TESTS / "schemathesis.toml"), "run", "--no-color"]
    command += [f"http://127.0.0.1:{served.port}/openapi.json", "--checks", CHECKS]
    command += ["--max-examples", os.environ.get("ORCH_EXAMPLES", "10"), "--request-timeout", "20"]
    command += ["--seed", os.environ.get("ORCH_SEED", "1"), "--generation-database", "none"]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
