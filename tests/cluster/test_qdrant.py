"""Qdrant's job on real Slurm: its lifecycle, its key, its storage. The server is a stand-in
(tests/qdrant_server.py), since the test machines cannot have Qdrant's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from chains import CHAIN, NEXT_S
from events import kill_all
from project import HOME, PROXY, USER, Project
from slurmcluster import PATIENCE_S, wait_until

from contracts.job_files import monitoring_login

WRAPPER = '#!/bin/sh\nexec {python} {server} "$@"\n'


@pytest.fixture
def qdrant(project: Project) -> dict[str, str]:
    """An environment on whose PATH there is a stand-in for Qdrant."""
    folder = HOME / "qdrant"
    folder.mkdir(exist_ok=True)
    python, server = project.folder / ".venv/bin/python", project.folder / "tests/qdrant_server.py"
    (folder / "qdrant").write_text(WRAPPER.format(python=python, server=server))
    (folder / "qdrant").chmod(0o755)
    shutil.chown(folder, USER)
    return {**PROXY, "PATH": f"/usr/local/bin:/usr/bin:/bin:{folder}"}


@pytest.fixture
def documents(project: Project) -> Path:
    """Many documents that do not resemble each other; the storage is empty."""
    folder = HOME / "documents"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder, range(60))
    shutil.rmtree(project.output / "qdrant_storage" / "shelf", ignore_errors=True)
    return folder


def write(folder: Path, numbers: range) -> None:
    for n in numbers:
        words = (f"{chr(97 + (n * 7 + k) % 26)}{n}word{k}" for k in range(80))
        (folder / f"{n:03d}.txt").write_text(" ".join(words))


def recipe_of(project: Project, name: str = "recipe.json", **more: Any) -> str:
    tiny = str(project.folder / ".tools" / "models" / "tiny.gguf")
    section = {"collection": "shelf", "embedding_model": tiny, "chunk_tokens": 64,
               "chunk_overlap": 8}  # fmt: skip
    return project.recipe(
        name, **{"retrieval": section, "n_requests_per_client": 0, "gpus": 0, **more}
    )


def deploy(project: Project, qdrant: dict[str, str], **more: Any) -> dict[str, Any]:
    result = project.orch(recipe_of(project, **more), env=qdrant)
    assert result.returncode == 0, result.stdout + result.stderr
    return project.records()[-1]


def points(project: Project, record: dict[str, Any]) -> int:
    health = project.curl(record["endpoints"]["client"] + "/health")
    return int(health["retrieval"]["points"])


def ingest(project: Project, documents: Path) -> dict[str, Any]:
    result = project.orch("--ingest", str(documents), "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_what_was_ingested_is_found_and_there_at_the_next_deployment(
    project: Project, qdrant: dict[str, str], documents: Path
) -> None:
    record = deploy(project, qdrant, monitoring={})
    assert project.host_of(record["jobs"]["qdrant"]["id"]).startswith("cpu")
    told = ingest(project, documents)
    assert told["added"] == points(project, record) > 60
    asked = {"prompt": "a0word0 h0word1", "retrieval": True, "options": {"num_predict": 8}}
    body = json.dumps(asked)
    command = ["-H", "Content-Type: application/json", "-d", body]
    answer = project.curl(record["endpoints"]["client"] + "/query", *command)
    assert answer["sources"] and set(answer["timings"]) == {"embed", "search", "prefill", "decode"}
    _assert_key_is_kept(project, record)
    prometheus = record["endpoints"]["prometheus"]
    wait_until(
        lambda: _up(project, prometheus), PATIENCE_S, "Prometheus to reach Qdrant with its key"
    )
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()
    again = deploy(project, qdrant)
    assert points(project, again) == told["added"]
    told = ingest(project, documents)
    assert (told["added"], told["unchanged"]) == (0, 60)
    assert project.orch("--stop", again["id"]).returncode == 0
    project.assert_nothing_left()


def _up(project: Project, prometheus: str) -> bool:
    header = monitoring_login(project.output).header
    url = f"{prometheus}/api/v1/targets?state=active"
    found = project.curl(url, "-H", f"@{header}")["data"]["activeTargets"]
    return [t["health"] for t in found if t["labels"]["job"] == "qdrant"] == ["up"]


def _assert_key_is_kept(project: Project, record: dict[str, Any]) -> None:
    """Without it 401; it is in one file that nobody else can read, and on no command line."""
    url = record["endpoints"]["qdrant"]
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/collections/shelf"]
    shown = project.cluster.on("cpu2", *command, user="hpcother", check=True)
    assert shown.stdout == "401"
    kept = project.output / "scripts" / f"{record['id']}.qdrant.key"
    key = kept.read_text().strip()
    assert len(key) == 32 and kept.stat().st_mode & 0o777 == 0o600
    shown = project.cluster.on("cpu2", *command, "-H", f"api-key: {key}", check=True)
    assert shown.stdout == "200"
    assert project.files_with(key) == [kept]
    for host in ("cpu1", "cpu2", "gpu1"):
        for pid in project.cluster.pids(host):
            assert key.encode() not in project.cluster.told_by(pid, "cmdline")


def test_a_job_that_is_killed_in_an_ingest_loses_nothing_that_was_acknowledged(
    project: Project, qdrant: dict[str, str], documents: Path
) -> None:
    record = deploy(project, qdrant)
    write(documents, range(60, 180))  # so many that it is not through before the job is killed
    running = project.start("--ingest", str(documents))
    wait_until(lambda: points(project, record) > 20, PATIENCE_S, "some documents to be ingested")
    before = points(project, record)
    job_id = record["jobs"]["qdrant"]["id"]
    host = project.host_of(job_id)
    kill_all(_processes_of(project, host, "qdrant"))
    ended = running.end()
    assert ended.returncode != 0 and "Traceback" not in ended.stderr
    assert re.search(r"[Qq]drant", ended.stderr), ended.stderr
    project.orch("--stop", record["id"])
    project.assert_nothing_left()
    again = deploy(project, qdrant)
    assert points(project, again) >= before
    told = ingest(project, documents)
    assert told["added"] > 0
    total = points(project, again)
    assert ingest(project, documents)["added"] == 0 and points(project, again) == total
    assert project.orch("--stop", again["id"]).returncode == 0
    project.assert_nothing_left()


def _processes_of(project: Project, host: str, service: str) -> list[int]:
    """The job's script and its server."""
    found = []
    for pid in project.cluster.pids(host):
        command = project.cluster.told_by(pid, "cmdline").decode()
        if (
            f".{service}.sh" in command
            or "qdrant_server.py" in command
            or "slurm_script" in command
        ):
            environment = project.cluster.told_by(pid, "environ").decode(errors="replace")
            if "qdrant" in environment.partition("SLURM_JOB_NAME=")[2].partition("\0")[0]:
                found.append(pid)
    assert found
    return found


