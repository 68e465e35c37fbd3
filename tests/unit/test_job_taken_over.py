"""A job that runs on where the scheduler gave its node up, while it was begun again elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

from contracts.files import PROJECT

#: What is left of a job's script on a host once its engine serves there.
PUBLISHES = """
. lib/service.sh
JOB_ID=7 HOST=$2 SERVICE=ollama OUTPUT=$1
trap 'finish $?' EXIT
publish_address "$2:1"
trap - EXIT
"""


def publish(output: Path, host: str) -> str:
    """What it prints."""
    words = ["bash", "-c", PUBLISHES, "bash", str(output), host]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, timeout=60, text=True)
    return done.stdout


def test_it_does_not_publish_its_address_over_that_of_the_one_that_runs(tmp_path: Path) -> None:
    """Requests would go there, and nowhere once its node is there again, and ends it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "7.started").write_text("here\n")
    assert "published here:1" in publish(tmp_path, "here")
    assert "runs elsewhere" in publish(tmp_path, "lost")
    assert (tmp_path / "ollama_ip_7.txt").read_text() == "here:1\n"
    assert not (tmp_path / "logs" / "7.rc").exists()
