"""What the orchestration must know of a scheduler, whether or not it is ever asked anything."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from hpc.scheduler.interface import NOTHING_EXPORTED, Exported, Known, Scheduler, Submission
from hpc.scheduler.resources import Resources


class Kind(ABC):
    """A scheduler as hpc/scheduler/registry.py has it. What has a default here is for schedulers
    that have the like."""

    #: What sentences call it.
    title: ClassVar[str]
    #: What a job script learns of its job from; lib/service.sh says what must be in it.
    library: ClassVar[Path]
    #: Whether jobs run on this very host, taken as it is: no resources are asked for, services
    #: listen on loopback, and a job that is not known here has ended.
    this_machine: ClassVar[bool] = False
    #: Whether it writes mails of a job's begin and end.
    mails: ClassVar[bool] = False
    #: What lists its partitions, for --dry-run.
    lister: ClassVar[str] = "the scheduler"
    #: Options that a variable of the user's or the site's directives may ask for, and no key of
    #: recipe or site.
    further_options: ClassVar[tuple[str, ...]] = ()
    #: Where a job may be known that is not known here.
    elsewhere: ClassVar[str] = "another login node; or the scheduler has lost its memory"

    @abstractmethod
    def open(self, output: Path, known: Known) -> Scheduler:
        """Who submits and is asked. Raises SchedulerError if it is not to be had here."""

    @abstractmethod
    def header(self, job: Submission, asked: Resources, after: Sequence[str]) -> list[str]:
        """The lines at the head of a job's script, each of them a comment to bash.

        `after`: ids of jobs that must have begun before.
        """

    @abstractmethod
    def gave(self, number: str) -> bool:
        """Whether the number of a job, as its files are named by, is one of this scheduler's."""

    def present(self) -> bool:
        """Whether it can be used on this host, so that its profile may be the default one."""
        return False

    def options_in(self, _directives: Sequence[str]) -> Mapping[str, str]:
        """What a site's directives decide: "partition", "account", "qos", `further_options`."""
        return {}

    def exported(self) -> Exported:
        """What the user's environment asks of it. Raises UsageError for a value that cannot be."""
        return NOTHING_EXPORTED

    def controller(self) -> dict[str, str] | None:
        """The settings, for the record, by which a later command asks the same one."""
        return None

    def environment(self) -> dict[str, str]:
        """This environment, as a job script that runs here and now is to see it."""
        return dict(os.environ)

    def in_a_job(self) -> bool:
        """Whether we run in a job of its own: then what is started here is to be reached from other
        hosts."""
        return False

    def seconds_of_this_job(self) -> int | None:
        """The time limit of the job that we run in; None if that is not known."""
        return None
