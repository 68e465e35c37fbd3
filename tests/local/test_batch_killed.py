"""Parts of a batch are killed on this machine; see batch_kills."""

import json
import os
import re
import signal
from pathlib import Path
from typing import ClassVar

import pytest
from batch_kills import ENDS_S, check
from test_batch import lines


class Batch:
    """One batch of so many lines, by a recipe whose engine answers one request at a time, so that
    the same line has the same answer."""

    slots = 1
    kinds: ClassVar = {"orch": (-signal.SIGKILL,), "client": (4,), "ollama": (4,),
                       "all": (-signal.SIGKILL,)}  # fmt: skip

    def __init__(self, place, number):
        self.place, self.number = place, number
        self.given = lines(place.folder / "in.jsonl", number, 4)
        self.recipe = place.recipe(num_parallel=1)

    def path(self, out):
        return self.place.folder / out

    def command(self, out):
        return ["--batch", self.given, "--out", self.path(out), self.recipe, "--site", "local"]

    def run(self, out):
        return self.place.orch(*self.command(out), timeout=ENDS_S * 4)

    def start(self, out):
        return self.place.start(*self.command(out))

    def deployments(self):
        return len([*self.place.output.glob("deployments/*.json")])

    def asked(self):
        logs = (self.place.output / "logs").glob("ollama_*")
        return sum(len(re.findall(r'POST +"/api/chat"', log.read_text())) for log in logs)

    def jobs(self):
        """The files of the jobs that run; one that was killed cannot write that it has ended."""
        files = (self.place.output / "local_jobs").glob("*.json")
        found = [json.loads(file.read_text()) for file in files]
        there = [job for job in found if job["state"] == "RUNNING"]
        return [job for job in there if Path(f"/proc/{job['runner_pid']}").exists()]

    def kill(self, what, command):
        if what in ("orch", "all"):
            os.killpg(command.pid, signal.SIGKILL)
        for job in self.jobs():
            service = job["name"].rpartition(".")[2]
            if what in (service, "all"):
                kill_job(job)


def kill_job(job):
    """A node that fails: all of a job at once, and who would have said so."""
    os.kill(job["runner_pid"], signal.SIGKILL)
    os.killpg(job["pid"], signal.SIGKILL)


def killed(place, number, kills):
    check(Batch(place, number), kills)
    place.assert_nothing_left()


def test_four_kills(place):
    killed(place, 300, 4)


@pytest.mark.long
def test_twenty_kills(place):
    killed(place, 5000, 20)
