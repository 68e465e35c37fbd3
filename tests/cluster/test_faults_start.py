"""Faults while services start: scripts that die, ports, models, memory, address files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import Fault
from project import USER, Project
from slurmcluster import NET, PATIENCE_S, RUN, SMALL, HostProcess, wait_until

SERVER = """#!/usr/bin/python3
import socket, sys, time
{before}
host, _, port = __import__("os").environ["OLLAMA_HOST"].rpartition(":")
server = socket.create_server((host, int(port)))
time.sleep(600)
"""
#: Holds its address and answers nobody.
SILENT = SERVER.format(before="")


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """The path with these permissions."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


# --- scripts that cannot run ---------------------------------------------------------------------


def test_library_of_the_job_script_is_unreadable(project: Project, fault: Fault) -> None:
    recipe = project.recipe()
    with mode(project.folder / "lib" / "service.sh", 0):
        fault.happens("10 lib/service.sh is unreadable")
        result = project.orch(recipe)
    fault.ends(result, 4, r"the ollama job \d+ \[FAILED\] .*")
    assert "service.sh: Permission denied" in result.stderr


def test_folder_of_logs_is_read_only(project: Project, fault: Fault) -> None:
    recipe = project.recipe()
    project.orch(recipe, "--dry-run")
    with mode(project.output / "logs", 0o555):
        fault.happens("10 output/logs cannot be written")
        result = project.orch(recipe)
    fault.ends(result, 4, r"the \w+ job \d+ .*FAILED.*|cannot write .*logs.*")


def test_folder_of_logs_is_gone(project: Project, fault: Fault) -> None:
    filler = project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("waits in the queue")
    logs = project.output / "logs"
    aside = logs.rename(logs.with_name("logs_aside"))
    try:
        project.cluster.on("login1", "scancel", filler, check=True)
        fault.happens("10 output/logs is gone when the job starts")
        fault.ends(process.end(), 4, r"the ollama job \d+ .*[Ff]ailed.*")
    finally:
        if logs.exists():
            subprocess.run(["rm", "-rf", logs], check=True)
        aside.rename(logs)


