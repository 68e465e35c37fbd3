"""What pydantic makes of the classes of bodies and answers, made when it is needed.

All of them at the start took 60 ms of CPU, which an engine needs just then to load its model.
pydantic does not say that several threads may do it at once.
"""

from __future__ import annotations

import threading
from typing import TypeVar

from pydantic import BaseModel

Kind = TypeVar("Kind", bound=BaseModel)

_BUILDING = threading.RLock()


def built(kind: type[Kind]) -> type[Kind]:
    """Return the class, complete."""
    if not kind.__pydantic_complete__:
        with _BUILDING:
            kind.model_rebuild()
    return kind
