"""docs/api.md says what the service is, and its examples work as they stand."""

import json
import shutil
import subprocess

import pytest
from paced_server import Pace
from served import gunicorn

from client.api import openapi, page


def test_page_is_what_the_service_is_now():
    assert page.PAGE.read_text() == page.page(), "run python3 -m client.api.page"


def test_page_names_every_route_key_and_error():
    text, document = page.page(), openapi.document()
    for path, route in document["paths"].items():
        for method in route.keys() - {"parameters"}:
            assert f"## {method.upper()} {path}\n" in text
    for schema in document["components"]["schemas"].values():
        assert all(f"| `{key}` | " in text for key in schema["properties"])
    for kind in ("bad_request", "ollama_unreachable", "timeout", "benchmark_failed"):
        assert f"| `{kind}` |" in text


def examples():
    """The commands of the page, each on one line; those of retrieval need a collection, which
    tests/local/test_retrieval.py has, logins MUNGE, as tests/local/test_login.py, and who watches
    needs a door, as tests/local/test_live.py."""
    text = page.PAGE.read_text().replace("\\\n", "")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    curl ")]
    elsewhere = ("/search", "/points", "/login", "/state", "/events")
    return [line for line in lines if not any(route in line for route in elsewhere)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl to run the examples")
def test_every_example_is_answered_as_the_page_says(server, tmp_path):
    server.pace = Pace(tokens=4)
    with gunicorn(server, tmp_path) as served:
        answers = {}
        for line in examples():
            command = line.replace("CLIENT", f"http://127.0.0.1:{served.port}")
            command = command.replace("curl ", "curl --fail --noproxy '*' ", 1)
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            answers[line] = done.stdout
    assert len(answers) == len(examples()) >= 9
    stream = next(text for line, text in answers.items() if '"stream": true' in line)
    assert json.loads(stream.splitlines()[-1])["done"]
    states = [json.loads(text)["state"] for line, text in answers.items() if "benchmark" in line]
    assert states == ["done", "running", "running", "cancelled"]
