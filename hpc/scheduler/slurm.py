"""Slurm, through its own commands."""

from __future__ import annotations

import math
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from hpc import signals
from hpc.errors import SchedulerError, SchedulerUnavailable
from hpc.jobstates import JobStatus
from hpc.plan import Partition
from hpc.scheduler import Submission
from hpc.scheduler.environment import clean_environment
from hpc.timelimit import parse_time

#: Longer than Slurm's own patience with a controller that does not answer: squeue tries for
#: MessageTimeout (10 s by default), some commands twice.
COMMAND_TIMEOUT_S = 60
#: A controller that is started anew is back within a minute; each try may take 10 s by itself.
SUBMIT_TRIES = 3
SUBMIT_PAUSE_S = 15.0
#: Words of Slurm's commands when the controller did not answer, as opposed to a refusal.
_NO_ANSWER = re.compile(
    r"Unable to contact|connect failure|Socket timed out|Zero Bytes were transmitted|"
    r"Connection (refused|reset|timed out)|in standby mode|Communication connection failure"
)
#: Of each job: id, state, nodes, begin (expected, while it waits), time left, name, reason.
_SQUEUE_FORMAT = "--format=%A|%T|%N|%S|%L|%j|%r"


class SlurmScheduler:
    """Submits with sbatch and asks squeue, then sacct where there is accounting.

    One command at a time, whatever the number of threads.
    """

    def __init__(self) -> None:
        if shutil.which("sbatch") is None:
            raise SchedulerError(
                "there is no sbatch on PATH, so that nothing can be submitted to Slurm; run this "
                "on a login node (perhaps after 'module load slurm'), or use --site local."
            )
        self._environment = clean_environment()
        self._accounting = shutil.which("sacct") is not None
        self._turn = threading.Lock()
        self._squeue_process: subprocess.Popen[str] | None = None

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        with self._turn:
            try:
                # A session of its own: Ctrl-C is for us to handle, not for an sbatch in flight.
                process = subprocess.Popen(
                    command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise SchedulerUnavailable(f"{command[0]} cannot be run: {error}") from error
            self._squeue_process = process if command[0] == "squeue" else None
            return _answer(process, command)

    def partitions(self) -> Sequence[Partition]:
        """All partitions that are up, as sinfo lists them."""
        answer = self._run("sinfo", "--noheader", "--format=%P|%a|%l|%c|%G")
        if answer.returncode != 0:
            raise SchedulerError(
                f"sinfo cannot list the partitions: {_last_line(answer.stderr)}; name them in "
                "the recipe (partition, client_partition) or in a site profile."
            )
        return parse_sinfo(answer.stdout)

    # --- submission ---

    def submit(self, job: Submission) -> str:
        """Submit with `sbatch --parsable`; Slurm's own words go into the error.

        A controller that does not answer is asked again. It may have taken the job all the same,
        so that each new try begins with a look for the job's name, which is used only once.
        """
        problem = ""
        for attempt in range(SUBMIT_TRIES):
            begin = time.monotonic()
            try:
                found = self._accepted(job.name) if attempt else None
                return found or self._sbatch(job)
            except SchedulerUnavailable as error:
                problem = error.message
            # Ctrl-C waits for the end of the submission, but not for another try.
            if signals.pending() or attempt == SUBMIT_TRIES - 1:
                break
            time.sleep(max(0.0, begin + SUBMIT_PAUSE_S - time.monotonic()))
        raise SchedulerUnavailable(
            f"the {job.service} job could not be submitted (tries: {attempt + 1}), since Slurm's "
            f"controller does not answer: {problem}; try again once 'scontrol ping' says UP."
        )

    def _accepted(self, name: str) -> str | None:
        """The id of the job of that name, where there is one that is not over."""
        return next((i for i, status in self.mine(name).items() if not status.over), None)

    def _sbatch(self, job: Submission) -> str:
        answer = self._run("sbatch", "--parsable", str(job.script))
        # The last line: where sbatch is a wrapper, it may have something to say first.
        job_id = answer.stdout.strip().rpartition("\n")[2].partition(";")[0]
        if answer.returncode == 0 and job_id.isdigit():
            return job_id
        if answer.returncode == 0:  # it has taken the job, and did not say under which id
            raise SchedulerUnavailable(f"sbatch's answer is no job id: {answer.stdout[:80]!r}")
        if _NO_ANSWER.search(answer.stderr):
            raise SchedulerUnavailable(f"sbatch failed: {_refusal(answer.stderr)}")
        words = _refusal(answer.stderr)
        raise SchedulerError(
            f"Slurm refused the {job.service} job: {words}{self._remedy(words)}.",
            answer.stderr.splitlines()[-10:],
        )

    def _remedy(self, words: str) -> str:
        if "Invalid partition" in words:
            try:
                names = ", ".join(partition.name for partition in self.partitions())
            except SchedulerError:
                return "; see sinfo"
            return f"; there are: {names}"
        if re.search(r"Invalid (account|qos)|accounting/QOS policy", words):
            return "; 'sacctmgr show assoc user=$USER' lists your accounts, QOS and limits"
        return ""

    # --- looking ---

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """One squeue for all jobs; one sacct for those that squeue has forgotten."""
        wanted = list(job_ids)
        if not wanted:
            return {}
        known = self._squeue(wanted, "--jobs=" + ",".join(wanted))
        missing = [job_id for job_id in wanted if job_id not in known]
        if missing and self._accounting:
            known.update(self._sacct(missing))
        return known

    def mine(self, name: str = "") -> dict[str, JobStatus]:
        """This user's jobs (of that name) which the controller has not forgotten, by id."""
        named = [f"--name={name}"] if name else []
        return self._squeue([], f"--user={os.getuid()}", *named)

    def _squeue(self, wanted: Sequence[str], *which: str) -> dict[str, JobStatus]:
        answer = self._run("squeue", "--noheader", "--states=all", *which, _SQUEUE_FORMAT)
        # squeue fails for a single id that it has forgotten, and not for two (Slurm 22.05).
        if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
            raise SchedulerUnavailable(f"squeue failed: {_last_line(answer.stderr)}")
        jobs, other = parse_squeue(answer.stdout)
        if other and not (wanted and set(wanted) <= set(jobs)):
            # Not even "no such job" is to be read out of such an answer.
            raise SchedulerUnavailable(f"squeue's answer is no list of jobs: {other[0][:80]!r}")
        return jobs

    def _sacct(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        answer = self._run(
            "sacct", "--noheader", "--parsable2", "--allocations", "--jobs=" + ",".join(job_ids),
            "--format=JobIDRaw,State,NodeList",
        )  # fmt: skip
        if answer.returncode != 0:
            self._accounting = "disabled" not in answer.stderr
            return {}
        return parse_sacct(answer.stdout)

    def cancelled_by(self, job_id: str) -> str:
        """The user who cancelled the job, "" where that is not known."""
        found = self._sacct([job_id]).get(job_id) if self._accounting else None
        return found.reason.removeprefix("by ") if found else ""

    def cancel(self, job_ids: Iterable[str]) -> None:
        """scancel; jobs that are over or unknown are no error to it."""
        wanted = list(job_ids)
        if not wanted:
            return
        self.close()  # it may be long in coming
        answer = self._run("scancel", *wanted)
        # It also complains of jobs that ended between our look and now.
        complaints = [line for line in answer.stderr.splitlines() if "already complet" not in line]
        if answer.returncode != 0 and complaints and "Invalid job id" not in answer.stderr:
            raise SchedulerUnavailable(f"scancel failed: {complaints[-1]}")

    def close(self) -> None:
        """End the squeue that is under way."""
        asking = self._squeue_process
        if asking is not None:
            _kill(asking)


def _answer(
    process: subprocess.Popen[str], command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise SchedulerUnavailable(
            f"{command[0]} did not answer within {COMMAND_TIMEOUT_S} s"
        ) from error
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _kill(process: subprocess.Popen[str]) -> None:
    """End it with its children: where squeue is a wrapper, they hold its pipes."""
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def parse_squeue(text: str) -> tuple[dict[str, JobStatus], list[str]]:
    """Jobs from squeue's lines (in `_SQUEUE_FORMAT`), and the lines that are of another kind."""
    jobs, other = {}, []
    for line in filter(None, map(str.strip, text.splitlines())):
        fields = line.split("|", 6)
        if len(fields) < 7 or not fields[0].isdigit() or not fields[1].isidentifier():
            other.append(line)
            continue
        job_id, state, nodes, start, left, name, reason = fields
        jobs[job_id] = JobStatus(
            state,
            "" if reason in ("None", "(null)") else reason,
            "" if nodes == "(null)" else nodes,
            _moment(start),
            _whole_seconds(left),
            name,
        )
    return jobs, other


def parse_sacct(text: str) -> dict[str, JobStatus]:
    """Jobs from sacct's lines `id|state|nodes`; lines of another kind are passed over.

    "CANCELLED by 1001" becomes the state CANCELLED for the reason "by " and the user's name.
    """
    jobs = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3 and fields[0].isdigit() and fields[1]:
            state, _, by = fields[1].partition(" by ")
            nodes = "" if fields[2] == "None assigned" else fields[2]
            reason = f"by {_user_name(by)}" if by else ""
            jobs[fields[0]] = JobStatus(state.split()[0].rstrip("+"), reason, nodes)
    return jobs


def _user_name(uid: str) -> str:
    try:
        return f"user {pwd.getpwuid(int(uid)).pw_name}"
    except (KeyError, ValueError, OverflowError):
        return f"uid {uid}"


def _moment(text: str) -> float | None:
    """Seconds since the epoch, of a local time as squeue prints it; None for "N/A"."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _whole_seconds(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:  # "UNLIMITED", "NOT_SET", "INVALID", "0:00"
        return None


def parse_sinfo(text: str) -> list[Partition]:
    """Partitions from sinfo's lines `name|up or down|time limit|cpus|gres`, in its order.

    A partition has a line for each kind of node in it; one that is not up is left out.
    """
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 4)
        if len(fields) == 5 and fields[1] == "up":
            part = _partition(*fields)
            found[part.name] = _joined(found[part.name], part) if part.name in found else part
    return list(found.values())


def _partition(name: str, _up: str, limit: str, cpus: str, gres: str) -> Partition:
    has_gpus = any(entry.startswith("gpu") for entry in gres.split(","))
    digits = cpus.rstrip("+")
    return Partition(
        name=name.rstrip("*"),
        default=name.endswith("*"),
        has_gpus=has_gpus,
        has_nodes_without_gpus=not has_gpus,
        cpus_per_node=int(digits) if digits.isdigit() else None,
        max_seconds=_seconds(limit),
    )


def _joined(a: Partition, b: Partition) -> Partition:
    cpus = [value for value in (a.cpus_per_node, b.cpus_per_node) if value is not None]
    return Partition(
        name=a.name,
        default=a.default,
        has_gpus=a.has_gpus or b.has_gpus,
        has_nodes_without_gpus=a.has_nodes_without_gpus or b.has_nodes_without_gpus,
        cpus_per_node=min(cpus) if cpus else None,
        max_seconds=a.max_seconds,
    )


def _seconds(limit: str) -> float:
    try:
        return parse_time(limit)
    except ValueError:  # "infinite", "n/a", or more than a year
        return math.inf


def _refusal(stderr: str) -> str:
    said = re.search(r"submission failed: (.+)", stderr)
    return said.group(1).strip().rstrip(".") if said else _last_line(stderr)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
