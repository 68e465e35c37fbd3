"""Objects of JSON that somebody else made: a server, a file of another version, a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

#: Nothing may be done with a value in it before it was looked at. What is ours has types of its
#: own.
JsonObject: TypeAlias = Mapping[str, object]
