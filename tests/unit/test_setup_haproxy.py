"""scripts/get_haproxy.sh with stand-ins for HAProxy and for what gets and compiles it."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from pathlib import Path

import pytest
from setup_machine import Machine, sentence

SCRIPT = "get_haproxy.sh"
ON_LINUX = pytest.mark.skipif(os.uname().sysname != "Linux", reason="it is built on Linux only")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
FEATURES = "-LUA +OPENSSL +PROMEX"
#: Fails as curl does where nobody can be reached.
NO_WAY_OUT = "echo 'curl: (6) Could not resolve host' >&2; exit 6"


def says(version: str, features: str = FEATURES) -> str:
    """What a program runs that prints what HAProxy prints of itself."""
    return f"echo '{version} 2025/06/02 - https://haproxy.org/'; echo 'Feature list : {features} '"


GOOD = says("HAProxy version 2.6.12-1+deb12u4")
OLD = says("HA-Proxy version 2.2.9-2+deb11u6")


class HaproxyMachine(Machine):
    """A machine whose system folders are folders of the test."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.brings("chmod", "cp", "gzip", "ln", "sha256sum", "sleep", "tar")
        self.sbin = folder / "sbin"
        self.sbin.mkdir()
        self.policy = folder / "policy-rc.d"
        self.cache = self.home / ".cache" / "orch"
        self.target = self.project / ".tools" / "bin" / "haproxy"
        self._constant(SCRIPT, "FOLDERS", f"('{self.sbin}')")
        self._constant("common.sh", "POLICY", f"'{self.policy}'")

    def _constant(self, script: str, name: str, value: str) -> None:
        """Have a constant of a script be another."""
        path = self.project / "scripts" / script
        line = re.compile(rf"^readonly {name}=(\(.*\)|\S+)", re.MULTILINE)
        text, found = line.subn(lambda _: f"readonly {name}={value}", path.read_text())
        assert found == 1
        path.write_text(text)

    def has_in_sbin(self, script: str) -> Path:
        self.program("haproxy", script)
        return (self.bin / "haproxy").rename(self.sbin / "haproxy")

    def can_build(self) -> None:
        """Give it a compiler, and a make that compiles the stand-in, unless CPATH reaches it."""
        self.program("gcc", "exit 0")
        built = says("HAProxy version 3.0.11")
        made = f'[ -z "$CPATH" ] && echo "{built}" >"$2/haproxy" && chmod +x "$2/haproxy"'
        self.program("make", made)

    def knows_source(self) -> Path:
        """Make an archive, and have its checksum be the one that is asked for."""
        source = self.home / "haproxy-3.0.11"
        source.mkdir()
        (source / "Makefile").touch()
        archive = self.home / "source.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, source.name)
        self._constant(SCRIPT, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
        return archive


@pytest.fixture
def machine(tmp_path: Path) -> HaproxyMachine:
    return HaproxyMachine(tmp_path)


def last_words(machine: HaproxyMachine, **variables: str) -> str:
    """What the script failed with, which is one line."""
    result = machine.run(SCRIPT, **variables)
    assert result.returncode == 1, result.stdout
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not machine.target.exists()
    return result.stderr


def test_one_on_path_is_used_as_it_is(machine: HaproxyMachine) -> None:
    machine.program("haproxy", GOOD)
    result = machine.run(SCRIPT)
    assert (result.returncode, result.stderr) == (0, "")
    used = f"HAProxy: {machine.bin}/haproxy (version 2.6.12-1+deb12u4) is used as it is.\n"
    assert result.stdout == used
    assert not (machine.project / ".tools").exists()


def test_one_that_is_not_on_path_is_linked(machine: HaproxyMachine) -> None:
    own = machine.has_in_sbin(GOOD)
    for _ in range(2):
        result = machine.run(SCRIPT)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.endswith(" is used as it is, as .tools/bin/haproxy.\n")
        assert machine.target.readlink() == own


def test_one_that_will_do_is_found_behind_one_that_will_not(machine: HaproxyMachine) -> None:
    own = machine.has_in_sbin(GOOD)
    machine.program("haproxy", OLD)
    assert machine.run(SCRIPT).returncode == 0
    assert machine.target.readlink() == own


@ON_LINUX
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (OLD, "is version 2.2.9-2+deb11u6, older than 2.4"),
        (says("HAProxy version 2.8.5", "-OPENSSL +OPENSSL_AWSLC"), "is built without OpenSSL"),
        ("exit 1", "does not say its version"),
    ],
)
def test_one_that_will_not_do_is_named_with_the_reason(
    machine: HaproxyMachine, script: str, reason: str
) -> None:
    machine.program("haproxy", script)
    said = sentence(machine.run(SCRIPT))
    assert f"{machine.bin}/haproxy {reason}" in said
    assert "gcc libc6-dev make libssl-dev curl" in said
    assert "module named haproxy" in said


