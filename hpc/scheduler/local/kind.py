"""This machine as one of the schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contracts.files import PROJECT
from hpc.scheduler.interface import Known, Scheduler, Submission
from hpc.scheduler.kind import Kind
from hpc.scheduler.local.processes import PREFIX, LocalScheduler
from hpc.scheduler.resources import Resources
from hpc.scheduler.slurm.directives import directive, naming
from hpc.scheduler.slurm.environment import clean_environment


class LocalKind(Kind):
    """Processes of this machine."""

    title = LocalScheduler.title
    library = PROJECT / "lib" / "scheduler" / "local.sh"
    this_machine = True

    def open(self, output: Path, known: Known) -> Scheduler:
        """What is known is in the output directory."""
        return LocalScheduler(output)

    def header(self, job: Submission, asked: Resources, after: Sequence[str]) -> list[str]:
        """Of no meaning here, if the runner is told. Somebody may give such a script to sbatch:
        it has name, logs and time limit there as well."""
        return [directive(pair) for pair in [*naming(job, after), ("--time", asked.time)]]

    def gave(self, number: str) -> bool:
        """Local ids begin in a way of their own."""
        return number.startswith(PREFIX)

    def present(self) -> bool:
        """Always."""
        return True

    def environment(self) -> dict[str, str]:
        """As a job here has it; see LocalScheduler."""
        return clean_environment()
