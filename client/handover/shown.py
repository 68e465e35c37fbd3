"""What /health and /metrics say of a hand-over."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.api.answers import HandedOver, Health
from client.handover.state import State, read_state
from client.settings import ServiceSettings
from contracts.job_files import handover_file

_DARK = "Seconds for which nobody will answer when this job ends: the next one will not be there."


class Shown(Collector):
    """How it stands, as it is told; nothing if no jobs follow those of the deployment."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._path = None if settings.chain is None else handover_file(settings.chain)

    def _state(self) -> State | None:
        return None if self._path is None else read_state(self._path)

    def in_health(self, found: Health) -> Health:
        """Return the same with how it goes on."""
        state = self._state()
        if state is None:
            return found
        shown = HandedOver(
            phase=state.phase, ends=state.ends, dark_s=state.dark_s, message=_sentence(state)
        )
        return found.model_copy(update={"handover": shown})

    def collect(self) -> Iterator[Metric]:
        """Yield for how long nobody will answer."""
        state = self._state()
        if state is not None:
            yield GaugeMetricFamily(
                "orch_handover_dark_seconds", _DARK, value=float(state.dark_s or 0)
            )


def _sentence(state: State) -> str | None:
    if state.dark_s is None:
        return state.problem
    clock = time.strftime("%H:%M:%S", time.localtime(state.ends))
    return (
        f"The deployment will be dark for {state.dark_s} s from {clock} on: its next job is not "
        "expected to serve before."
    )
