"""Where a job's script makes its folder of sockets on the node."""

from __future__ import annotations

import os
import subprocess
import tempfile
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


def ends_with_a_signal_before(nth: int, folder: Path, ending: str) -> bool:
    """Let a job come to its end, which gets a signal before the nth command from there on; whether
    there were as many."""
    script = f"""
        . {LIBRARY}; JOB_ID=7
        service_begin service {folder}/output 3600
        make_folder
        signal() {{ if [ $((COMMANDS += 1)) = {nth} ]; then kill -TERM $$; fi; }}
        COMMANDS=0
        cleaned() {{ echo "commands $COMMANDS" >{folder}/cleaned; }}
        AT_END+=(cleaned)
        set -T
        trap signal DEBUG
        {ending}
    """
    variables = {"PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp")}
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, env=variables)
    said = f"before command {nth}: {done.stdout}{done.stderr}"
    assert not list((folder / "tmp").iterdir()), said
    assert (folder / "output" / "logs" / "7.rc").exists(), said
    return int((folder / "cleaned").read_text().split()[1]) >= nth


@pytest.mark.parametrize("ending", ["fail 'a reason'", "kill -TERM $$", "leave 0"])
def test_a_signal_while_a_job_ends_does_not_keep_it_from_cleaning_up(ending: str) -> None:
    """It fails, and just then somebody cancels it: at each moment."""
    nth = 0
    going = True
    while going:
        nth += 1
        # Of a short name, so that the job's folder is in there.
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            (Path(folder) / "tmp").mkdir()
            (Path(folder) / "output" / "logs").mkdir(parents=True)
            going = ends_with_a_signal_before(nth, Path(folder), ending)
    assert nth > 5
