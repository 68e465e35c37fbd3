"""Where a job's script makes its folder of sockets on the node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "lib" / "service.sh"


def place(temporary: str | None) -> str:
    """Where folders are made if TMPDIR is that."""
    variables = {"PATH": os.environ["PATH"]} | ({"TMPDIR": temporary} if temporary else {})
    done = subprocess.run(
        ["bash", "-uc", f". {LIBRARY}; place_of_folders"],
        capture_output=True, text=True, check=True, env=variables,
    )  # fmt: skip
    return done.stdout.removesuffix("\n")


def test_it_is_in_the_jobs_own_folder_of_temporary_files() -> None:
    assert place(None) == "/tmp"
    for usual in ("/scratch/some body/job.123456_[7]", "/tmp/größe", "/" + 63 * "a"):
        assert place(usual) == usual


@pytest.mark.parametrize("odd", ["/" + 64 * "a", "/" + 32 * "ö", "/a,b", "/a(1)", "/it's", "/a:b"])
def test_where_sockets_could_have_no_name_it_is_in_tmp(odd: str) -> None:
    """HAProxy takes names of 97 bytes, and reads none of these as a part of one."""
    assert place(odd) == "/tmp"
