"""Services from container images on real Slurm and Apptainer; the hosts reach no registry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faults import Fault
from images import Images
from project import HOME, PROXY, USER, Project, pip_settings
from servers import command_line
from slurmcluster import PATIENCE_S, WORK, wait_until
from test_batch_jobs import SHORT, answered, lines
from test_replicas import devices_of, is_server, serving

SERVICES = ["ollama", "client"]
#: Seconds for images to be made, of which pip and the compression take minutes of a busy machine.
PREPARED_S = 1800


def site_of(project: Project, **images: str) -> str:
    """A site profile of the test cluster with Apptainer and these images."""
    path = project.folder / "boxes.json"
    profile = {
        "name": "boxes",
        "scheduler": "slurm",
        "runtime": "apptainer",
        "gpu_partitions": ["gpu"],
        "cpu_partitions": ["cpu"],
        "images": images,
    }
    path.write_text(json.dumps(profile))
    return str(path)


def prepare(project: Project, recipe: str, site: str) -> subprocess.CompletedProcess[str]:
    """--prepare on the machine, which has a way out; the hosts share its disk."""
    environment = [f"HOME={HOME}", "PATH=/usr/local/bin:/usr/bin:/bin", *pip_settings()]
    return subprocess.run(
        ["runuser", "-u", USER, "--", "env", "-i", *environment,
         "python3", "orch.py", recipe, "--site", site, "--prepare"],
        cwd=project.folder, capture_output=True, text=True, timeout=PREPARED_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def boxes(installed: Project, images: Images) -> str:
    """A site whose images have been prepared."""
    site = site_of(installed, ollama=str(images.ollama), python=str(images.base))
    result = prepare(installed, installed.recipe(), site)
    assert result.returncode == 0, result.stdout + result.stderr
    return site


def shape(value: Any) -> Any:
    """The keys of a record, all the way down; a figure may be missing where requests are few."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    return float if value is None or isinstance(value, int) else type(value)


def test_services_run_from_images_where_they_belong(project: Project, boxes: str) -> None:
    """And there, too, the engine speaks TLS, and the door to it."""
    recipe = project.recipe(question="Who are you?", tls=True)
    result = project.orch(recipe, "--site", boxes)
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in result.stdout
    record = project.records()[-1]
    for service, program in (("ollama", "ollama serve"), ("client", "/opt/orch/venv/bin/python")):
        host = project.host_of(record["jobs"][service]["id"])
        assert host.startswith({"ollama": "gpu", "client": "cpu"}[service])
        listed = project.cluster.on(host, "ps", "-e", "-o", "args", user="root", check=True).stdout
        assert "Apptainer runtime parent" in listed
        assert program in listed
    assert (project.output / "containers" / "client_service.sif").is_symlink()
    assert_images_are_recorded(project, record)
    assert record["endpoints"]["client"].startswith("https://")
    health = project.curl(record["endpoints"]["client"] + "/health")
    assert health["status"] == "healthy"
    listed = project.curl(record["endpoints"]["client"] + "/api/tags")  # the door's own way to it
    assert [model["name"] for model in listed["models"]] == [record["model"]]
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_each_replica_of_a_node_has_one_gpu_in_its_container(project: Project, boxes: str) -> None:
    recipe = project.recipe(gpus=4, cpus=4, replicas_per_node="per_gpu", num_thread=1)
    result = project.orch(recipe, "--site", boxes, "--no-benchmark")
    project.assert_benchmarked(result)
    record = project.records()[-1]
    client = record["endpoints"]["client"]
    assert len(set(record["endpoints"]["ollama"])) == 4
    servers = [pid for pid in project.cluster.pids("gpu1") if is_server(pid)]
    devices = {pid: devices_of(pid) for pid in servers}
    assert sorted(devices.values()) == ["0", "1", "2", "3"], "one each, none twice"
    assert all(Path(f"/proc/{pid}/root/.singularity.d").is_dir() for pid in servers), "contained"

    os.kill(servers[0], signal.SIGKILL)
    wait_until(lambda: serving(project, client) == 3, PATIENCE_S, "it to be missed")
    wait_until(lambda: serving(project, client) == 4, PATIENCE_S, "it to come back")
    again = {pid for pid in project.cluster.pids("gpu1") if is_server(pid)}
    (new,) = again - set(servers)
    assert devices_of(new) == devices[servers[0]], "on the GPU that it had"
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


