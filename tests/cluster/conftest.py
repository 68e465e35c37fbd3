"""Fixtures for tests on the Slurm test cluster: `cluster` is up for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from slurmcluster import Cluster, lock, obstacle, testcluster


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all tests in this folder; under pytest-xdist one worker gets them all."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The test cluster, new at the start of the session and gone without a trace at its end."""
    reason = obstacle()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (with CI=true that is a failure)", pytrace=False)
    if reason:
        pytest.skip(reason)
    with lock():
        it = Cluster()
        try:
            testcluster("install")
            it.down()
            it.up()
            yield it
        finally:
            it.down()


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Project:
    """The project, installed for an ordinary user."""
    project = Project(cluster)
    project.install()
    return project


@pytest.fixture
def project(installed: Project) -> Iterator[Project]:
    """The same, and whatever a test leaves is stopped."""
    yield installed
    installed.orch("--stop", "all")
    installed.cluster.cancel_all()
