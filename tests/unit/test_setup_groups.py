"""scripts/run_tests.sh with stand-ins for its steps: which groups run, and what it says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("get_system_packages", "make_venv", "lint", "get_ollama", "get_llamacpp", "get_haproxy")
#: `name` is the step's, or for pytest the folder of the tests.
STAND_IN = """#!/bin/bash
echo {name} >>called
[[ ! -e fails/{name} ]]
"""
GROUPS = [
    "System packages",
    "Python environment",
    "HAProxy",
    "Format, types, shell scripts",
    "Unit tests",
    "Engines and models",
    "Tests on the Slurm test cluster",
    "Tests with processes on this machine",
]


class Steps:
    """The stand-ins; each writes down that it was called, and fails where a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = folder / "scripts"
        scripts.mkdir()
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name in ("run_tests.sh", "run_pytest.sh", "common.sh"):
            shutil.copy(ROOT / "scripts" / name, scripts)
        for name in STEPS:
            self._write(scripts / f"{name}.sh", name)
        self._write(folder / ".venv" / "bin" / "python", '"${@: -1}"')
        (folder / "Makefile").write_text("model:\n\t@:\n")

    def _write(self, path: Path, name: str) -> None:
        path.write_text(STAND_IN.format(name=name))
        path.chmod(0o755)

    def fails(self, name: str) -> None:
        path = self.folder / "fails" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def acts(self, script: str) -> None:
        """What every pytest does; its last argument is the folder."""
        (self.folder / ".venv" / "bin" / "python").write_text(f"#!/bin/bash\n{script}\n")

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "scripts/run_tests.sh"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def called(self) -> set[str]:
        return set((self.folder / "called").read_text().split())


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    folder = tmp_path / "a project"
    folder.mkdir()
    return Steps(folder)


def summary_of(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the last lines say of each group, in their order, without the seconds."""
    lines = result.stdout.rpartition("Summary (")[2].splitlines()[1:]
    said = {line[2:40].rstrip(): " ".join(line[41:].split()) for line in lines}
    return {group: re.sub(r" \d+ s$", "", words) for group, words in said.items()}


def test_all_groups_run_and_are_named_at_the_end(steps: Steps) -> None:
    result = steps.run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(summary_of(result)) == GROUPS
    assert set(summary_of(result).values()) == {"passed"}
    assert steps.called() == {*STEPS, "tests/unit", "tests/local", "tests/cluster"}


@pytest.mark.parametrize(
    ("step", "group"),
    [
        ("lint", "Format, types, shell scripts"),
        ("tests/unit", "Unit tests"),
        ("tests/local", "Tests with processes on this machine"),
        ("tests/cluster", "Tests on the Slurm test cluster"),
    ],
)
def test_a_group_that_fails_stops_no_other(steps: Steps, step: str, group: str) -> None:
    steps.fails(step)
    result = steps.run()
    assert result.returncode == 1
    assert summary_of(result) == dict.fromkeys(GROUPS, "passed") | {group: "FAILED"}


def test_what_failed_is_named_once_more_at_the_end(steps: Steps) -> None:
    steps.acts('echo "FAILED ${@: -1}/test_x.py::test_y - assert 1 == 2"; exit 1')
    end = steps.run().stdout.rpartition("Summary (")[2]
    named = [line for line in end.splitlines() if line.startswith("FAILED ")]
    assert named == [
        f"FAILED tests/{name}/test_x.py::test_y - assert 1 == 2"
        for name in ("unit", "cluster", "local")
    ]


def test_what_runs_beside_a_group_ends_with_the_run(steps: Steps) -> None:
    """The tests on this machine have begun when those on the cluster end the run."""
    beside = steps.folder / "beside"
    steps.acts(
        f"""case "${{@: -1}}" in
        tests/local) echo $$ >"{beside}"; exec sleep 600 ;;
        tests/cluster) until [[ -s "{beside}" ]]; do sleep 0.05; done; kill $PPID; exit 1 ;;
        esac"""
    )
    result = steps.run()
    assert result.returncode == 143, result.stdout + result.stderr
    assert summary_of(result)["Tests on the Slurm test cluster"].startswith("FAILED interrupted")
    assert not Path(f"/proc/{beside.read_text().strip()}").exists()


def test_groups_that_need_what_failed_are_named_with_it(steps: Steps) -> None:
    steps.fails("get_ollama")
    result = steps.run()
    assert result.returncode == 1
    said = summary_of(result)
    assert said["Engines and models"] == "FAILED"
    assert said["Unit tests"] == "passed"
    for group in GROUPS[-2:]:
        assert said[group] == "NOT RUN since this did not pass: Engines and models"
    assert not steps.called() & {"tests/local", "tests/cluster"}


def test_without_python_nothing_but_the_system_packages_runs(steps: Steps) -> None:
    steps.fails("make_venv")
    result = steps.run()
    assert result.returncode == 1
    said = summary_of(result)
    assert said["Unit tests"] == "NOT RUN since this did not pass: Python environment"
    assert said["Tests on the Slurm test cluster"].endswith("pass: Engines and models")
    assert not any(name.startswith("tests/") for name in steps.called())
