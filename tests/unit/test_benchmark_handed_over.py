"""A benchmark that goes on in a job while the next one's service is asked about it."""

import pytest
from events import until
from paced_server import Pace

from client.benchmarks import Benchmarks
from client.errors import BenchmarkFailed, Conflict
from contracts.job_files import chain_folder
from contracts.load import RunSpec

LONG = RunSpec(api="ollama", model="known", clients=2, requests=10_000)


@pytest.fixture
def services(tmp_path, server):
    """The runs of two jobs of a deployment; the first one's is under way."""
    server.pace = Pace(itl=0.01)
    chain = chain_folder(tmp_path, "d-1")
    chain.mkdir(parents=True)
    old, new = (Benchmarks(tmp_path / "benchmarks", chain=chain) for _ in range(2))
    run = old.start("long", LONG, lambda: [f"http://127.0.0.1:{server.port}"])
    yield old, new
    run.cancel()


def test_it_goes_on_and_its_progress_is_that_of_its_own_service(services):
    old, new = services

    def far():
        state = new.describe("long").state
        assert (state.id, state.state) == ("long", "running")
        return state.progress if state.progress and state.progress.done > 5 else None

    progress = until(far)
    assert progress.planned == LONG.requests and progress.failed == 0
    assert progress.done <= old.describe("long").state.progress.done


def test_it_is_not_begun_again_there(services):
    _, new = services
    assert new.start("long", LONG, list) is None
    with pytest.raises(Conflict, match="other parameters"):
        new.start("long", LONG.model_copy(update={"clients": 3}), list)


def test_it_is_ended_there_and_what_was_measured_is_kept(services, tmp_path):
    old, new = services
    until(lambda: old.describe("long").state.progress.done > 5)
    assert new.cancel("long").state == "cancelled"
    assert old.describe("long").state.state == "cancelled"
    assert new.describe("long").result["successful"] > 5
    until(lambda: not list((tmp_path / "benchmarks" / "long").glob(".*")))


def test_one_that_was_killed_with_its_service_has_failed(services, tmp_path):
    _, new = services
    folder = tmp_path / "benchmarks" / "killed"
    folder.mkdir()
    (folder / ".running").write_text("{}")
    found = new.describe("killed").state
    assert (found.state, found.error.type) == ("failed", BenchmarkFailed("").words.type)
