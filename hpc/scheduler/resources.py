"""What a job is asked a scheduler for, in nobody's options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """What one job asks for; None is for what the scheduler has by default.

    `time` is the limit in one of the formats of `hpc.times`; `cores`, `mem_gb` (GiB) and `gpus` are
    those of each node; `each_node`: the job has a task on each of its nodes, rather than one.
    `mail`: who is written to when the job begins and when it ends; "" if nobody is.
    `further`: other options by their names, with values. `gpu_request` and `directives` are the
    site's, in the scheduler's own words.
    """

    time: str
    nodes: int = 1
    each_node: bool = False
    cores: int | None = None
    mem_gb: int | None = None
    gpus: int = 0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    mail: str = ""
    further: tuple[tuple[str, str], ...] = ()
    gpu_request: str = ""
    directives: tuple[str, ...] = ()
