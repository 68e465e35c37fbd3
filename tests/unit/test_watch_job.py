"""lib/watch.sh: the client's job asks Slurm about jobs, seldom, and only while somebody watches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
#: Notes how it was asked, and answers as squeue does, with what a site's wrapper prints around it.
SQUEUE = """#!/bin/sh
echo "$*" >>{asked}
echo 'Welcome to the cluster'
{answer}
"""
ANSWER = "echo '41|PENDING|2026-12-24T08:00:00|N/A||Resources'"
JOB = """
set -uo pipefail
. {lib}/service.sh
. {lib}/scheduler/slurm.sh
. {lib}/watch.sh
service_begin client {output} 600
begin_watch d-1
look() {{
  for look in "${{EACH_LOOK[@]}}"; do "$look"; done
  [ -z "$WATCH_PID" ] || wait "$WATCH_PID"
}}
look
echo '41 42' >"$WATCH_FOLDER/watched"
[ {watched} = 1 ] || rm "$WATCH_FOLDER/watched"
look
look
look
exit 0
"""


def run(folder: Path, *, watched: bool = True, answer: str = ANSWER) -> tuple[list[str], Path]:
    """Run a job's script; how squeue was asked, and the folder of what it has said."""
    (folder / "logs").mkdir()
    (folder / "deployments").mkdir()
    (folder / "bin").mkdir()
    squeue = folder / "bin" / "squeue"
    squeue.write_text(SQUEUE.format(asked=folder / "asked", answer=answer))
    squeue.chmod(0o755)
    script = JOB.format(lib=LIB, output=folder, watched=int(watched))
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = folder / "asked"
    return asked.read_text().splitlines() if asked.exists() else [], folder / "deployments/d-1.live"


def test_all_jobs_are_asked_about_at_once_and_not_with_each_look(tmp_path: Path) -> None:
    asked, folder = run(tmp_path)
    assert len(asked) == 1
    assert "--jobs=41,42 " in asked[0]
    assert (folder / "jobs").read_text() == ("41|PENDING|2026-12-24T08:00:00|N/A||Resources\n")
    assert folder.stat().st_mode & 0o77 == 0


def test_nobody_is_asked_while_nobody_watches(tmp_path: Path) -> None:
    asked, folder = run(tmp_path, watched=False)
    assert asked == []
    assert not (folder / "jobs").exists()


@pytest.mark.parametrize("answer", ["exit 1", "true"])
def test_without_an_answer_nothing_is_written(tmp_path: Path, answer: str) -> None:
    asked, folder = run(tmp_path, answer=answer)
    assert len(asked) == 1
    assert not (folder / "jobs").exists()
