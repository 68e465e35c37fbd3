"""A deployment that serves: where it is, under which conditions, and for how long."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from campaign.units import Deployed
from engines.json_values import text_of
from hpc.deployments.jobs import scheduler_of
from hpc.deployments.records import Record
from hpc.deployments.stopping import stop
from hpc.endpoints import OutputDir
from hpc.following.job_watch import JobWatch
from hpc.service import Launched
from ledger.conditions import fingerprint

#: It is no part of what is measured.
_BESIDE = "monitoring"


class Live:
    """A deployment of a group of cells."""

    def __init__(self, number: int, group: str, record: Record, output: OutputDir) -> None:
        self.number, self.group, self.record = number, group, record
        self.launched = Launched(record, output)
        self._output = output
        self._scheduler = scheduler_of([record], output)
        needed = {name: job for name, job in record.jobs.items() if name != _BESIDE}
        self._jobs = JobWatch(needed, "", self._scheduler, output)

    def check(self) -> None:
        """Raise JobEnded if one of its jobs has ended."""
        self._jobs.check()

    def blame(self) -> None:
        """A run has failed. Raise JobEnded if the cause is a job that is no more."""
        self._jobs.blame()

    @property
    def nodes(self) -> list[str]:
        """Where its engines are; where the client service is if it has none."""
        places: Mapping[str, str | None] = self.record.as_json().get("nodes", {})
        engines = [places.get(name) for name in places if name not in (_BESIDE, "client")]
        found = [node for node in engines or [places.get("client")] if node]
        return list(dict.fromkeys(found))

    @property
    def began(self) -> float:
        """When the first of its jobs began, in seconds since the epoch."""
        began = [self._output.started_at(job) for job in self.record.jobs.values()]
        return min((at / 1e9 for at in began if at is not None), default=time.time())

    @property
    def seconds_left(self) -> float:
        """Until the first of its jobs comes to its time limit."""
        return self.record.limit_s - (time.time() - self.began)

    def entry(self) -> Deployed:
        """What the ledger says of it."""
        conditions = conditions_of(self.record)
        return Deployed(
            at=time.time(),
            group=self.group,
            number=self.number,
            id=self.record.id,
            began=self.began,
            limit_s=self.record.limit_s if math.isfinite(self.record.limit_s) else None,
            nodes=self.nodes,
            conditions=conditions,
            fingerprint=fingerprint(conditions),
        )

    def stop(self) -> None:
        """End it. Raises SchedulerError."""
        stop(self.record, self._scheduler, self._output)


def conditions_of(record: Record) -> dict[str, str]:
    """What decides results, and only a deployment that serves can say: its model's digest, the
    engine's version, images."""
    facts = record.as_json()
    model = facts.get("loaded_model", {})
    kept = ("digest", "quantization", "parameters", "where")
    of_model = {f"model's {key}": str(model[key]) for key in kept if model.get(key)}
    versions = {key: value for key in model if "version" in key and (value := text_of(model, key))}
    images = {
        f"image of {service}": f"{image['path']}, {image['bytes']} bytes, of {image['changed']}"
        for service, image in facts.get("images", {}).items()
        if service != _BESIDE
    }
    return {"model": record.model, **of_model, **versions, **images}
