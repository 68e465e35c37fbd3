"""Tokens that jobs make: whichever needs one first, and none by halves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

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
