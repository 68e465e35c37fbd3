"""Slurm as one of the schedulers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.files import PROJECT
from hpc.scheduler.interface import Exported, Known, Scheduler, Submission
from hpc.scheduler.kind import Kind
from hpc.scheduler.resources import Resources
from hpc.scheduler.slurm import TITLE, directives, environment


class SlurmKind(Kind):
    """Slurm, by its own commands."""

    title = TITLE
    library = PROJECT / "lib" / "scheduler" / "slurm.sh"
    mails = True
    lister = "sinfo"
    further_options = environment.FURTHER
    elsewhere = "another SLURM_CONF, another login node; or its controller has lost its memory"

    def open(self, output: Path, known: Known) -> Scheduler:
        """Raises SchedulerError if there is no sbatch on PATH."""
        from hpc.scheduler.slurm.commands import SlurmScheduler  # not for who only looks for sbatch

        return SlurmScheduler(known.clusters, known.names, known.controller)

    def header(self, job: Submission, asked: Resources, after: Sequence[str]) -> list[str]:
        """The #SBATCH lines."""
        return directives.header(job, asked, after)

    def gave(self, number: str) -> bool:
        """Slurm counts its jobs."""
        return number.isdigit()

    def present(self) -> bool:
        """Whether sbatch is on PATH."""
        return shutil.which("sbatch") is not None

    def options_in(self, lines: Sequence[str]) -> Mapping[str, str]:
        """Those that a variable could ask for as well."""
        values = {option: directives.value_of(option, lines) for option in environment.HONOURED}
        return {option: value for option, value in values.items() if value is not None}

    def exported(self) -> Exported:
        """What the variables of sbatch ask for."""
        return environment.exported()

    def controller(self) -> dict[str, str]:
        """Its configuration, if the user's environment names one."""
        return environment.controller()

    def environment(self) -> dict[str, str]:
        """Without Slurm's variables: inside salloc there is a job id, which is not the script's."""
        return environment.clean_environment()

    def in_a_job(self) -> bool:
        """By what Slurm tells each of them."""
        return "SLURM_JOB_ID" in os.environ

    def seconds_of_this_job(self) -> int | None:
        """As Slurm says since version 22.05."""
        return environment.seconds_of_this_job()
