"""orch.py's first lines: an old Python, no environment, the environment of the project."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path):
    """The project without a .venv."""
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copy(PROJECT / "orch.py", folder)
    for name in ("hpc", "contracts", "engines"):
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


def run(*command):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize("path", ["orch.py", "hpc/__init__.py", "hpc/start.py"])
def test_it_parses_on_python_3_6(path):
    ast.parse((PROJECT / path).read_text(), feature_version=(3, 6))


def test_an_old_python_gets_a_sentence(copy):
    pretend = "import runpy, sys; sys.version_info = (3, 6, 8, 'final', 0); "
    pretend += "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0][:-8]); "
    pretend += "runpy.run_path(sys.argv[0], run_name='__main__')"
    result = run(sys.executable, "-c", pretend, copy / "orch.py", "--help")
    assert result.returncode == 2
    assert "Python 3.6 is too old, 3.10 is needed; run scripts/make_venv.sh" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_packages_a_sentence_says_how_to_get_them(copy):
    bare = [sys.executable, "-S"]  # no site-packages
    result = run(*bare, copy / "orch.py", PROJECT / "recipe_ex/quickstart.json", "--dry-run",
                 "--output-dir", copy / "output")  # fmt: skip
    assert result.returncode == 2
    assert "package pydantic is missing; run scripts/make_venv.sh" in result.stderr
    assert result.stderr.count("\n") == 1


def test_it_continues_in_the_projects_environment_with_its_arguments(copy):
    python = copy / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "entered" "$@"\n')
    python.chmod(0o755)
    result = run(sys.executable, copy / "orch.py", "a recipe.json", "--detach")
    assert result.stdout.splitlines() == [
        "entered", str(copy / "orch.py"), "a recipe.json", "--detach",
    ]  # fmt: skip


def test_help_fits_one_screen():
    result = run(sys.executable, PROJECT / "orch.py", "--help")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) <= 30
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_reader_that_goes_away_is_no_failure():
    # With a buffer it is at the end that nobody reads.
    orch = f"env -u PYTHONUNBUFFERED {sys.executable} {PROJECT / 'orch.py'}"
    command = f"{orch} --help | true; exit ${{PIPESTATUS[0]}}"
    result = run("bash", "-c", command)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("module", ["hpc.commands.status", "client.handover.__main__"])
def test_what_is_begun_often_does_not_load_the_types_of_recipes_and_answers(module):
    """They are two thirds of its time, and it seldom needs them."""
    code = f"import sys, {module}; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0
