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
from servers import SILENT, Server, each_engine
from slurmcluster import NET, PATIENCE_S, RUN, SMALL, HostProcess, wait_until


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
    # Both fail, and neither can say so: whichever has when Slurm is asked is the one that is told.
    fault.ends(result, 4, r"the (ollama|client) job \d+ \[FAILED\] .*")
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


# --- the engine ----------------------------------------------------------------------------------


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


@each_engine
def test_engine_crashes_at_its_start(project: Project, fault: Fault, server: Server) -> None:
    recipe = project.recipe(engine=server.engine)
    with project.stands_in(server, "#!/bin/sh\necho 'the last words' >&2\nkill -SEGV $$\n"):
        fault.happens(f"12 {server.title} crashes at its start")
        result = project.orch(recipe)
    fault.ends(result, 4, rf"{server.service} stopped while starting on gpu1.*")
    assert "the last words" in result.stderr


def test_no_such_model_and_no_way_to_its_registry(project: Project, fault: Fault) -> None:
    fault.happens("13 no such model, no way to its registry")
    result = project.orch(project.recipe(model="nosuchmodel:1b"))
    fault.ends(result, 4, r"cannot pull nosuchmodel:1b: pull model.*")
    assert "Temporary failure in name resolution" in result.stderr


def test_no_file_of_a_models_name(project: Project, fault: Fault) -> None:
    """An engine that fetches none is not even submitted."""
    fault.happens("13 no file of that model (llama.cpp)")
    result = project.orch(project.recipe(engine="llama.cpp", model="nosuchmodel:1b"))
    fault.ends(result, 2, r"'nosuchmodel:1b': llama.cpp is given a GGUF file, and .* there is none")


@each_engine
def test_model_file_is_no_model(project: Project, fault: Fault, server: Server) -> None:
    path = project.folder / "broken.gguf"
    path.write_bytes(b"GGUF and no more")
    fault.happens(f"13 model file is damaged ({server.title})")
    result = project.orch(project.recipe(engine=server.engine, model=str(path)))
    words = {
        "ollama": rf"Ollama cannot import {path}: .+",
        "llama.cpp": rf"llamacpp stopped while starting on gpu1 with the GGUF file {path}",
    }
    fault.ends(result, 4, words[server.engine])


def test_model_sits_on_the_cpu(project: Project, fault: Fault) -> None:
    fault.happens("14 GPUs are asked for, the model is on the CPU")
    result = project.orch(project.recipe(allow_cpu=False))
    fault.ends(result, 4, "sits on cpu: 0.00 of")
    assert "gpu" in result.stderr


@each_engine
def test_start_that_hangs(project: Project, fault: Fault, server: Server) -> None:
    recipe = project.recipe(engine=server.engine)
    with project.stands_in(server, SILENT):
        fault.happens(f"15 start hangs, --start-timeout 5 ({server.title})")
        result = project.orch(recipe, "--start-timeout", "5")
    fault.ends(
        result, 5, rf"still starting after 5 s \({server.service} job \d+: its job has begun.*"
    )


@each_engine
def test_engine_is_out_of_memory(project: Project, fault: Fault, server: Server) -> None:
    if (RUN / "memory").read_text().strip() != "cgroup":
        pytest.skip("memory limits need the memory controller of cgroup v1")
    recipe = project.recipe(engine=server.engine, mem_gb=1)
    takes = "#!/bin/sh\nx=$(head -c 1500M /dev/zero | tr '\\0' a)\nsleep 60\n"
    with project.stands_in(server, takes):
        fault.happens(f"16 {server.title} is out of memory")
        result = project.orch(recipe)
    fault.ends(result, 4, rf"the {server.service} job \d+ \[OUT_OF_MEMORY\] .*raise mem_gb")
    assert "oom-kill" in result.stderr


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
