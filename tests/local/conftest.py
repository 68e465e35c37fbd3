"""Real Ollama, real client service, real processes of this machine."""

import os
import shutil
import signal

import pytest
from place import PROJECT, Place


def pytest_configure():
    """Told to end, it stops what it began, as at Ctrl-C. That is ignored in what a script runs in
    the background, and in all that this starts, unless it is handled here."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/local" in str(item.path) and not _has_ollama():
            item.add_marker(pytest.mark.skip(reason="no ollama: run scripts/get_ollama.sh"))


def _has_ollama():
    return shutil.which("ollama") or (PROJECT / ".tools" / "bin" / "ollama").exists()


@pytest.fixture(scope="session", autouse=True)
def _no_skips_in_ci():
    if os.environ.get("CI") == "true":
        assert _has_ollama(), "no ollama: run scripts/get_ollama.sh"


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.orch("--stop", "all")


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("a place with $(touch pwned) 'in' it"))
    yield place
    place.orch("--stop", "all")
