"""What one must know of an engine to deploy it: the interface that each engine fills of which a
deployment starts servers of its own.

All are found by the name that recipes call them by in `DEPLOYED` of engines/registry.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.options import Options

if TYPE_CHECKING:
    from engines.engine import Engine


@dataclass(frozen=True)
class Deployed:
    """An engine that has a job of its own."""

    #: Of its job, template, logs, address file and endpoint: of a to z alone.
    service: str
    #: What sentences call it.
    title: str
    #: How its servers are asked: one of ENGINES, or what a server of its own kind says beyond that.
    engine: Engine
    #: What recipes may tell it beyond its model; by default nothing.
    options: Options = field(default_factory=Options)
