"""Slurm, through its own commands."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence

from contracts.errors import SchedulerError, SchedulerUnavailable
from contracts.jobs.ids import cluster_of, number_of
from contracts.jobs.states import JobStatus, Reason
from hpc import signals
from hpc.scheduler.interface import Partition, Submission
from hpc.scheduler.slurm import TITLE
from hpc.scheduler.slurm.answers import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    parse_sacct,
    parse_sbatch,
    parse_sinfo,
    parse_squeue,
)
from hpc.scheduler.slurm.calls import Commands
from hpc.scheduler.slurm.environment import clean_environment

#: A controller that is started anew is back within a minute; each try may take 10 s by itself.
SUBMIT_TRIES = 3
SUBMIT_PAUSE_S = 15.0
#: Words of Slurm's commands when the controller did not answer, as opposed to a refusal.
_NO_ANSWER = re.compile(
    r"Unable to contact|connect failure|Socket timed out|Zero Bytes were transmitted|"
    r"Connection (refused|reset|timed out)|in standby mode|Communication connection failure"
)


class _Unreadable(SchedulerUnavailable):
    """squeue answered, with something that is no list of jobs: a wrapper's own table, perhaps."""


class SlurmScheduler:
    """Submits with sbatch and asks squeue, then sacct if there is accounting.

    `clusters`: where jobs go that have no
    id yet ("a,b", "all"; "": the one that is asked by default). `names`: of jobs submitted earlier,
    by id. `controller`: the settings they were submitted with; None: those of this environment.
    """

    title = TITLE

    def __init__(
        self,
        clusters: str = "",
        names: Mapping[str, str] | None = None,
        controller: Mapping[str, str] | None = None,
    ) -> None:
        if shutil.which("sbatch") is None:
            raise SchedulerError(
                "there is no sbatch on PATH, so that nothing can be submitted to Slurm; run this "
                "on a login node (perhaps after 'module load slurm'), or use --site local."
            )
        self._commands = Commands(clean_environment(controller))
        self._clusters = clusters
        self._names = dict(names or {})
        #: Submitted by this very object: what has their ids now are they.
        self._taken: set[str] = set()
        self._accounting = shutil.which("sacct") is not None

    def partitions(self) -> Sequence[Partition]:
        """All partitions that are up, as sinfo lists them."""
        asked = _of_cluster(self._clusters)
        answer = self._commands.run("sinfo", *asked, "--noheader", "--format=%P|%a|%l|%c|%G")
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
                job_id = (self._accepted(job.name) if attempt else None) or self._sbatch(job)
                self._taken.add(job_id)
                self._names[job_id] = job.name
                return job_id
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
        """The id of the job of that name, if there is one that is not over."""
        return next((i for i, status in self.mine(name).items() if not status.over), None)

    def _sbatch(self, job: Submission) -> str:
        answer = self._commands.run("sbatch", "--parsable", str(job.script))
        job_id = parse_sbatch(answer.stdout)
        if answer.returncode == 0 and job_id:
            return job_id
        if answer.returncode == 0:  # it has taken the job, and did not say under which id
            raise SchedulerUnavailable(f"sbatch's answer is no job id: {answer.stdout[:80]!r}")
        if _NO_ANSWER.search(answer.stderr):
            raise SchedulerUnavailable(f"sbatch failed: {_refusal(answer.stderr)}")
        words = _refusal(answer.stderr)
        raise SchedulerError(
            f"Slurm refused the {job.service} job: {words}{self._remedy(words, job.cluster)}.",
            answer.stderr.splitlines()[-10:],
        )

    def _remedy(self, words: str, cluster: str) -> str:
        if "Invalid partition" in words:
            where = f" (it must run on the cluster {cluster}, as the others do)" if cluster else ""
            try:
                names = ", ".join(partition.name for partition in self.partitions())
            except SchedulerError:
                return f"{where}; see sinfo"
            return f"{where}; there are: {names}"
        if re.search(r"Invalid (account|qos)|accounting/QOS policy", words):
            return "; 'sacctmgr show assoc user=$USER' lists your accounts, QOS and limits"
        return ""

    # --- looking ---

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """One squeue for all jobs of a cluster; one sacct for those that squeue has forgotten.

        A job that has another name than ours is not ours: its controller began its ids anew.
        """
        found: dict[str, JobStatus] = {}
        for cluster, wanted in _by_cluster(job_ids).items():
            found.update(self._statuses(cluster, wanted))
        return {job_id: status for job_id, status in found.items() if self._is_ours(job_id, status)}

    def _statuses(self, cluster: str, wanted: Sequence[str]) -> dict[str, JobStatus]:
        unreadable, known = None, {}
        try:
            known = self._squeue(cluster, wanted, "--jobs=" + _numbers(wanted))
        except _Unreadable as error:
            unreadable = error  # accounting knows of jobs in the queue, too
        missing = [job_id for job_id in wanted if job_id not in known]
        if missing and self._accounting:
            known.update(self._sacct(cluster, missing))
        if unreadable and not set(wanted) <= known.keys():
            raise unreadable
        return known

    def _is_ours(self, job_id: str, status: JobStatus) -> bool:
        ours = self._names.get(job_id)
        return not (ours and status.name) or status.name == ours

    def mine(self, name: str = "") -> dict[str, JobStatus]:
        """This user's jobs (of that name) which the controllers have not forgotten, by id."""
        which = [f"--user={os.getuid()}", *([f"--name={name}"] if name else [])]
        found: dict[str, JobStatus] = {}
        for cluster in self._clusters.split(","):
            found.update(self._squeue(cluster, [], *which))
        return found

    def _squeue(self, cluster: str, wanted: Sequence[str], *which: str) -> dict[str, JobStatus]:
        # In a federation a job may run on another cluster than the one that took it.
        where = _of_cluster(cluster) or ["--federation"]
        answer = self._commands.run("squeue", *where, "--states=all", *which, SQUEUE_FORMAT)
        forgotten = "Invalid job id" in answer.stderr
        # squeue fails for a single id that it has forgotten, and not for two (Slurm 22.05).
        if answer.returncode != 0 and not forgotten:
            raise SchedulerUnavailable(f"squeue failed: {_last_line(answer.stderr)}")
        listing = parse_squeue(answer.stdout, cluster)
        if not forgotten and not listing.is_an_answer_about(wanted):
            # Not even "no such job" is to be read out of such an answer.
            raise _Unreadable(f"squeue's answer is no list of jobs: {listing.other[0][:80]!r}")
        return listing.jobs

    def _sacct(self, cluster: str, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        where = _of_cluster(cluster) or ["--federation"]
        answer = self._commands.run(
            "sacct", *where, "--noheader", "--parsable2", "--allocations",
            "--jobs=" + _numbers(job_ids), SACCT_FORMAT,
        )  # fmt: skip
        if answer.returncode != 0:
            self._accounting = "disabled" not in answer.stderr
            return {}
        return parse_sacct(answer.stdout, cluster)

    def explain(self, reason: str, job_id: str) -> Reason:
        """What one of Slurm's reasons means (squeue(1), JOB REASON CODES)."""
        from contracts.jobs.reasons import explain  # once somebody waits

        return explain(reason, job_id)

    def cancelled_by(self, job_id: str) -> str:
        """The user who cancelled the job, "" if that is not known."""
        if not self._accounting:
            return ""
        found = self._sacct(cluster_of(job_id), [job_id]).get(job_id)
        return found.reason.removeprefix("by ") if found else ""

    def cancel(self, job_ids: Iterable[str]) -> None:
        """scancel, for each cluster; jobs that are over or unknown are no error to it.

        A job that somebody else submitted may have its id by now, if the controller began them
        anew: one of an earlier run is looked at first.
        """
        problem = None
        with self._commands.before_others():  # their squeue may be long in coming
            for cluster, wanted in _by_cluster(job_ids).items():
                try:
                    self._cancel(cluster, wanted)
                except SchedulerUnavailable as error:
                    problem = error  # other clusters may answer
        if problem:
            raise problem

    def _cancel(self, cluster: str, wanted: Sequence[str]) -> None:
        try:
            ours = self._still_ours(cluster, wanted)
        except SchedulerUnavailable:
            for job_id in wanted:  # scancel can look at the name itself, of one job in a call
                name = self._names.get(job_id)
                self._scancel(cluster, [job_id], *([f"--name={name}"] if name else []))
        else:
            self._scancel(cluster, ours)

    def _still_ours(self, cluster: str, wanted: Sequence[str]) -> list[str]:
        earlier = [j for j in wanted if j in self._names and j not in self._taken]
        if not earlier:
            return list(wanted)
        known = self._statuses(cluster, earlier)
        return [j for j in wanted if j not in known or self._is_ours(j, known[j])]

    def _scancel(self, cluster: str, job_ids: Sequence[str], *which: str) -> None:
        if not job_ids:
            return
        answer = self._commands.run(
            "scancel", *_of_cluster(cluster), *which, *map(number_of, job_ids)
        )
        # It also complains of jobs that ended between our look and now.
        complaints = [line for line in answer.stderr.splitlines() if "already complet" not in line]
        if answer.returncode != 0 and complaints and "Invalid job id" not in answer.stderr:
            raise SchedulerUnavailable(f"scancel failed: {complaints[-1]}")

    def close(self) -> None:
        """End the squeue that is under way."""
        self._commands.end_squeue()


def _by_cluster(job_ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for job_id in job_ids:
        found.setdefault(cluster_of(job_id), []).append(job_id)
    return found


def _of_cluster(cluster: str) -> list[str]:
    return [f"--clusters={cluster}"] if cluster else []


def _numbers(job_ids: Iterable[str]) -> str:
    return ",".join(map(number_of, job_ids))


def _refusal(stderr: str) -> str:
    said = re.search(r"submission failed: (.+)", stderr)
    return said.group(1).strip().rstrip(".") if said else _last_line(stderr)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
