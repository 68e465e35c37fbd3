"""Ports at which nobody listens, and at which nobody begins to while a test counts on that."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Sequence
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: The lowest port that is taken, and how many there must be from there on.
_FIRST, _LEAST = 10_000, 1_000


def free_port() -> int:
    """None of those that the kernel gives to connections and to servers that ask for any: tests
    beside this one make many of both, and one may get a port that was free a moment ago."""
    low = int(_EPHEMERAL.read_text().split()[0])
    ports: Sequence[int] = range(_FIRST, low) if low - _FIRST >= _LEAST else (0,)
    dice = random.SystemRandom()
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", dice.choice(ports)))
            return int(probe.getsockname()[1])
