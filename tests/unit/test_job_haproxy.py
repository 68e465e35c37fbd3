"""What jobs do before HAProxy is in front of what they serve: that it is there, and the tokens."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"


def make(token: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    script = f"{before} . {LIB}/service.sh; . {LIB}/haproxy.sh; SERVICE=test JOB_ID=1; token_file "
    return subprocess.run(
        ["bash", "-uc", f'{script} "$1"', "-", token], capture_output=True, text=True
    )


def test_the_first_one_is_kept(tmp_path: Path) -> None:
    token = tmp_path / "the deployment" / "internal.token"
    assert make(token).returncode == 0
    word = token.read_text()
    assert re.fullmatch(r"[A-Za-z0-9]{43}\n", word) and token.stat().st_mode & 0o777 == 0o600
    assert make(token).returncode == 0
    assert token.read_text() == word and list(token.parent.iterdir()) == [token]


def test_where_there_was_no_room_there_is_one_once_there_is_room(tmp_path: Path) -> None:
    token = tmp_path / "internal.token"
    full = make(token, "trap '' XFSZ; ulimit -f 0;")  # no byte can be written
    assert full.returncode == 1 and f"cannot write {token}; make room" in full.stderr
    assert list(tmp_path.iterdir()) == []
    assert make(token).returncode == 0 and len(token.read_text()) == 44


def test_a_network_is_made_also_where_the_users_path_has_no_ip(tmp_path: Path) -> None:
    """On Red Hat's systems it is in /usr/sbin alone, and a job's PATH may lack that."""
    unshare = tmp_path / "unshare"
    unshare.write_text(f'#!/bin/sh\necho "$PATH" >{tmp_path}/path\necho up\n')
    unshare.chmod(0o755)
    script = (
        f". {LIB}/service.sh; . {LIB}/haproxy.sh; . {LIB}/seal.sh; PROXY_FOLDER={tmp_path}; "
        'hold_network && echo "$PATH"'
    )
    done = subprocess.run(
        ["bash", "-uc", script], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout == f"{tmp_path}:/usr/bin:/bin\n", "it is the network's alone"
    assert "/usr/sbin" in (tmp_path / "path").read_text().strip().split(":")


def require(folder: Path, says: str) -> str:
    """What a job fails with where haproxy says that of itself."""
    program = folder / "haproxy"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    script = f". {LIB}/service.sh; . {LIB}/haproxy.sh; SERVICE=test PROXY_IN=(env); require_haproxy"
    variables = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, env=variables)
    assert done.returncode == bool(done.stderr)
    return done.stderr


@pytest.mark.parametrize("version", ["HA-Proxy version 1.8.27-493ce0b", "HAProxy version 2.3.21"])
def test_a_haproxy_that_is_too_old_is_named_with_a_remedy(tmp_path: Path, version: str) -> None:
    """As the nodes' own system has it, which need not be the login node's."""
    said = require(tmp_path, f"{version} 2020/11/06 - https://haproxy.org/")
    assert f"is version {version.split()[-1]}, older than 2.4; run scripts/get_haproxy.sh" in said


@pytest.mark.parametrize("says", ["HAProxy version 2.4.0", "HAProxy version 3.0.11", "a build"])
def test_others_are_taken(tmp_path: Path, says: str) -> None:
    assert require(tmp_path, says) == ""


@pytest.mark.parametrize("before", [None, "", "of a key that was removed"])
def test_an_authoritys_certificate_is_that_of_its_key(tmp_path: Path, before: str | None) -> None:
    folder = tmp_path / "deployments"
    folder.mkdir()
    own = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    (folder / "authority.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{own}")
    if before is not None:
        (folder / "authority.pem").write_text(before)
    script = (
        f". {LIB}/service.sh; . {LIB}/haproxy.sh; . {LIB}/tls.sh; SERVICE=test JOB_ID=1 "
        f"OUTPUT={tmp_path}; make_authority"
    )
    subprocess.run(["bash", "-uc", script], check=True)
    assert (folder / "authority.pem").read_text() == own