@pytest.mark.long
def test_llamacpp_runs_from_an_image_of_its_own_layout(project: Project, images: Images) -> None:
    """Its program is in /app there. The client service's image, beside it, has HAProxy."""
    site = site_of(project, llamacpp=str(images.llamacpp()), client=str(images.client()))
    recipe = project.recipe(engine="llama.cpp", question="Who are you?", tls=True)
    result = project.orch(recipe, "--site", site)
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded" in result.stdout
    record = project.records()[-1]
    assert record["images"]["llamacpp"]["path"] == str(images.llamacpp())
    host = project.host_of(record["jobs"]["llamacpp"]["id"])
    listed = project.cluster.on(host, "ps", "-e", "-o", "args", user="root", check=True).stdout
    assert "python3 -s /app/llama_server.py" in listed and "Apptainer runtime parent" in listed
    loaded = record["loaded_model"]
    assert (loaded["where"], bool(loaded["version"])) == ("cpu", True)
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


@pytest.mark.long
def test_a_batch_is_worked_off_in_images_over_several_jobs(project: Project, boxes: str) -> None:
    """Its files are in a folder that an image is shown for them alone."""
    files = WORK / "data"
    files.mkdir(exist_ok=True)
    shutil.chown(files, USER, USER)
    given = lines(project, 2500, 400).with_name("prompts.jsonl").rename(files / "prompts.jsonl")
    out = files / "answers.jsonl"
    out.unlink(missing_ok=True)
    recipe = project.recipe(
        "batch.json", time=SHORT, n_clients=1, n_requests_per_client=0,
        batch={"input": str(given), "output": str(out), "max_jobs": 20},
    )  # fmt: skip
    command = project.start(recipe, "--site", boxes)

    def workers() -> list[int]:
        there = [pid for host in ("cpu1", "cpu2") for pid in project.cluster.pids(host)]
        return [pid for pid in there if b"-m\0batch\0" in command_line(pid)]

    def contained() -> bool:  # what starts it there has the same command line
        return any(Path(f"/proc/{pid}/root/.singularity.d").is_dir() for pid in workers())

    wait_until(contained, PATIENCE_S, "the worker in its image")
    result = command.end(3600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(answered(out)) == sorted(f"q{n}" for n in range(2500))
    record = project.records()[-1]
    assert record["state"] == "ended" and record["batch"]["job"] >= 2
    assert set(record["images"]) == set(SERVICES)
    project.assert_nothing_left()


def assert_images_are_recorded(project: Project, record: dict[str, Any]) -> None:
    """The site's own by size, what a job has made by its digest; also with the benchmark."""
    ollama, client = record["images"]["ollama"], record["images"]["client"]
    image = Path(client["path"])
    assert image.parent.samefile(project.output / "containers")
    assert client["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert Path(ollama["path"]).samefile(record["site"]["images"]["ollama"])
    assert (ollama["bytes"], ollama["sha256"]) == (Path(ollama["path"]).stat().st_size, None)
    summary = json.loads((Path(record["benchmark"]["folder"]) / "summary.json").read_text())
    assert summary["provenance"]["context"]["images"] == record["images"]


def test_record_is_that_of_the_host_runtime_but_for_the_runtime(
    project: Project, boxes: str
) -> None:
    project.assert_benchmarked(project.orch(project.recipe(), "--site", boxes))
    assert project.orch("--stop", "all").returncode == 0
    project.assert_benchmarked(project.orch(project.recipe()))
    assert project.orch("--stop", "all").returncode == 0
    contained, plain = project.records()[-2:]
    sites = contained.pop("site"), plain.pop("site")
    assert [site["runtime"] for site in sites] == ["apptainer", "host"]
    assert [list(record.pop("images")) for record in (contained, plain)] == [SERVICES, []]
    assert shape(contained) == shape(plain)
    assert contained["loaded_model"] == plain["loaded_model"]


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        (
            "6 image is missing",
            "/nowhere/ollama.sif",
            "cannot read the image /nowhere/ollama.sif",
        ),
        (
            "6 registry is out of reach",
            "docker://ollama/ollama:0.17.4",
            r"cannot make the image ollama from docker:.* dial tcp",
        ),
    ],
    ids=["missing", "registry out of reach"],
)
def test_image_that_cannot_be_had_ends_it(
    project: Project, fault: Fault, name: str, image: str, words: str
) -> None:
    recipe, site = project.recipe(), site_of(project, ollama=image)
    fault.happens(name)
    fault.ends(project.orch(recipe, "--site", site), 4, words)
    project.assert_nothing_left()
    assert list((project.output / "containers").glob("ollama-*")) == []


