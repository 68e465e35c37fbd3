"""A benchmark with retrieval: its load generator asks this very service.

So it takes of the service's own threads, and must leave some to others: to whoever waits for its
end, and to /health, /metrics and GET /benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.addresses import parse_address
from client.errors import NoRoom, NotPublished
from client.settings import Settings

RESERVED_THREADS = 4


def with_room(given: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """What was asked for, at a rate with a limit of requests in flight: more would wait for a
    thread, and so would everybody else. What waits for the limit waits in the load generator, and
    that counts in its latency.

    `threads`: how many the service has; None: not known, and no limit. Raises NoRoom.
    """
    if threads is None:
        return dict(given)
    most = max(1, threads - RESERVED_THREADS)
    for key in ("n_clients", "max_concurrency"):
        if given.get(key, 0) > most:
            raise NoRoom(
                f"{key} is {given[key]}, but with retrieval it must be at most {most}: this "
                f"service answers {threads} requests at once and keeps {RESERVED_THREADS} for "
                "others. Ask for less, or run python3 -m loadgen --retrieval elsewhere."
            )
    return {"max_concurrency": most, **given} if "rate" in given else dict(given)


def own_url(settings: Settings) -> str:
    """Where this service is, by the address file of its job: what a request says of that may be a
    tunnel's end, or made up. Raises NotPublished."""
    path = settings.output / f"client_ip_{settings.job_id}.txt"
    try:
        line = path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise NotPublished(
            f"This service's own address is not known: {path} cannot be read ({error.strerror}). "
            "Ask again once its job has published it."
        ) from error
    return f"http://{parse_address(line, path)}"
