"""Shared by the unit tests: no services, no cluster."""

import signal

import pytest
from hypothesis import settings
from paced_server import Pace, running

#: How long an example takes is the machine's business.
settings.register_profile("any machine", settings(deadline=None))
settings.load_profile("any machine")


@pytest.fixture
def orch(capsys, monkeypatch, tmp_path):
    """orch.py's main in this process, in an empty folder: returns (exit code, stdout, stderr)."""
    from hpc.command_line import main
    from orch import STORY

    monkeypatch.chdir(tmp_path)
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments):
        code = main(STORY, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def recipe_data():
    """A recipe that is right, to be spoilt."""
    return {
        "job": {
            "name": "test",
            "infrastructure": {
                "partition": "gpu",
                "account": "research",
                "nodes": 1,
                "mem_gb": 8,
                "time": "00:10:00",
            },
            "service": {
                "type": "inference",
                "model": "mistral:7b",
                "precision": "q4_0",
                "n_clients": 4,
                "n_requests_per_client": 2,
            },
        }
    }


@pytest.fixture(scope="module")
def shared():
    """A stand-in for Ollama that answers at a given pace; see `server`."""
    with running() as server:
        yield server


@pytest.fixture
def server(shared):
    """The stand-in, as it is by default and with nothing counted yet."""
    shared.pace = Pace()
    shared.forget()
    return shared