@pytest.mark.long
def test_the_next_jobs_have_the_points_of_those_before(
    project: Project, qdrant: dict[str, str], documents: Path
) -> None:
    record = deploy(project, qdrant, **CHAIN)
    added = ingest(project, documents)["added"]
    first = record["jobs"]["qdrant"]["id"]

    def has_moved() -> bool:
        now = project.records()[-1]
        if now["jobs"]["qdrant"]["id"] == first or not now["endpoints"]["qdrant"]:
            return False
        health = project.curl(now["endpoints"]["client"] + "/health")
        return bool(health["retrieval"]["points"] == added)

    wait_until(has_moved, NEXT_S, "the next Qdrant to have all points")
    ended = project.output / "logs" / f"{first}.rc"
    assert ended.read_text() == "0\nits successor serves\n"
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def test_a_second_job_on_the_same_storage_is_refused(
    project: Project, qdrant: dict[str, str], documents: Path
) -> None:
    record = deploy(project, qdrant)
    result = project.orch(recipe_of(project, "second.json"), env=qdrant)
    assert result.returncode == 4, result.stdout + result.stderr
    job_id = record["jobs"]["qdrant"]["id"]
    assert f"job {job_id} works on " in result.stderr
    assert "stop its deployment, or take another collection" in result.stderr
    assert points(project, record) == 0, "the first one goes on"
    assert project.orch("--stop", "all").returncode == 0
    project.assert_nothing_left()
