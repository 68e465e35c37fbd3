"""The service does what its OpenAPI document says, also when it is asked for nonsense."""

import embedding_server
import pytest
from described import assault
from paced_server import Pace
from served import gunicorn

from retrieval.settings import section


@pytest.fixture
def served(server, tmp_path):
    server.pace = Pace(tokens=4)
    with gunicorn(server, tmp_path) as process:
        yield process


#: How many cases of each kind it thinks of.
EXAMPLES = (8, pytest.param(200, marks=pytest.mark.long))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_nothing_that_schemathesis_thinks_of_breaks_the_service(served, tmp_path, examples):
    assault(document_of(served), tmp_path, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_nor_does_it_break_retrieval(tmp_path, monkeypatch, examples):
    monkeypatch.setenv("ORCH_RETRIEVAL", section("c", "known:latest", 3))
    monkeypatch.setenv("ORCH_QDRANT", str(tmp_path / "storage"))
    with embedding_server.running() as server, gunicorn(server, tmp_path) as served:
        routes = ["--include-path-regex", "^/(query|search|points|health)$"]
        assault(document_of(served), tmp_path, examples, *routes, "--phases", "coverage,fuzzing")


def document_of(served):
    return f"http://127.0.0.1:{served.port}/openapi.json"
