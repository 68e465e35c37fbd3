"""A deployment of which nobody asks anything: what a recipe may say, and when it ends."""

import json
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from client.idle.activity import Activity
from client.idle.watch import IdleWatch, in_words
from contracts.job_files import IdleState, idle_file, read_idle
from hpc.commands.status import idle_lines
from hpc.deployments.records import create_record
from hpc.deployments.refreshing import refresh
from hpc.endpoints import OutputDir

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        ({"idle_timeout": "30"}, "must be a number and its unit (90s, 30m, 2h, 1d)"),
        ({"idle_timeout": "0m"}, "must be a number and its unit"),
        ({"idle_timeout": "366d"}, "at most 365 days"),
        (
            {"idle_timeout": "30m", "batch": {"input": "x"}},
            "job.service.batch: does not go with job.service.idle_timeout",
        ),
        (
            {"idle_timeout": "30m", "server": {"url": "http://h:1", "api": "openai"}},
            "does not go with job.service.idle_timeout",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_words(orch, tmp_path, recipe_data, service, sentence):
    recipe_data["job"]["service"] = {"model": "tiny", **service}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_data))
    code, _, err = orch(path, "--site", "local", "--output-dir", tmp_path / "o")
    assert (code, sentence in err) == (2, True), err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (90, "90 seconds"), (1800, "30 minutes"), (86400, "1 day")],
)
def test_the_reason_is_said_in_words(seconds, words):
    assert in_words(seconds) == words


class HAProxy:
    """What is at its socket, with the table of users that is given."""

    def __init__(self, path):
        self.table = ""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def users(self, **users):
        """Each with what he has under way, and has begun."""
        lines = [
            f"0x55: key={name} use=0 exp=599415 gpc0={begun} gpc0_rate(60000)=9 conn_cur={now}"
            for name, (now, begun) in users.items()
        ]
        head = f"# table: users, type: string, size:10240, used:{len(users)}"
        self.table = "\n".join([head, *lines, ""])

    def _serve(self):
        while True:
            client, _ = self._listener.accept()
            with client:
                assert client.recv(100) == b"show table users\n"
                client.sendall(self.table.encode())


def test_who_asks_is_seen_also_if_that_was_between_two_looks(tmp_path):
    haproxy, activity = HAProxy(tmp_path / "commands"), Activity(tmp_path / "commands")
    haproxy.users(owner=(0, 0))
    assert not activity.seen()
    haproxy.users(owner=(1, 1))
    assert activity.seen()
    assert activity.seen(), "a long answer"
    haproxy.users(owner=(0, 1))
    assert not activity.seen()
    haproxy.users(owner=(0, 2), anna=(0, 1))
    assert activity.seen(), "two that were short"
    assert not activity.seen()
    haproxy.users()  # forgotten after ten minutes
    assert not activity.seen()
    haproxy.users(owner=(0, 1))
    assert activity.seen()


def test_while_haproxy_does_not_say_it_somebody_may_ask(tmp_path):
    assert Activity(tmp_path / "commands").seen()


def test_time_counts_from_the_last_request_and_is_told_beforehand(tmp_path):
    (tmp_path / "deployments").mkdir()
    said, told, busy = tmp_path / "idle", idle_file(tmp_path, "demo"), [False]
    watch = IdleWatch(100.0, lambda: busy[0], told, said)
    assert not watch.look(1000.0)
    assert read_idle(tmp_path, "demo") == IdleState(100.0, 1000.0, 1100.0)
    busy[0] = True
    assert not watch.look(1003.0)
    assert read_idle(tmp_path, "demo") == IdleState(100.0, 1000.0, 1100.0), "not with each request"
    assert not watch.look(1090.0)
    assert read_idle(tmp_path, "demo") == IdleState(100.0, 1090.0, 1190.0)
    assert not watch.look(1092.0)
    busy[0] = False
    assert not watch.look(1191.5)
    assert read_idle(tmp_path, "demo") == IdleState(100.0, 1092.0, 1192.0)
    assert not said.exists()
    assert watch.look(1192.0)
    assert said.read_text() == "idle for 100 seconds"


def test_what_the_next_jobs_are_asked_is_theirs_to_see(tmp_path):
    """Who asks at their door, and no more at the old one, is not seen by the old jobs, which would
    end all of the deployment."""
    (tmp_path / "deployments").mkdir()
    said, told, moved = tmp_path / "idle", idle_file(tmp_path, "demo"), [False]
    watch = IdleWatch(100.0, lambda: False, told, said, moved=lambda: moved[0])
    watch.look(1000.0)
    moved[0] = True
    told.unlink()
    assert not watch.look(1090.0)
    assert not watch.look(1200.0)
    assert not (said.exists() or told.exists())
    moved[0] = False  # the next ones have failed
    assert not watch.look(1250.0)
    assert read_idle(tmp_path, "demo") == IdleState(100.0, 1200.0, 1300.0)
    assert watch.look(1300.0)


@pytest.mark.parametrize("by", [-5000.0, 5000.0])
def test_a_clock_that_is_set_is_no_time_that_has_passed(tmp_path, by):
    (tmp_path / "deployments").mkdir()
    told, ahead = idle_file(tmp_path, "demo"), [0.0]
    watch = IdleWatch(100.0, lambda: False, told, tmp_path / "idle", ahead=lambda: ahead[0])
    watch.look(10_000.0)
    ahead[0] += 0.4
    assert not watch.look(10_050.0)
    ahead[0] += by
    assert not watch.look(10_051.0 + by)
    assert read_idle(tmp_path, "demo").ends == pytest.approx(10_100.0 + by, abs=1)
    assert not watch.look(10_098.0 + by)
    assert watch.look(10_101.0 + by)


SITE = {"name": "s", "scheduler": "local"}


def test_status_says_it_and_the_end_is_no_failure(tmp_path, monkeypatch):
    output = OutputDir(tmp_path)
    output.prepare()
    facts = {"site": SITE, "recipe": {}, "settings": {}}
    record = create_record(tmp_path, "demo-1124-120000-aaaa", facts)
    for service, job in {"ollama": "local1", "client": "local2"}.items():
        record.add_job(service, job, f"{record.id}.{service}")
        (tmp_path / "logs" / f"{job}.rc").write_text("0\nidle for 30 minutes\n")
    record.update(state="ready")
    state = {"timeout_s": 1800.0, "last_request": 0.0, "ends": 0.0, "state": "awake"}
    idle_file(tmp_path, record.id).write_text(json.dumps(state))
    assert idle_lines([record], output) == [
        f"  {record.id}: ends in 00:00:00 unless somebody asks (idle_timeout 00:30:00)"
    ]
    refresh([record], output)
    assert record.state == "ended"
    assert record.job_states["client"] == "ended: idle for 30 minutes"


#: Job 7, which another one tells to end.
TOLD = """
. lib/service.sh
JOB_ID=7 HOST=here
service_begin ollama "$1" 3600
write_file "$1/logs/7.told" 'idle for 5 seconds'
kill -TERM $$
sleep 60
"""


def test_a_job_that_is_told_by_another_one_has_not_failed(tmp_path):
    (tmp_path / "logs").mkdir()
    command = ["bash", "-c", TOLD, "bash", str(tmp_path)]
    assert subprocess.run(command, cwd=PROJECT, timeout=60, check=False).returncode == 0
    assert (tmp_path / "logs" / "7.rc").read_text() == "0\nidle for 5 seconds\n"
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["7.rc", "7.started"]
