"""Whether somebody asks something of a model, as HAProxy counts it at the door (lib/door.cfg):
looks at how things stand are not counted there."""

from __future__ import annotations

import re
from pathlib import Path

from client.door import command

_TABLE = "show table users"
#: A user, with how many requests he has begun and how many are under way (HAProxy's order).
_ENTRY = re.compile(r"\bkey=(\S+) .*\bgpc0=(\d+) .*\bconn_cur=(\d+)")


class Activity:
    """Of all users together."""

    def __init__(self, commands: Path) -> None:
        """`commands` is HAProxy's socket."""
        self._commands = commands
        self._begun: dict[str, int] = {}

    def seen(self) -> bool:
        """Return whether a request is under way, or has begun since the last call. While HAProxy
        does not say it, one might be."""
        try:
            said = command(self._commands, _TABLE)
        except OSError:
            return True
        users = [(name, int(open_), int(begun)) for name, begun, open_ in _ENTRY.findall(said)]
        before, self._begun = self._begun, {name: begun for name, _, begun in users}
        return any(open_ or begun != before.get(name, 0) for name, open_, begun in users)
