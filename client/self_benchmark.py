"""A benchmark of what the deployment's users ask: its load generator asks this very service, or
through the door in front of it.

With retrieval it takes of the service's own threads, and must leave some to others: to whoever
waits for its end, and to /health, /metrics and GET /benchmark.
"""

from __future__ import annotations

from pathlib import Path

from client.api.bodies import BenchmarkRequest
from client.errors import NoDoor, NoRoom, NotPublished, NotReady
from client.settings import ServiceSettings
from contracts.job_files import BadAddress, address_file, authority_file, parse_address
from contracts.load import RESERVED_THREADS


def with_room(asked: BenchmarkRequest, threads: int | None) -> BenchmarkRequest:
    """Return what was asked for, at a rate with a limit of requests in flight: more would wait for
    a thread, and so would everybody else. What waits for the limit waits in the load generator, and
    that counts in its latency.

    `threads`: how many the service has; None: not known, and no limit. Raises NoRoom.
    """
    if threads is None:
        return asked
    most = max(1, threads - RESERVED_THREADS)
    for key, value in (("n_clients", asked.n_clients), ("max_concurrency", asked.max_concurrency)):
        if (value or 0) > most:
            raise NoRoom(
                f"{key} is {value}, but with retrieval it must be at most {most}: this service "
                f"answers {threads} requests at once and keeps {RESERVED_THREADS} for others. Ask "
                "for less, or run python3 -m loadgen --retrieval elsewhere."
            )
    if asked.rate is None or asked.max_concurrency is not None:
        return asked
    return asked.model_copy(update={"max_concurrency": most})


def door_url(settings: ServiceSettings) -> str:
    """Return where the engines are asked through the door. Raises NoDoor, NotPublished."""
    if settings.server is not None:
        raise NoDoor(
            f"This deployment measures {settings.server.url}, which does not stand behind its "
            "door: leave out through."
        )
    return own_url(settings)


def own_url(settings: ServiceSettings) -> str:
    """Return where this service is, by the address file of its job: what a request says of that may
    be a tunnel's end, or made up. Raises NotPublished."""
    path = address_file(settings.output, "client", str(settings.job_id))
    try:
        address = parse_address(path.read_text("utf-8", "replace"), "client")
    except BadAddress as error:
        raise NotReady(f"{path} {error}.") from error
    except OSError as error:
        raise NotPublished(
            f"This service's own address is not known: {path} cannot be read ({error.strerror}). "
            "Ask again once its job has published it."
        ) from error
    return f"http://{address}" if authority_of(settings) is None else f"https://{address}"


def authority_of(settings: ServiceSettings) -> Path | None:
    """Return the certificate by which this service is known, if it speaks TLS."""
    path = settings.token_file and authority_file(settings.token_file)
    return path if path is not None and path.exists() else None
