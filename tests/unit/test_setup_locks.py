"""The lock files hold what the requirements ask for, hashed, and name no package index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from client.api.clients_page import CLIENTS

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [
    ("requirements.txt", "requirements.lock"),
    ("requirements-dev.txt", "requirements-dev.lock"),
    ("requirements-clients.txt", "requirements-clients.lock"),
    ("requirements-aider.txt", "requirements-aider.lock"),
]


def wanted(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {re.split(r"[<>=;\s]", line)[0] for line in lines if line and not line.startswith("#")}


def entries(name: str) -> list[str]:
    """The requirements of a lock file, each with its hashes as one line."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def versions(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in entries(name):
        package, version = re.match(r"([a-z0-9.-]+)==(\S+)", entry).groups()
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize(("requirements", "lock"), PAIRS)
def test_every_requirement_is_locked(requirements, lock):
    assert wanted(requirements) - versions(lock).keys() == set()


@pytest.mark.parametrize("lock", [lock for _, lock in PAIRS])
def test_every_entry_is_exact_and_hashed(lock):
    for entry in entries(lock):
        assert re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_no_file_names_a_package_index(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index|--extra-index|--find-links)", text, re.MULTILINE)


def test_both_locks_agree():
    runtime, dev = versions("requirements.lock"), versions("requirements-dev.lock")
    shared = runtime.keys() & dev.keys()
    assert {name: runtime[name] for name in shared} == {name: dev[name] for name in shared}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.package)
def test_the_table_of_clients_names_the_versions_that_are_tried(client):
    # aider has others of its own; those of the first lock are tried alone, too.
    locked = {**versions("requirements-aider.lock"), **versions("requirements-clients.lock")}
    assert locked[client.package] == {client.version}
