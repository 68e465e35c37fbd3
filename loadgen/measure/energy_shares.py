"""What the GPUs of each replica have used, if each replica has its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from contracts.json_object import JsonObject
from contracts.summary import ReplicaEnergy, ReplicaShare
from engines.json_values import text_of
from loadgen.measurements import Energy


def with_energy(
    shares: Sequence[ReplicaShare], energy: Energy, context: JsonObject | None
) -> list[ReplicaShare]:
    """Return the shares with the energy of each, if `context`, the deployment's record, says which
    GPUs it has and all of them are measured.

    A GPU that several have, or a part of one (MIG), is nobody's.
    """
    listed = (context or {}).get("replicas")
    known = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    own = {text_of(one, "url") or "": _gpus(one, energy) for one in known}
    times = Counter(gpu for gpus in own.values() for gpu in gpus)
    return [
        replace(share, energy=_of(share, own.get(share.url, ()), energy))
        if all(times[gpu] == 1 for gpu in own.get(share.url, ()))
        else share
        for share in shares
    ]


def _gpus(replica: JsonObject, energy: Energy) -> Sequence[str]:
    """What its GPUs are known by: the record has their numbers on the host, or that itself."""
    host = _short(text_of(replica, "node") or "")
    words = (text_of(replica, "gpus") or "").split(",")
    at = {(_short(name), number): gpu for (name, number), gpu in energy.gpus_at.items()}
    found = [at.get((host, word), word) for word in words]
    return found if all(gpu in energy.joules_by_gpu for gpu in found) else []


def _short(host: str) -> str:
    """Hosts have their domains with them or not."""
    return host.partition(".")[0].lower()


def _of(share: ReplicaShare, gpus: Iterable[str], energy: Energy) -> ReplicaEnergy | None:
    joules: Mapping[str, float] = {gpu: energy.joules_by_gpu[gpu] for gpu in gpus}
    if not joules or not energy.seconds:
        return None
    total = sum(joules.values())
    return ReplicaEnergy(
        joules=total,
        watts=total / energy.seconds,
        joules_per_output_token=total / share.output_tokens if share.output_tokens else None,
        joules_by_gpu=joules,
    )
