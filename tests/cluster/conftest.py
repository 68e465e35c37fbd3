"""Fixtures for tests on the Slurm test cluster: `cluster` is up for the whole session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Fault, natural
from images import Images
from project import Project
from slurmcluster import Cluster, lock, obstacle, testcluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


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


@pytest.fixture(scope="session")
def images(installed: Project) -> Images:
    """Container images that the user can read; see Images."""
    if shutil.which("apptainer") is None and os.environ.get("CI") != "true":
        pytest.skip("there is no Apptainer, and so there are no images")
    return Images(installed)


@pytest.fixture
def project(installed: Project) -> Iterator[Project]:
    """The same, and whatever a test leaves is stopped."""
    installed.leaks.begin()
    yield installed
    installed.orch("--stop", "all")
    installed.cluster.cancel_all()


@pytest.fixture
def fault(project: Project, record_property: Callable[[str, object], None]) -> Iterator[Fault]:
    """Times a fault up to its verdict; afterwards nothing may be left of it."""
    it = Fault()
    yield it
    project.assert_nothing_left()
    record_property("fault", (it.name, it.verdict, it.seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults: what became of each, and how soon."""
    # the fixture's end adds the row, hence it is in the report of the teardown
    ends = [
        dict(r.user_properties) for r in terminalreporter.getreports("") if r.when == "teardown"
    ]
    rows = [properties["fault"] for properties in ends if "fault" in properties]
    if not rows:
        return
    terminalreporter.section("faults")
    for name, verdict, seconds in sorted(rows, key=lambda row: natural(row[0])):
        terminalreporter.line(f"{name:<54}  {verdict:<70} {seconds:5.1f} s")
    numbers = {natural(name)[0] for name, _, _ in rows} - {0}
    terminalreporter.line(f"{len(numbers)} of the 30 kinds of fault are in this table")
