"""Who watches: the whole state first, then what changes; nobody is waited for."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from events import PATIENCE_S, until

from client.benchmarks import Benchmarks
from client.live import hub
from client.live.collector import Collector
from client.live.hub import Hub
from client.live.series import Recorder
from client.settings import ServiceSettings
from contracts.given_server import GivenServer
from contracts.json_object import JsonObject
from contracts.live.state import State


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for name in ("logs", "deployments/d-1.live"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "logs/42.started").write_text("cpu1\n")
    return tmp_path


@pytest.fixture
def at(output: Path) -> Iterator[Path]:
    """The socket of a hub that looks at the files of a deployment."""
    server = GivenServer(url="http://127.0.0.1:1", api="ollama")
    settings = ServiceSettings(output, "", "m", "42", "d-1", output, server=server)
    recorder, runs = Recorder(), Benchmarks(output / "benchmarks")
    collector = Collector(settings, "d-1", recorder, runs, lambda: (0, 0), None, None)
    folder = Path(tempfile.mkdtemp(prefix="hub."))  # names of sockets are short
    Hub(collector, recorder, folder / "live").follow()
    until(lambda: listens(folder / "live"))
    yield folder / "live"
    shutil.rmtree(folder)


def listens(at: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(at)) == 0


class Viewer:
    """Reads events."""

    def __init__(self, at: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(at))
        self._socket.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        self._lines = self._socket.makefile("r", encoding="utf-8")

    def head(self) -> str:
        return self._lines.readline().strip()

    def next(self) -> tuple[str, JsonObject]:
        """The next event that has a name."""
        name = ""
        for line in self._lines:
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                return name, json.loads(line[6:])
        raise AssertionError("the events have ended")

    def until(self, name: str) -> JsonObject:
        while True:
            found, data = self.next()
            if found == name:
                return data

    def reset(self) -> bool:
        """Whether the connection was broken off, though there may be something to read."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def ask(at: Path, line: str) -> tuple[int, JsonObject]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(at))
        sock.sendall(f"{line} HTTP/1.0\r\n\r\n".encode())
        head, _, body = sock.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_the_whole_state_is_had_at_once(at: Path) -> None:
    status, told = ask(at, "GET /state")
    assert status == 200
    state = State.model_validate(told)
    assert (state.deployment.id, state.jobs[0].host) == ("d-1", "cpu1")
    assert told.keys() == State.model_json_schema(by_alias=True)["properties"].keys()


def test_events_begin_with_the_whole_and_tell_what_changes(at: Path, output: Path) -> None:
    viewer = Viewer(at)
    assert "200" in viewer.head()
    name, data = viewer.next()
    assert name == "state"
    state = State.model_validate(data)
    (output / "logs/42.rc").write_text("1\nit has died\n")
    state = state.after("jobs", viewer.until("jobs"))
    assert (state.jobs[0].state, state.jobs[0].reason) == (
        "FAILED", "has ended with exit code 1: it has died",
    )  # fmt: skip
    late = Viewer(at)
    late.head()
    assert State.model_validate(late.next()[1]).jobs == state.jobs
    viewer.close()
    late.close()


@pytest.mark.parametrize(
    "odd", [OSError("disk"), ValueError("half of a file"), subprocess.SubprocessError("odd")]
)
def test_an_odd_turn_does_not_end_the_live_view(
    at: Path, output: Path, odd: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = Viewer(at)
    viewer.head()
    viewer.next()
    met, look = threading.Event(), Collector.look

    def fail(_: Collector) -> JsonObject:
        met.set()
        raise odd

    monkeypatch.setattr(Collector, "look", fail)
    assert met.wait(PATIENCE_S)
    monkeypatch.setattr(Collector, "look", look)
    (output / "logs/42.rc").write_text("1\nit has died\n")
    assert viewer.until("jobs")
    viewer.close()


def test_files_are_looked_at_for_the_scheduler_as_long_as_somebody_watches(
    at: Path, output: Path
) -> None:
    watched = output / "deployments/d-1.live/watched"
    viewer = Viewer(at)
    viewer.head()
    viewer.next()
    assert watched.exists()
    viewer.close()
    until(lambda: not watched.exists())


def test_who_does_not_read_is_let_go_and_the_others_go_on(
    at: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LOOK_S", 0.01)  # as much as he does not read comes sooner
    slow, other = Viewer(at), Viewer(at)
    other.head()
    other.next()
    log, lines = output / "logs/client_42.out", iter(range(10**9))

    def dropped() -> bool:
        log.write_text(f"{next(lines)} {'x' * 290}\n" * 20)
        other.until("logs")
        return slow.reset()

    until(dropped)
    other.close()
    slow.close()


def test_an_engine_that_is_there_on_request_alone_sleeps(output: Path) -> None:
    settings = ServiceSettings(output, "", "m", "42", "d-1", output, on_request=True)
    runs = Benchmarks(output / "benchmarks")
    collector = Collector(settings, "d-1", Recorder(), runs, lambda: (0, 0), None, None)
    told = json.loads(collector.look()["deployment"])
    assert (told["state"], told["reason"]) == ("sleeping", "the first request begins an engine")


@pytest.mark.parametrize(
    ("line", "status"),
    [("POST /events", 405), ("DELETE /state", 405), ("GET /other", 404)],
)
def test_nothing_else_is_answered(at: Path, line: str, status: int) -> None:
    assert ask(at, line)[0] == status
