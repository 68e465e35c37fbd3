"""Qdrant: one job on a CPU node that keeps the points of one collection."""

from __future__ import annotations

import secrets
from pathlib import Path

from hpc.deployment import Deployment
from hpc.images import image_of

#: Of the API key: more than anybody can try.
KEY_BYTES = 24


def setup_qdrant(data: Deployment) -> str:
    """Render and submit the Qdrant job of `data`. Returns its job id, "" where the client service
    keeps the points itself.

    Its API key is made here, in a file for its owner alone. Raises SchedulerError where the
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
