"""At a cluster that is laid out differently a site profile is all that has to change."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project

#: Partitions of other names, GPUs by type and another option, no accounts.
PROFILE = {
    "name": "other",
    "scheduler": "slurm",
    "gpu_partitions": ["accelerated"],
    "cpu_partitions": ["compute"],
    "gpu_request": "--gpus-per-node=a100:{n}",
}
NOT_SAID = {"partition": None, "client_partition": None, "account": None}


def lay_out(project: Project, aside: Path, *layout: str) -> None:
    """The cluster anew, with this layout, and the project on it, with the environment it had: that
    takes longest to make."""
    environment = project.folder / ".venv"
    shutil.move(environment, aside)
    project.cluster.down()
    project.cluster.up(*layout)
    project.folder.mkdir()
    shutil.move(aside, environment)
    project.install()


@contextlib.contextmanager
def laid_out(
    installed: Project, tmp_path_factory: pytest.TempPathFactory, layout: str
) -> Iterator[Project]:
    """The project on such a cluster; afterwards the usual one is up, with the project on it."""
    aside = tmp_path_factory.mktemp("aside") / "environment"
    lay_out(installed, aside, "--layout", layout)
    try:
        yield installed
    finally:
        lay_out(installed, aside)


@pytest.fixture(scope="module")
def elsewhere(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project at the other site."""
    with laid_out(installed, tmp_path_factory, "other") as project:
        yield project


def test_site_profile_brings_jobs_where_they_belong(elsewhere: Project) -> None:
    elsewhere.leaks.begin()
    profile = elsewhere.folder / "other.json"
    profile.write_text(json.dumps(PROFILE))
    result = elsewhere.orch(elsewhere.recipe(**NOT_SAID), "--site", str(profile))
    elsewhere.assert_benchmarked(result)
    assert elsewhere.host_of(elsewhere.job_id("ollama")) == "gpu1"
    assert elsewhere.host_of(elsewhere.job_id("client")) in ("cpu1", "cpu2")
    (script,) = elsewhere.output.glob("scripts/*.ollama.sh")
    assert "#SBATCH --gpus-per-node=a100:1" in script.read_text()
    assert elsewhere.orch("--stop", "all").returncode == 0
    elsewhere.assert_nothing_left()


def test_partitions_are_found_without_a_profile(elsewhere: Project) -> None:
    elsewhere.leaks.begin()
    result = elsewhere.orch(elsewhere.recipe(**NOT_SAID), "--no-benchmark")
    elsewhere.assert_benchmarked(result)
    assert elsewhere.host_of(elsewhere.job_id("ollama")) == "gpu1"
    assert elsewhere.orch("--stop", "all").returncode == 0
    elsewhere.assert_nothing_left()


def test_failed_job_is_told_without_accounting(elsewhere: Project) -> None:
    elsewhere.leaks.begin()
    with elsewhere.ollama_is("#!/bin/sh\necho 'the last words' >&2\nexit 7\n"):
        result = elsewhere.orch(elsewhere.recipe(**NOT_SAID))
    assert result.returncode == 4
    assert "[FAILED]" in result.stderr and "the last words" in result.stderr
    elsewhere.assert_nothing_left()
