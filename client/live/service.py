"""The live state as a part of the client service."""

from __future__ import annotations

from client.batches.jobs import Batches
from client.benchmarks import Benchmarks
from client.door import statistics
from client.live.collector import Collector
from client.live.engines import Engines
from client.live.hub import Hub
from client.live.series import Recorder
from client.ollama.service import OllamaClientService
from client.queues import ENGINES, QUEUES
from client.settings import ServiceSettings

#: The socket in the folder of HAProxy's (lib/door.cfg).
_SOCKET = "live"


def add_live(
    settings: ServiceSettings,
    recorder: Recorder,
    runs: Benchmarks,
    service: OllamaClientService | None = None,
    batches: Batches | None = None,
) -> None:
    """Serve GET /state and GET /events from now on, if there is a deployment that has them."""
    if settings.deployment is None:
        return

    def queue() -> tuple[int, int]:
        try:
            rows = statistics(settings.door / "commands")
        except OSError:
            return 0, 0
        queued = sum(int(row["qcur"] or 0) for row in rows if row["pxname"] in QUEUES)
        in_flight = sum(
            int(row["scur"] or 0)
            for row in rows
            if row["pxname"] == ENGINES and row["svname"].startswith("engine")
        )
        return queued, in_flight

    engines = None if service is None else Engines(service, settings.output, settings.engine_job)
    collector = Collector(settings, settings.deployment, recorder, runs, queue, engines, batches)
    Hub(collector, recorder, settings.door / _SOCKET).follow()
