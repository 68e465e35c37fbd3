"""Schemathesis, which asks a service whatever its OpenAPI document lets it think of."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CHECKS = (
    "only_true_server_errors,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
    "positive_data_acceptance,unsupported_method,allow_header_conformance"
)
#: What is served beside the service, behind the door alone, and as a stream without an end:
#: tests/unit/test_live_hub.py asks it.
WATCHED = "^/(state|events)$"


def assault(document, folder, examples, *more, checks=CHECKS):
    """Ask the service that a document, a URL or a file, describes; it must do what that says.
    `examples` is how many cases of each kind are thought of."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file"]
    command += [str(TESTS / "schemathesis.toml"), "run", "--no-color", str(document)]
    command += ["--checks", checks, "--max-examples", str(examples), "--request-timeout", "120"]
    command += [
        "--exclude-path-regex",
        WATCHED,
        *more,
        "--seed",
        os.environ.get("ORCH_SEED", "1"),
        "--generation-database",
        "none",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **hooks}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
