"""The command line: `python3 -m exporters --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.registry import Collector, CollectorRegistry

from contracts.errors import OrchError
from engines.http.headers import headers_of
from engines.http.tls import context_of
from exporters.engine import EngineCollector, metrics_at
from exporters.ollama import OllamaCollector, server_at
from exporters.serving import Address, address, login_of, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end, and return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    engines = bool(given.ollama) + bool(given.metrics)
    if engines != bool(given.listen) or not (given.listen or given.gpu_listen):
        parser.error("give --ollama or --metrics with --listen, or --gpu-listen, or all three")
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    try:
        return _serve(given, ending)
    except OrchError as error:
        sys.stderr.write(f"exporters: {error}\n")
        return 1


def _serve(given: argparse.Namespace, ending: threading.Event) -> int:
    login = login_of(given.login)
    gpus = None
    if given.gpu_listen:
        from exporters.gpu import GpuCollector  # most serve none

        gpus = GpuCollector(given.gpu_vendor)
    if given.listen:
        _listen(given.listen, _collector(given), login)
    if gpus is not None:
        _listen(given.gpu_listen, gpus, login)
    ending.wait()
    if gpus is not None:
        gpus.close()
    return 0


def _collector(given: argparse.Namespace) -> Collector:
    server, path = given.metrics or (given.ollama, "")
    if server.secure:
        context_of(given.ca)  # now: at a scrape nobody would learn that it cannot be used
    headers, _ = headers_of((), given.token_file, "ollama", {})
    if path:
        return EngineCollector(server, path, given.gpus, given.job_end, headers, given.ca)
    return OllamaCollector(server, given.gpus, given.job_end, headers, given.ca)


def _listen(at: Address, collector: Collector, login: str | None) -> None:
    registry = CollectorRegistry()
    registry.register(collector)
    serve(at, registry, login)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m exporters",
        description="Metrics of an engine and of this node's GPUs, for Prometheus.",
    )
    add = parser.add_argument
    add("--ollama", type=server_at, metavar="URL", help="http://HOST:PORT, or https")
    add("--metrics", type=metrics_at, metavar="URL",
        help="an engine's own metrics: http://HOST:PORT/PATH, or https")  # fmt: skip
    add("--ca", metavar="FILE", help="the certificates to trust for https")
    add("--token-file", type=Path, metavar="FILE", help="the token that the engine asks for")
    add("--listen", type=address, metavar="HOST:PORT", help="the engine's metrics")
    add("--login", type=Path, metavar="FILE",
        help="the header that whoever asks is to send: Authorization: Basic ...")  # fmt: skip
    add("--gpus", type=int, default=0, metavar="N", help="that the job asked for (default: 0)")
    add("--gpu-listen", type=address, metavar="HOST:PORT",
        help="the GPUs' metrics, under the DCGM exporter's names")  # fmt: skip
    add("--gpu-vendor", choices=("nvidia", "amd"), default="nvidia",
        help="whose: NVIDIA's driver is asked, or amd-smi (default: nvidia)")  # fmt: skip
    add("--job-end", type=float, metavar="UNIX", help="time at which the job's time limit ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
