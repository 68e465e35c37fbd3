"""The jobs of a deployment that follow one another, as they have written it down themselves
(lib/chain.sh): the newest of them are the deployment's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from batch.files import Files
from contracts.errors import EXIT_SOME_FAILED, EXIT_STOPPED
from contracts.files import write_atomically
from contracts.job_files import (
    ExitStatus,
    chain_folder,
    chain_said,
    fresh,
    handover_file,
    internal_token_file,
    read_end,
    url_of,
)
from contracts.jobs.states import JobStatus
from contracts.json_object import JsonObject
from hpc.deployments.records import Record
from hpc.endpoints import MONITORING_SERVICES, BadAddressFile, OutputDir

if TYPE_CHECKING:
    from hpc.deployments.facts import BatchFacts, ChainFacts, Endpoints

#: The states of a deployment after its batch has ended with these exit codes; after others it has
#: failed.
_STATES = {0: "ended", EXIT_SOME_FAILED: "ended", EXIT_STOPPED: "stopped"}

#: The words of the chain's file for jobs that have served, and for the client's of some that have
#: ended while those before them were there.
_SERVES, _DIED = ".serves", ".died"


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
        said = sorted(self.said.items())
        return [jobs for number, words in said if number > 1 and (jobs := _jobs_in(words))]

    @property
    def said(self) -> dict[int, dict[str, str]]:
        """What is known of each number of the deployment's jobs (contracts/job_files.py)."""
        return chain_said(self.folder)

    @property
    def job_ids(self) -> set[str]:
        """The ids of all jobs that are, were or are to be the deployment's."""
        return {job_id for words in self.said.values() for job_id in _jobs_in(words).values()}

    @property
    def handover(self) -> JsonObject | None:
        """How a hand-over stands (client/handover/state.py); None if nobody says it."""
        try:
            found = json.loads(fresh(handover_file(self.folder)).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def end(self) -> ExitStatus | None:
        """How the batch has ended, and the deployment with it; None as long as it goes on."""
        return read_end(self.folder / "end")

    def ask_to_stop(self) -> None:
        """Have no further job submitted. Raises FileError."""
        with contextlib.suppress(OSError):  # then no file can be written there either
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "stop", "")


def works(record: Record, output: OutputDir) -> bool:
    """Whether the job that works a batch off has not ended, as `refresh` has seen it."""
    state = record.job_states.get("client", "")
    return Chain(output.path, record.id).end is None and not (
        state.startswith("ended: ") or JobStatus(state).over
    )


def follows(record: Record) -> bool:
    """Whether other jobs may come after those of a record."""
    return record.batch is not None or record.chain is not None


def take_up(record: Record, output: OutputDir, over: bool = False) -> bool:
    """Make the newest jobs those of the record, and their addresses its endpoints: those that
    serve, unless the ones before are `over`; those before again, if they outlive the newest. True
    if others have come."""
    chain = Chain(output.path, record.id)
    if record.batch is not None:
        return _take_up_batch(record, record.batch, chain, output)
    return record.chain is not None and _take_up(record, record.chain, chain, output, over)


def _take_up_batch(record: Record, facts: BatchFacts, chain: Chain, output: OutputDir) -> bool:
    newest = chain.successors
    jobs = {**record.jobs, **newest[-1]} if newest else record.jobs
    changed = jobs != record.jobs
    if changed:
        earlier = facts.get("jobs") or [record.jobs]
        batch: BatchFacts = {**facts, "job": len(newest) + 1, "jobs": [earlier[0], *newest]}
        record.succeed(jobs, {"batch": batch})
    elif newest and record.state == "starting":
        _make_ready(record, output)
    return changed


def _take_up(
    record: Record, facts: ChainFacts, chain: Chain, output: OutputDir, over: bool
) -> bool:
    said = chain.said
    serving = max((number for number, words in said.items() if _SERVES in words), default=0)
    died = {words.get(_DIED) for words in said.values()}
    waits = (n for n, words in said.items() if words.get("client") not in (None, *died))
    lost = serving > 0 and record.jobs.get("client") in died
    newest = max(waits, default=0) if over and not lost else 0
    number = max(serving, newest)
    known = number > 1 or lost
    jobs = {**record.jobs, **_jobs_in(said.get(number, {}))} if known else record.jobs
    changed = number > facts["job"] or ((number == facts["job"] or lost) and jobs != record.jobs)
    if changed:
        record.succeed(jobs, {"chain": {**facts, "job": number}})
    if record.state == "starting" and serving == record.as_json()["chain"]["job"]:
        _make_ready(record, output)
    return changed


def _make_ready(record: Record, output: OutputDir) -> None:
    if endpoints := _endpoints(record, output):
        record.update(state="ready", endpoints=endpoints)


def progress(record: Record) -> BatchFacts:
    """What is known of the batch of a record, and how far it is."""
    from batch.state import read_state  # slow to import, and most deployments have no batch

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
    """Of the newest jobs, with all services that the record has them of: without one it would be no
    record. None as long as the client service is not there."""
    token_file = internal_token_file(output.path, record.id)
    found: Endpoints = {}
    for service, before in record.endpoints.items():
        owner = "monitoring" if service in MONITORING_SERVICES else service
        try:
            addresses = output.addresses(service, record.jobs[owner])
        except (BadAddressFile, KeyError):
            addresses = []
        plain = service in MONITORING_SERVICES
        urls: list[str] = [
            f"http://{address}" if plain else url_of(address, token_file) for address in addresses
        ]
        found[service] = urls if isinstance(before, list) else next(iter(urls), None)
    return found if found.get("client") else None
