"""The set-up scripts, each in a copy of the project and with a PATH that holds what a test says."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from setup_machine import Machine, sentence


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


OLD_PYTHON = 'case "$1" in --version) echo Python 3.6.8 ;; *) exit 1 ;; esac'


def test_an_old_python_is_refused_with_one_sentence(machine):
    machine.program("python3", OLD_PYTHON)
    said = sentence(machine.run("make_venv.sh"))
    assert "3.10 or newer" in said
    assert "Python 3.6.8" in said
    assert "PYTHON=" in said
    assert not (machine.project / ".venv").exists()


def test_the_old_python_that_was_asked_for_is_refused_although_there_is_a_newer_one(machine):
    machine.program("old", OLD_PYTHON)
    machine.program("python3", "exit 0")
    assert "old is Python 3.6.8" in sentence(machine.run("make_venv.sh", PYTHON="old"))


def test_a_python_without_ensurepip_is_named_with_the_package_that_it_lacks(machine):
    machine.program("python3", 'case "$2" in *ensurepip*) exit 1 ;; esac')
    said = sentence(machine.run("make_venv.sh"))
    assert "python3-venv" in said
    assert str(machine.bin / "python3") in said


def test_an_unfinished_environment_is_made_again(machine):
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv" / "left-over").touch()
    fake_venv = 'mkdir -p .venv/bin; echo "#!/bin/sh" >.venv/bin/python; chmod +x .venv/bin/python'
    (machine.bin / "chmod").symlink_to(shutil.which("chmod"))
    machine.program("python3", f'case "$2" in venv) {fake_venv} ;; esac')
    assert machine.run("make_venv.sh").returncode == 0
    assert not (machine.project / ".venv" / "left-over").exists()
    second = machine.run("make_venv.sh")
    assert (second.returncode, second.stdout) == (0, "")


def test_an_active_environment_is_not_made_with_its_own_python(machine):
    own = machine.project / ".venv" / "bin"
    own.mkdir(parents=True)
    (own / "python3").write_text("#!/bin/sh\nexit 0\n")
    (own / "python3").chmod(0o755)
    machine.program("python3", OLD_PYTHON)
    said = sentence(machine.run("make_venv.sh", PATH=f"{own}:{machine.bin}"))
    assert "Python 3.6.8" in said


def test_an_unknown_argument_is_refused(machine):
    assert "--devel" in sentence(machine.run("make_venv.sh", "--devel"))


def test_an_ollama_on_path_is_used_as_it_is(machine):
    machine.program("ollama", "echo ollama version is 0.99.1")
    result = machine.run("get_ollama.sh")
    assert result.returncode == 0
    assert f"{machine.bin}/ollama (version 0.99.1)" in result.stdout
    assert not (machine.project / ".tools").exists()
    assert list(machine.home.iterdir()) == []


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="Ollama is built on Linux only")
def test_without_a_compiler_and_without_root_the_missing_packages_are_named(machine):
    said = sentence(machine.run("get_ollama.sh"))
    assert "g++" in said
    assert "https://ollama.com/download" in said


def test_packages_that_nobody_can_install_are_named_and_are_no_failure(machine):
    """There is no apt-get on the test's PATH."""
    result = machine.run("get_system_packages.sh")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Note: some tests need curl ")
    assert " prometheus prometheus-pushgateway prometheus-node-exporter " in result.stdout


#: A Go that builds an Ollama which says with which flags its C++ was compiled.
GO = """case $1 in
  version) echo go version go1.25.5 linux/amd64 ;;
  mod) mkdir -p mod; touch mod/miniaudio.h
    case $4 in *malgo*) sum=$SUM_MINIAUDIO ;; *) sum=$SUM_OLLAMA ;; esac
    printf '{\\n\\t"Dir": "%s",\\n\\t"Sum": "%s"\\n}\\n' "$PWD/mod" "$sum" ;;
  install) mkdir -p "$GOBIN"
    printf '#!/bin/sh\\necho version 0.17.4 # %s\\n' "$CGO_CXXFLAGS" >"$GOBIN/ollama"
    chmod +x "$GOBIN/ollama" ;;
esac"""


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="Ollama is built on Linux only")
@pytest.mark.parametrize(("macro", "without_amx"), [("__AVX2__", False), ("__AMX_INT8__", True)])
def test_ollama_is_built_without_the_instructions_whose_code_go_leaves_out(
    machine, macro, without_amx
):
    for name in ("chmod", "cp", "ln", "sleep", "touch"):
        (machine.bin / name).symlink_to(shutil.which(name))
    machine.program("gcc", "exit 0")
    machine.program("g++", f"echo '#define {macro} 1'")
    machine.program("go", GO)
    script = (machine.project / "scripts" / "get_ollama.sh").read_text()
    sums = re.findall(r"^readonly (\w+)_SUM='(.*)'$", script, re.M)
    result = machine.run("get_ollama.sh", **{f"SUM_{of}": value for of, value in sums})
    assert result.returncode == 0, result.stderr
    built = (machine.project / ".tools" / "bin" / "ollama").read_text()
    assert "-march=native" in built
    assert ("-mno-amx-int8" in built) == without_amx
