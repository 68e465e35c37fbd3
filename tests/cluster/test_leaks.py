"""The helper that every test of a fault ends with finds a planted leak of each kind."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from leaks import HOST_FOLDERS
from project import USER, Project
from slurmcluster import PATIENCE_S, wait_until

LISTENER = "import socket, time; s = socket.create_server(('', 5151)); time.sleep(600)"


@contextmanager
def planted_file(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    user = pwd.getpwnam(USER)
    os.chown(path, user.pw_uid, user.pw_gid)
    try:
        yield
    finally:
        path.unlink()


FILES = (
    "ollama_ip_12.txt",
    "prometheus_assets/client_targets_12.json",
    ".client_ip_12.txt.4711",
    "deployments/.x.json.abc",
    "logs/.12.rc.4711",
    "containers/.ollama.12.sif",
)


@pytest.mark.parametrize("name", FILES)
def test_file_is_found(project: Project, name: str) -> None:
    path = project.output / name
    with planted_file(path):
        assert list(project.leaks.found()) == [f"file {path}"]
    assert list(project.leaks.found()) == []


def test_lock_of_an_image_is_no_leak(project: Project) -> None:
    with planted_file(project.output / "containers/.ollama.lock"):
        assert list(project.leaks.found()) == []


@pytest.mark.parametrize("folder", HOST_FOLDERS)
def test_file_of_the_user_on_a_host_is_found(project: Project, folder: str) -> None:
    with planted_file(project.cluster.seen_by("cpu2", f"{folder}/orch-leak")):
        assert list(project.leaks.found()) == [f"file cpu2:{folder}/orch-leak"]
    assert list(project.leaks.found()) == []


def test_what_was_there_before_is_no_leak(project: Project) -> None:
    with planted_file(project.cluster.seen_by("gpu1", "/tmp/orch-leak")):
        project.leaks.begin()
        assert list(project.leaks.found()) == []


def test_process_and_its_port_are_found(project: Project) -> None:
    process = project.cluster.popen("cpu1", "/usr/bin/python3", "-c", LISTENER)
    try:
        wait_until(lambda: 5151 in project.cluster.listening("cpu1"), PATIENCE_S, "the listener")
        (at,) = project.cluster.pids("cpu1")
        assert list(project.leaks.found()) == [f"process {at} on cpu1", "port 5151 on cpu1"]
    finally:
        process.send_signal(9)
        process.wait()
    project.assert_nothing_left()


def test_job_is_found_and_named_in_the_failure(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaks.PATIENCE_S", 0)
    command = ["sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "true"]
    job_id = project.cluster.on("login1", *command, check=True).stdout.strip()
    with pytest.raises(AssertionError, match=f"left behind: job {job_id}$"):
        project.assert_nothing_left()
