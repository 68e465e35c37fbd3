"""Parts of a batch are killed at moments that a seed chooses; the same command does what is
missing, and nothing that was recorded is asked again."""

import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
from place import wait_for
from test_batch import lines

#: A kill by kill -9 is noticed within seconds; a busy machine takes long to deploy.
ENDS_S = 300.0


class Batch:
    """One batch of so many lines, by a recipe whose engine answers one request at a time, so that
    the same line has the same answer."""

    def __init__(self, place, number):
        self.place, self.number = place, number
        self.given = lines(place.folder / "in.jsonl", number, 4)
        self.recipe = place.recipe(num_parallel=1)

    def command(self, out):
        return ["--batch", self.given, "--out", self.place.folder / out, self.recipe,
                "--site", "local"]  # fmt: skip

    def answers(self, out):
        """What was answered, by custom_id; each once."""
        path = self.place.folder / out
        found = [json.loads(line) for line in path.read_text().splitlines()]
        texts = {
            one["custom_id"]: one["response"]["body"]["choices"][0]["message"] for one in found
        }
        assert len(texts) == len(found), "a line was answered twice"
        return texts

    def count(self, out):
        """How many answers are there now; the last one may be half written."""
        path = self.place.folder / out
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def asked(self):
        """How many requests the engines of all deployments have had, as their logs say."""
        logs = (self.place.output / "logs").glob("ollama_*")
        return sum(len(re.findall(r'POST +"/api/chat"', log.read_text())) for log in logs)

    def jobs(self):
        """The files of the jobs that run; one that was killed cannot write that it has ended."""
        files = (self.place.output / "local_jobs").glob("*.json")
        found = [json.loads(file.read_text()) for file in files]
        there = [job for job in found if job["state"] == "RUNNING"]
        return [job for job in there if Path(f"/proc/{job['runner_pid']}").exists()]


def kill_job(job):
    """A node that fails: all of a job at once, and who would have said so."""
    os.kill(job["runner_pid"], signal.SIGKILL)
    os.killpg(job["pid"], signal.SIGKILL)


def kill(what, batch, orch):
    if what in ("orch", "all"):
        os.killpg(orch.pid, signal.SIGKILL)
    for job in batch.jobs():
        service = job["name"].rpartition(".")[2]
        if what in (service, "all"):
            kill_job(job)


def disturbed(batch, out, kills, rng):
    """Work it off with so many kills; how the commands ended."""
    kinds = [("orch", "client", "ollama", "all")[n % 4] for n in range(kills)]
    rng.shuffle(kinds)
    moments = sorted(rng.sample(range(batch.number // 10, batch.number * 7 // 10), kills))
    for what, moment in zip(kinds, moments, strict=True):
        at_work = max(moment, batch.count(out) + 1)  # an answer of what this command begins
        orch = batch.place.start(*batch.command(out))
        wait_for(lambda m=at_work: batch.count(out) >= m, ENDS_S, batch.place.log)
        kill(what, batch, orch)
        code = orch.wait(ENDS_S)
        if code == 0:  # it was killed before this command had taken it up, which then made another
            break
        assert code == (-signal.SIGKILL if what in ("orch", "all") else 4), batch.place.log()
    return batch.place.orch(*batch.command(out), timeout=ENDS_S * 4)


def check(place, number, kills):
    batch = Batch(place, number)
    whole = batch.place.orch(*batch.command("whole"), timeout=ENDS_S * 4)
    assert whole.returncode == 0, whole.stderr
    assert batch.asked() == number
    last = disturbed(batch, "answers", kills, random.Random(1))
    assert last.returncode == 0, last.stdout + last.stderr
    assert batch.answers("answers") == batch.answers("whole")
    # Of each kill one request was under way, and one may have been answered and not yet written.
    assert batch.asked() - number <= number + 2 * kills
    place.assert_nothing_left()


def test_four_kills(place):
    check(place, 300, 4)


@pytest.mark.long
def test_twenty_kills(place):
    check(place, 5000, 20)