@pytest.mark.parametrize("kind", ["full", "missing"])
def test_temporary_folder(project: Project, fault: Fault, kind: str) -> None:
    """Nothing of ours needs one: where it is full or missing, all goes on."""
    folder = SMALL / "tmp"
    recipe = project.recipe()
    if kind == "full":
        folder.mkdir(mode=0o777)
        with pytest.raises(OSError), (SMALL / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    try:
        fault.happens(f"10 TMPDIR is {kind}")
        result = project.orch(recipe, env={"TMPDIR": str(folder)})
        fault.seen(f"exit {result.returncode}")
    finally:
        if kind == "full":
            (SMALL / "filler").unlink()
            subprocess.run(["rm", "-r", folder], check=True)
    project.assert_benchmarked(result)
    project.orch("--stop", "all")


# --- Ollama --------------------------------------------------------------------------------------


def stranger(project: Project, port: int) -> HostProcess:
    """Another user's Ollama on the GPU host."""
    command = ["sh", "-c", "trap 'rm -rf $HOME' EXIT; $0 serve", str(ollama_of(project))]
    environment = {"OLLAMA_HOST": f"0.0.0.0:{port}", "HOME": "/tmp/stranger"}
    process = project.cluster.popen("gpu1", *command, user="hpcother", env=environment)
    wait_until(lambda: port in project.cluster.listening("gpu1"), PATIENCE_S, "the other Ollama")
    return process


def ollama_of(project: Project) -> Path:
    return project.folder / ".tools" / "bin" / "ollama"


def test_port_is_taken_by_anothers_ollama(project: Project, fault: Fault) -> None:
    """Ours is on a port of its own, and it is ours that answers."""
    other = stranger(project, 11434)
    try:
        fault.happens("11 port is taken by another user's Ollama")
        result = project.orch(project.recipe())
        project.assert_benchmarked(result)
        (url,) = project.record()["endpoints"]["ollama"]
        fault.seen(f"exit 0, at port {url.rpartition(':')[2]} in place of 11434")
        assert not url.endswith(":11434")
        assert project.curl("http://gpu1:11434/api/tags") == {"models": []}, "theirs is untouched"
        project.orch("--stop", "all")
    finally:
        other.send_signal(15)
        other.wait(PATIENCE_S)


ENDS = (
    (
        "12 Ollama crashes at its start",
        "#!/bin/sh\necho 'the last words' >&2\nkill -SEGV $$\n",
        {},
        r"\[FAILED\].*Ollama stopped while starting|stopped while starting",
        "the last words",
    ),
    (
        "13 no such model, no way to its registry",
        '#!/bin/sh\nexec "$0.real" "$@"\n',
        {"model": "nosuchmodel:1b"},
        r"cannot pull nosuchmodel:1b: pull model.*",
        "Temporary failure in name resolution",
    ),
    (
        "14 GPUs are asked for, the model is on the CPU",
        '#!/bin/sh\nexec "$0.real" "$@"\n',
        {"allow_cpu": False},
        "sits on cpu: 0.00 of",
        "gpu",
    ),
    (
        "16 out of memory",
        "#!/bin/sh\nx=$(head -c 1500M /dev/zero | tr '\\0' a)\nsleep 60\n",
        {"mem_gb": 1},
        r"the ollama job \d+ \[OUT_OF_MEMORY\] .*raise mem_gb",
        "oom-kill",
    ),
)


@pytest.mark.parametrize(
    ("name", "shim", "changes", "words", "also"), ENDS, ids=[e[0] for e in ENDS]
)
def test_ollama_does_not_come_up(
    project: Project, fault: Fault, name: str, shim: str, changes: dict[str, object], words: str,
    also: str,
) -> None:  # fmt: skip
    if name.startswith("16") and (RUN / "memory").read_text().strip() != "cgroup":
        pytest.skip("memory limits need the memory controller of cgroup v1")
    recipe = project.recipe(**changes)
    with project.ollama_is(shim):
        fault.happens(name)
        result = project.orch(recipe)
    fault.ends(result, 4, words)
    assert also in result.stderr


def test_model_file_is_no_model(project: Project, fault: Fault) -> None:
    path = project.folder / "broken.gguf"
    path.write_bytes(b"GGUF and no more")
    fault.happens("13 model file is damaged")
    result = project.orch(project.recipe(model=str(path)))
    fault.ends(result, 4, r"Ollama cannot import \S+broken.gguf: .+")


def test_start_that_hangs(project: Project, fault: Fault) -> None:
    recipe = project.recipe()
    with project.ollama_is(SILENT):
        fault.happens("15 start hangs, --start-timeout 5")
        result = project.orch(recipe, "--start-timeout", "5")
    fault.ends(result, 5, r"still starting after 5 s \(ollama job \d+: its job has begun.*")


# --- the address file ----------------------------------------------------------------------------


def test_address_comes_late(project: Project, fault: Fault) -> None:
    recipe = project.recipe()
    shim = '#!/bin/sh\n[ "$1" != serve ] || sleep 20\nexec "$0.real" "$@"\n'
    with project.ollama_is(shim):
        fault.happens("25 address is late by 20 s")
        result = project.orch(recipe)
    fault.seen(f"exit {result.returncode}")
    project.assert_benchmarked(result)
    assert fault.seconds > 20
    project.orch("--stop", "all")


PLANTED = (
    ("25 address file is empty at first", "ollama_ip_{id}.txt", ""),
    ("25 address file is cut off at first", "ollama_ip_{id}.txt", f"{NET}.1"),
    ("25 address file holds garbage at first", "ollama_ip_{id}.txt", "\0<html>\nno address\n"),
    ("25 address file is of another job", "ollama_ip_9{id}.txt", f"{NET}.12:9\n"),
)


@pytest.mark.parametrize(("name", "file", "text"), PLANTED, ids=[p[0] for p in PLANTED])
def test_address_file_is_not_what_it_should_be(
    project: Project, fault: Fault, name: str, file: str, text: str
) -> None:
    """The job writes it anew in the end, and that one counts."""
    filler = project.fill_gpus()
    process = project.start(project.recipe())
    process.read_until("waits in the queue")
    path = project.output / file.format(id=project.job_id("ollama"))
    path.write_text(text)
    shutil.chown(path, USER, USER)
    project.cluster.on("login1", "scancel", filler, check=True)
    fault.happens(name)
    result = process.end()
    fault.seen(f"exit {result.returncode}")
    project.assert_benchmarked(result)
    project.orch("--stop", "all")
    path.unlink(missing_ok=True)


NO_ADDRESS = (
    ("25 address file is cut off", f"{NET}.", rf"holds '{NET}.', which is no address"),
    (
        "25 address file holds garbage",
        "\0<html>\nno\n",
        r"holds '\\x00<html>', which is no address",
    ),
)


@pytest.mark.parametrize(("name", "text", "words"), NO_ADDRESS, ids=[n[0] for n in NO_ADDRESS])
def test_address_file_of_ours_is_damaged(
    project: Project, fault: Fault, name: str, text: str, words: str
) -> None:
    """No service of ours writes such a file: whoever did is to be found by its name."""
    recipe = project.recipe()
    with project.ollama_is(SILENT):
        process = project.start(recipe)
        wait_until(lambda: bool(project.cluster.listening("gpu1")), PATIENCE_S, "the start")
        path = project.output / f"ollama_ip_{project.job_id('ollama')}.txt"
        path.write_text(text)
        shutil.chown(path, USER, USER)
        fault.happens(name)
        fault.ends(process.end(), 4, words)


@pytest.mark.parametrize("text", [f"{NET}.1", f"{NET}.12:9\n"], ids=["cut off", "another's"])
def test_address_that_is_replaced_counts(project: Project, fault: Fault, text: str) -> None:
    """A cut-off address may look like one: 10.213.77.1 of 10.213.77.13:11434."""
    recipe = project.recipe()
    with project.ollama_is('#!/bin/sh\n[ "$1" != serve ] || sleep 5\nexec "$0.real" "$@"\n'):
        process = project.start(recipe, "--start-timeout", "300")
        process.read_until("has begun")
        path = project.output / f"ollama_ip_{project.job_id('ollama')}.txt"
        path.write_text(text)
        shutil.chown(path, USER, USER)
        fault.happens(f"25 address file holds {text!r} at first")
        result = process.end()
    fault.seen(f"exit {result.returncode}")
    project.assert_benchmarked(result)
    project.orch("--stop", "all")


def test_exit_code_file_of_an_earlier_job_with_that_id(project: Project, fault: Fault) -> None:
    """Job ids begin anew when a controller loses its state."""
    filler = project.fill_gpus()
    for number in range(int(filler) + 1, int(filler) + 3):
        path = project.output / "logs" / f"{number}.rc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("143\nof another life\n")
    fault.happens("an exit-code file of an earlier job with that id")
    process = project.start(project.recipe())
    process.read_until("waits in the queue")
    project.cluster.on("login1", "scancel", filler, check=True)
    result = process.end()
    fault.seen(f"exit {result.returncode}")
    project.assert_benchmarked(result)
    project.orch("--stop", "all")