def test_definition_that_does_not_build_shows_its_last_lines(
    project: Project, images: Images, fault: Fault
) -> None:
    """The hosts have no way to a package index."""
    site = site_of(project, ollama=str(images.ollama), python=str(images.ollama))
    recipe = project.recipe()
    fault.happens("6 client_service.def does not build")
    result = project.orch(recipe, "--site", site)
    fault.ends(result, 4, "cannot make the image client_service")
    assert "%post" in result.stderr
    project.assert_nothing_left()


SHIM = """#!/bin/bash
# Stands in for the registry: `pull` copies an image, slowly. Everything else is Apptainer's.
if [ "$1" = pull ]; then
  echo "$$" >>{folder}/pulls
  head -c 1000000 {image} >"$3"
  while [ -e {folder}/slow ]; do sleep 0.1; done
  exec cp {image} "$3"
fi
exec /usr/bin/apptainer "$@"
"""


def test_image_is_fetched_by_one_at_a_time_and_by_the_next_where_that_is_killed(
    project: Project, images: Images, boxes: str, fault: Fault
) -> None:
    folder = HOME / "shim"
    folder.mkdir(exist_ok=True)
    for name in ("pulls", "slow"):
        (folder / name).write_text("")
    (folder / "apptainer").write_text(SHIM.format(folder=folder, image=images.ollama))
    (folder / "apptainer").chmod(0o755)
    subprocess.run(["chown", "-R", USER, folder], check=True)
    site = site_of(project, ollama="docker://stand/in:1", python=str(images.base))
    environment = {**PROXY, "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    for name in ("one.json", "two.json"):
        detached = project.orch(project.recipe(name), "--site", site, "--detach", env=environment)
        assert detached.returncode == 0, detached.stderr
    # Slurm may start both at once: whichever comes first is the one that fetches.
    records = {record["jobs"]["ollama"]["id"]: record["id"] for record in project.records()[-2:]}
    pulls = folder / "pulls"
    wait_until(lambda: pulls.read_text().strip(), PATIENCE_S, "one of them to fetch")
    wait_until(lambda: _waiting(project, records), PATIENCE_S, "the other one to wait")
    (second,) = _waiting(project, records)
    (first,) = records.keys() - {second}
    assert len(pulls.read_text().split()) == 1
    project.cluster.on("login1", "scancel", "--signal=KILL", "--full", first, check=True)
    fault.happens("7 kill -9 of the one that fetches the image")
    wait_until(lambda: len(pulls.read_text().split()) == 2, PATIENCE_S, "the second to take over")
    fault.seen("the second fetches, and serves from a whole image")
    (folder / "slow").unlink()
    result = project.orch("--attach", records[second])
    project.assert_benchmarked(result)
    (image,) = (project.output / "containers").glob("ollama-*.sif")
    assert image.read_bytes() == images.ollama.read_bytes()
    assert project.orch("--stop", "all").returncode == 0
    image.unlink()
    image.with_name(f"{image.name}.sha256").unlink()
    project.assert_nothing_left()


def _waiting(project: Project, jobs: Iterable[str]) -> list[str]:
    """Those jobs of Ollama that wait for another to make an image."""
    logs = {job: project.output / "logs" / f"ollama_{job}.out" for job in jobs}
    return [j for j, log in logs.items() if log.exists() and "waits for another" in log.read_text()]
