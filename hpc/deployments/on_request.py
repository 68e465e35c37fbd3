"""The engine's job of a deployment that has one only while somebody asks: the client's job submits
it, and writes down which one it is (lib/on_request.sh)."""

from __future__ import annotations

from contracts.job_files import chain_folder, chain_said
from contracts.json_object import JsonObject
from engines.json_values import part_of, text_of
from hpc.deployments.records import Record
from hpc.endpoints import OutputDir


def comes_and_goes(record: Record) -> bool:
    """Whether the deployment has an engine only while somebody asks."""
    return _service(record).get("on_request") is True


def passing_engine(record: Record) -> str | None:
    """The service whose job may end while the deployment goes on; None if there is no such one."""
    if not comes_and_goes(record):
        return None
    from engines.servers.deployable import DEPLOYED  # slow to import, and most engines stay

    return DEPLOYED[text_of(_service(record), "engine") or "ollama"].service


def take_up_engine(record: Record, output: OutputDir) -> None:
    """Make the engine's job one of the record's as long as it has not ended: that is no end of the
    deployment."""
    service = passing_engine(record)
    if service is None:
        return
    engine = chain_said(chain_folder(output.path, record.id)).get(1, {}).get(service)
    ended = not engine or output.exit_status(engine) is not None
    if record.jobs.get(service) == (None if ended else engine):
        return
    jobs = record.as_json()["jobs"]
    record.update(jobs={name: job for name, job in jobs.items() if name != service})
    if engine and not ended:
        record.add_job(service, engine, f"{record.id}.{service}")


def _service(record: Record) -> JsonObject:
    return part_of(part_of(record.as_json().get("recipe", {}), "job"), "service")
