"""What a job asks for as options of sbatch, and as #SBATCH lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from contracts.jobs.ids import number_of
from hpc.scheduler.interface import Submission
from hpc.scheduler.resources import Resources
from hpc.times import parse_time

#: An option of sbatch and its value; None for a bare one.
Option = tuple[str, str | None]

#: slurmctld sends --signal with a resolution of a minute (sbatch(1)), so in a shorter job it
#: could come right at the start. Such a job is told by the TERM at its limit alone.
SHORTEST_WITH_SIGNAL_S = 600


def header(job: Submission, asked: Resources, after: Sequence[str]) -> list[str]:
    """The #SBATCH lines of a job; `after`: ids of jobs that must have begun before."""
    asks: Iterable[Option] = options(asked)
    if job.cluster:
        # Of several clusters sbatch took one: jobs depend on each other within one alone.
        others = (pair for pair in asks if not means(pair[0], "clusters"))
        asks = [("--clusters", job.cluster), *others]
    return [directive(pair) for pair in [*naming(job, after), *asks]]


def naming(job: Submission, after: Sequence[str]) -> Iterator[Option]:
    """The job's name, its logs, and the jobs that it waits for."""
    yield "--job-name", job.name
    yield "--output", _filename_pattern(job.stdout)
    yield "--error", _filename_pattern(job.stderr)
    if after:
        yield "--dependency", f"after:{':'.join(map(number_of, after))}"


def _filename_pattern(path: str) -> str:
    """`path` as a file name pattern of sbatch, in which %j alone is to mean something."""
    folder, _, name = path.rpartition("/")
    return f"{folder.replace('%', '%%')}/{name}"


def options(asked: Resources) -> Iterator[Option]:
    """Resources as options; the site's own come last."""
    named = [("partition", asked.partition), ("account", asked.account), ("qos", asked.qos)]
    for name, value in (*named, *asked.further):
        if value is not None:
            yield f"--{name}", value
    yield "--time", asked.time
    if parse_time(asked.time) >= SHORTEST_WITH_SIGNAL_S:
        yield "--signal", "B:TERM@60"
    yield "--nodes", str(asked.nodes)
    yield "--ntasks-per-node" if asked.each_node else "--ntasks", "1"
    if asked.cores is not None:
        yield "--cpus-per-task", str(asked.cores)
    if asked.mem_gb is not None:
        yield "--mem", f"{asked.mem_gb}G"
    if asked.gpus and asked.gpu_request:
        yield split_option(asked.gpu_request.replace("{n}", str(asked.gpus)))
    if asked.mail:
        yield "--mail-type", "BEGIN,END,FAIL"
        yield "--mail-user", asked.mail
    yield from map(split_option, asked.directives)


def directive(pair: Option) -> str:
    """One #SBATCH line. sbatch takes quotes there as a shell would, and nothing else of it.

    Raises ValueError for a value that does not stay on its line.
    """
    option, value = pair
    if not f"{option}{value or ''}".isprintable():
        raise ValueError(f"{option}={value!r} does not fit on a line")
    if value is None:
        return f"#SBATCH {option}"
    if not re.fullmatch(r"[\w@%+=:,./{}\[\]-]*", value, re.ASCII):
        value = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"#SBATCH {option}={value}"


# --- options as a site profile writes them -------------------------------------------------------


def split_option(text: str) -> Option:
    """An option and its value, which sbatch takes after a blank as well; None for a bare one."""
    name, *value = re.split(r"=| +", text.strip(), maxsplit=1)
    return name, value[0] if value else None


def means(name: str, option: str) -> bool:
    """Whether sbatch takes `name` for `--option`; it has --cluster and the like for --clusters."""
    shortest = "--clus" if option == "clusters" else f"--{option}"
    return f"--{option}".startswith(name) and name.startswith(shortest)


def value_of(option: str, directives: Iterable[str]) -> str | None:
    """The value of an option, the last one if there are several; None if it is not named."""
    found = [value for name, value in map(split_option, directives) if means(name, option)]
    return (found[-1] or "") if found else None
