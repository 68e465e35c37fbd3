"""Qdrant: one job on a CPU node that keeps the points of one collection."""

from __future__ import annotations

import secrets
from pathlib import Path

from hpc.deployment import Deployment
from hpc.following.target import Target
from hpc.images import image_of
from hpc.service import Launched, Ready, Service

#: Of the API key: more than anybody can try.
KEY_BYTES = 24


def setup_qdrant(data: Deployment) -> str:
    """Render and submit the Qdrant job of `data`. Returns its job id, "" if the client service
    keeps the points itself.

    Its API key is made here, in a file for its owner alone. Raises SchedulerError if the
    scheduler refuses the job.
    """
    retrieval = data.plan.recipe.job.service.wanted_retrieval
    if data.plan.qdrant is None or retrieval is None:
        return ""
    key = data.write_aside("qdrant.key", secrets.token_urlsafe(KEY_BYTES) + "\n", mode=0o600)
    source = data.plan.site.images.qdrant
    return data.submit(
        data.plan.qdrant,
        image=image_of(source) if source else "",
        storage=storage_of(data.output.path, retrieval.collection),
        key_file=key,
    )


def storage_of(output: Path, collection: str) -> Path:
    """Where a server keeps a collection's points; beside what the client service keeps itself."""
    return output / "qdrant_storage" / collection / "server"


def _target(launched: Launched) -> Target:
    from hpc.web import probe_url  # once the jobs are on their way: loading it takes a while

    job_id = launched.record.jobs["qdrant"]
    return Target("qdrant", job_id, lambda at: probe_url(f"http://{at[0]}/readyz"))


def _ready(_: Launched, target: Target) -> Ready:
    return Ready({"qdrant": f"http://{target.addresses[0]}"})


def _notes(launched: Launched) -> dict[str, str]:
    key = launched.output.path / "scripts" / f"{launched.record.id}.qdrant.key"
    return {"qdrant": f"API key in {key}"}


SERVICE = Service(
    "qdrant",
    setup_qdrant,
    _target,
    _ready,
    wanted=lambda plan: plan.qdrant is not None,
    notes=_notes,
)
