"""Slurm, through its own commands."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from hpc.errors import SchedulerError, SchedulerUnavailable
from hpc.jobstates import JobStatus
from hpc.plan import Partition
from hpc.scheduler import Submission
from hpc.timelimit import parse_time

#: Longer than Slurm's own patience with a controller that does not answer: squeue tries for
#: MessageTimeout (10 s by default), some commands twice.
COMMAND_TIMEOUT_S = 60

#: Variables of Slurm that say where the cluster is, rather than what a job should be like.
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER"}


def clean_environment() -> dict[str, str]:
    """Our environment without the variables that change what sbatch and squeue mean.

    Inside salloc or a job there are dozens (SLURM_JOB_NAME, SLURM_MEM_PER_CPU, …), and each is
    an option that a user never gave (sbatch(1), INPUT ENVIRONMENT VARIABLES).
    """
    prefixes = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SALLOC_")
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or not k.startswith(prefixes)}
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


class SlurmScheduler:
    """Submits with sbatch and asks squeue, then sacct where there is accounting."""

    def __init__(self) -> None:
        if shutil.which("sbatch") is None:
            raise SchedulerError(
                "there is no sbatch on PATH, so that nothing can be submitted to Slurm; run this "
                "on a login node (perhaps after 'module load slurm'), or use --site local."
            )
        self._environment = clean_environment()
        self._accounting = shutil.which("sacct") is not None

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # A session of its own: Ctrl-C is for us to handle, not for an sbatch in flight.
        try:
            return subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_TIMEOUT_S,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SchedulerUnavailable(f"{command[0]} did not answer: {error}") from error

    def partitions(self) -> Sequence[Partition]:
        """All partitions that are up, as sinfo lists them."""
        answer = self._run("sinfo", "--noheader", "--format=%P|%a|%l|%c|%G")
        if answer.returncode != 0:
            raise SchedulerError(
                f"sinfo cannot list the partitions: {_last_line(answer.stderr)}; name them in "
                "the recipe (partition, client_partition) or in a site profile."
            )
        return parse_sinfo(answer.stdout)

    def submit(self, job: Submission) -> str:
        """Submit with `sbatch --parsable`; Slurm's own words go into the error."""
        answer = self._run("sbatch", "--parsable", str(job.script))
        job_id = answer.stdout.strip().partition(";")[0]
        if answer.returncode != 0 or not job_id.isdigit():
            raise SchedulerError(
                f"Slurm refused the {job.service} job: {_refusal(answer.stderr)}.",
                answer.stderr.splitlines()[-10:],
            )
        return job_id

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """One squeue for all jobs; one sacct for those that squeue has forgotten."""
        wanted = list(job_ids)
        known = self._squeue(wanted)
        missing = [job_id for job_id in wanted if job_id not in known]
        if missing and self._accounting:
            known.update(self._sacct(missing))
        return known

    def _squeue(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        answer = self._run(
            "squeue", "--noheader", "--states=all", "--jobs=" + ",".join(job_ids),
            "--format=%A|%T|%N|%r",
        )  # fmt: skip
        # squeue fails for a single id that it has forgotten, and not for two (Slurm 22.05).
        if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
            raise SchedulerUnavailable(f"squeue failed: {_last_line(answer.stderr)}")
        return parse_jobs(answer.stdout)

    def _sacct(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        answer = self._run(
            "sacct", "--noheader", "--parsable2", "--allocations", "--jobs=" + ",".join(job_ids),
            "--format=JobIDRaw,State,NodeList",
        )  # fmt: skip
        if answer.returncode != 0:
            self._accounting = "disabled" not in answer.stderr
            return {}
        return parse_jobs(answer.stdout)

    def cancel(self, job_ids: Iterable[str]) -> None:
        """scancel; jobs that are over or unknown are no error to it."""
        wanted = list(job_ids)
        if not wanted:
            return
        answer = self._run("scancel", *wanted)
        # It also complains of jobs that ended between our look and now.
        complaints = [line for line in answer.stderr.splitlines() if "already complet" not in line]
        if answer.returncode != 0 and complaints and "Invalid job id" not in answer.stderr:
            raise SchedulerUnavailable(f"scancel failed: {complaints[-1]}")


def parse_jobs(text: str) -> dict[str, JobStatus]:
    """Jobs from lines `id|state|nodes[|reason]`; lines of another kind are passed over.

    sacct writes "CANCELLED by 1001" for a state, and "None assigned" where there is no node.
    """
    jobs = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 3)
        if len(fields) < 3 or not fields[0].isdigit() or not fields[1]:
            continue
        state = fields[1].split()[0].rstrip("+")
        nodes = "" if fields[2] in ("(null)", "None assigned") else fields[2]
        reason = fields[3] if len(fields) > 3 and fields[3] not in ("None", "(null)") else ""
        jobs[fields[0]] = JobStatus(state, reason, nodes)
    return jobs


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
    line = _last_line(stderr)
    return line.rpartition("submission failed: ")[2] or line


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