def test_elsewhere_than_on_linux_it_is_to_be_installed(machine: HaproxyMachine) -> None:
    machine.program("uname", "echo Darwin")
    assert "Linux only" in sentence(machine.run(SCRIPT))


@ON_LINUX
def test_a_source_out_of_reach_ends_in_one_sentence(machine: HaproxyMachine) -> None:
    machine.can_build()
    machine.program("curl", NO_WAY_OUT)
    said = last_words(machine)
    assert "www.haproxy.org" in said
    assert "deb.debian.org" in said
    assert "Could not resolve host" in said
    assert "ORCH_HAPROXY_SOURCE=" in said
    assert "module named haproxy" in said


@ON_LINUX
def test_another_archive_than_the_known_one_is_refused(machine: HaproxyMachine) -> None:
    machine.can_build()
    machine.program("curl", "exit 1")
    other = machine.home / "other.tar.gz"
    other.write_bytes(b"other")
    said = last_words(machine, ORCH_HAPROXY_SOURCE=str(other))
    assert f"{other}: its sha256 is {hashlib.sha256(b'other').hexdigest()}, not " in said
    assert not list(machine.cache.glob("build.*"))


@ON_LINUX
def test_it_is_built_once_from_the_first_source_that_has_it(machine: HaproxyMachine) -> None:
    machine.can_build()
    archive = machine.knows_source()
    get = f'for url; do :; done; case $url in *debian*) cp "{archive}" "$OUT" ;; *) >"$OUT" ;; esac'
    machine.program("curl", f'while [ "$1" != --output ]; do shift; done; OUT=$2; {get}')
    result = machine.run(SCRIPT, CPATH="/of/a/module")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HAProxy: .tools/bin/haproxy (version 3.0.11, built here).\n" in result.stdout
    assert "+OPENSSL" in machine.target.read_text()
    for name in ("curl", "gcc", "make"):
        (machine.bin / name).unlink()
    again = machine.run(SCRIPT)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@ON_LINUX
def test_the_source_may_be_a_file(machine: HaproxyMachine) -> None:
    machine.can_build()
    machine.program("curl", "exit 1")
    archive = machine.knows_source()
    result = machine.run(SCRIPT, ORCH_HAPROXY_SOURCE=str(archive))
    assert result.returncode == 0, result.stdout + result.stderr
    assert machine.target.exists()


@ON_LINUX
def test_a_build_that_fails_shows_the_end_of_its_log(machine: HaproxyMachine) -> None:
    machine.can_build()
    machine.program("curl", "exit 1")
    machine.program("make", "echo it does not compile; exit 2")
    archive = machine.knows_source()
    result = machine.run(SCRIPT, ORCH_HAPROXY_SOURCE=str(archive))
    assert result.returncode == 1
    assert result.stderr.startswith("it does not compile\nHAProxy 3.0.11 could not be built")
    assert not machine.target.exists()


#: An apt-get that brings HAProxy if its service is kept from starting.
APT = """case "$*" in *" install "*)
  [ -x "{policy}" ] && cp "{package}" "{sbin}/haproxy" ;;
esac"""


@ON_LINUX
@AS_ROOT
def test_root_gets_the_package_whose_service_neither_starts_nor_is_enabled(
    machine: HaproxyMachine,
) -> None:
    package = machine.has_in_sbin(GOOD).rename(machine.home / "package")
    machine.program(
        "apt-get", APT.format(policy=machine.policy, package=package, sbin=machine.sbin)
    )
    machine.program("systemctl", 'echo "$*" >"$HOME/systemctl"')
    result = machine.run(SCRIPT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert machine.target.readlink() == machine.sbin / "haproxy"
    assert not machine.policy.exists()
    assert (machine.home / "systemctl").read_text() == "--quiet disable haproxy\n"


@ON_LINUX
@AS_ROOT
def test_a_package_that_is_there_already_is_left_alone(machine: HaproxyMachine) -> None:
    machine.has_in_sbin(OLD)
    machine.program("apt-get", 'echo "$*" >>"$HOME/apt"')
    machine.can_build()
    machine.program("curl", NO_WAY_OUT)
    assert "older than 2.4" in last_words(machine)
    assert not (machine.home / "apt").exists()
