"""The jobs of a deployment that follow one another, as they have written it down themselves
(lib/chain.sh): the newest of them are the deployment's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from batch.files import Files
from batch.state import read_state
from contracts.files import write_atomically
from contracts.job_files import (
    ExitStatus,
    chain_folder,
    chain_said,
    internal_token_file,
    read_end,
    url_of,
)
from hpc.deployments.records import Record
from hpc.endpoints import BadAddressFile, OutputDir
from hpc.scheduler.states import JobStatus

if TYPE_CHECKING:
    from hpc.deployments.facts import BatchFacts, Endpoints

#: The states of a deployment after its batch has ended with these exit codes; after others it has
#: failed. With 4 no line is missing, but some have failed in the end.
_STATES = {0: "ended", 4: "ended", 130: "stopped"}


def state_after(end: ExitStatus) -> str:
    """The state of a deployment whose batch has ended so."""
    return _STATES.get(end.exit_code, "failed")


def _jobs_in(words: Mapping[str, str]) -> dict[str, str]:
    return {what: value for what, value in words.items() if not what.startswith(".")}


class Chain:
    """The files of a deployment whose jobs follow one another."""

    def __init__(self, output: Path, deployment: str) -> None:
        self.folder = chain_folder(output, deployment)

    @property
    def successors(self) -> list[dict[str, str]]:
        """The ids of the jobs by service, of each time that they were submitted anew; of the last
        time perhaps not all yet."""
        said = sorted(chain_said(self.folder).items())
        return [jobs for number, words in said if number > 1 and (jobs := _jobs_in(words))]

    @property
    def end(self) -> ExitStatus | None:
        """How the batch has ended, and the deployment with it; None as long as it goes on."""
        return read_end(self.folder / "end")

    def ask_to_stop(self) -> None:
        """Have no further job submitted. Raises FileError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "stop", "")


def works(record: Record, output: OutputDir) -> bool:
    """Whether the job that works a batch off has not ended, as `refresh` has seen it."""
    state = record.job_states.get("client", "")
    return Chain(output.path, record.id).end is None and not (
        state.startswith("ended: ") or JobStatus(state).over
    )


def take_up(record: Record, output: OutputDir) -> bool:
    """Make the newest jobs those of the record, and their addresses its endpoints. True if others
    have come."""
    if record.batch is None:
        return False
    chain = Chain(output.path, record.id).successors
    jobs = {**record.jobs, **chain[-1]} if chain else record.jobs
    changed = jobs != record.jobs
    if changed:
        earlier = record.batch.get("jobs") or [record.jobs]
        batch: BatchFacts = {**record.batch, "job": len(chain) + 1, "jobs": [earlier[0], *chain]}
        record.succeed(jobs, batch)
    elif chain and record.state == "starting" and (endpoints := _endpoints(record, output)):
        record.update(state="ready", endpoints=endpoints)
    return changed


def progress(record: Record) -> BatchFacts:
    """What is known of the batch of a record, and how far it is."""
    facts = record.batch or {}
    path = Files(Path(facts["output"])).state
    state = read_state(path)
    if state is None or path.stat().st_mtime < record.created.timestamp():  # of an earlier one
        return {**facts, "state": "waiting" if record.live else "interrupted"}
    cut = not record.live and state.state in ("checking", "in_progress")
    return {
        **facts,
        "state": "interrupted" if cut else state.state,
        "total": state.total,
        "completed": state.completed,
        "failed": state.failed,
        "problem": state.problem,
    }


def _endpoints(record: Record, output: OutputDir) -> Endpoints | None:
    """Of the newest jobs; None as long as the client service is not there."""
    token_file = internal_token_file(output.path, record.id)
    found: Endpoints = {}
    for service, before in record.endpoints.items():
        try:
            addresses = output.addresses(service, record.jobs[service])
        except (BadAddressFile, KeyError):
            continue
        urls: list[str] = [url_of(address, token_file) for address in addresses]
        found[service] = urls if isinstance(before, list) else next(iter(urls), None)
    return found if found.get("client") else None
