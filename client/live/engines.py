"""The replicas: as the door sees them each time, and as they say themselves now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from client.engine_apis.interface import ModelState
from client.errors import NotReady
from client.ollama.evidence import Judgement
from client.ollama.service import OllamaClientService
from contracts.live.state import Engine

#: Seconds between two times that a replica is asked; and how many are asked at once.
ASK_S, _AT_ONCE = 5.0, 8
#: Seconds for which the first look waits for what they say.
_PATIENCE_S = 0.5
_OUT = "does not answer"


class Engines:
    """All replicas of the deployment."""

    def __init__(self, service: OllamaClientService, output: Path, job: Callable[[], str]) -> None:
        self._service, self._logs, self._job = service, output / "logs", job
        self._known: dict[str, tuple[Judgement, ModelState | None]] = {}
        self._asked: dict[str, Future[tuple[Judgement, ModelState | None]]] = {}
        self._asked_at = -ASK_S
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def all(self, quantization: str | None) -> tuple[Engine, ...]:
        """Return them; `quantization`: of the model, if they do not say it."""
        addresses = self._addresses()
        self._ask(addresses)
        loads, gpus = self._service.servers.loads(), self._gpus()
        found = []
        for address in addresses:
            load = loads.get(address)
            judgement, said = self._known.get(address, (Judgement(True, None), None))
            up = load is None or load.up
            if not up and judgement.ok:
                judgement = Judgement(False, f"{address} {_OUT}")
            known = said if up else None
            placement = known.placement if known is not None else None
            in_engine = load.in_flight if load else 0
            found.append(
                Engine(
                    address=address,
                    host=address.rpartition(":")[0],
                    ok=judgement.ok,
                    reason=judgement.reason,
                    device=placement.where if placement is not None else None,
                    gpus=gpus,
                    quantization=(known.quantization if known else None) or quantization,
                    in_flight=in_engine,
                    queued=load.queued if load else 0,
                )
            )
        return tuple(found)

    def _addresses(self) -> Sequence[str]:
        try:
            return self._service.addresses.read()
        except NotReady:
            return self._service.addresses.known

    def _ask(self, addresses: Sequence[str]) -> None:
        """What they say counts once they have said it: one that hangs is not waited for."""
        new = [address for address in addresses if address not in self._known]
        if new or time.monotonic() - self._asked_at >= ASK_S:
            self._asked_at = time.monotonic()
            for address in addresses:
                if address not in self._asked:
                    self._asked[address] = self._pool.submit(self._service.glance, address)
            wait([self._asked[address] for address in new], _PATIENCE_S)
        for address, asked in list(self._asked.items()):
            if asked.done():
                self._known[address] = self._asked.pop(address).result()

    def _gpus(self) -> tuple[str, ...]:
        try:
            path = self._logs / f"{self._job()}.gpus"
            return tuple(path.read_text("utf-8", "replace").splitlines())
        except OSError:
            return ()
