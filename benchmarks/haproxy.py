"""HAProxy as a client's job has it (lib/door.cfg), alone: what a client service needs that a test
or a benchmark starts itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep

from contracts.load import MOST_WAITING
from engines.servers.deployable import DEPLOYED

PROJECT = Path(__file__).resolve().parent.parent
#: Where scripts/get_haproxy.sh puts it, and where packages do.
PLACES = (str(PROJECT / ".tools" / "bin"), "/usr/sbin", "/usr/local/sbin")
START_S = 60.0


def program() -> str | None:
    """Return where it is; None if there is none."""
    return shutil.which("haproxy", path=os.pathsep.join((os.environ["PATH"], *PLACES)))


@contextlib.contextmanager
def configured(
    name: str, *ready: Path, log: int = subprocess.DEVNULL, **told: object
) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy by a configuration of lib/, which is `told` its variables, once the sockets are there
    that say that it is `ready`; `log`: where it reports to. Raises RuntimeError: it does not start.
    """
    found = program()
    if found is None:
        raise RuntimeError("there is no haproxy: run scripts/get_haproxy.sh")
    process = subprocess.Popen(
        [found, "-db", "-f", str(PROJECT / "lib" / name)],
        env={**os.environ, **{key: str(value) for key, value in told.items()}},
        stdout=log, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = monotonic() + START_S
        while not all(path.exists() for path in ready):
            if process.poll() is not None or monotonic() > deadline:
                raise RuntimeError(f"haproxy did not start (exit code {process.poll()})")
            sleep(0.005)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def seal(engine: str, at: str, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """What asks for a token in front of an Ollama, as its job has it (lib/seal.cfg), without a
    network of its own."""
    with tempfile.TemporaryDirectory(prefix="seal.") as name:
        folder = Path(name)
        (folder / "tokens").write_text(f"{hashlib.sha256(token.encode()).hexdigest()}\n")
        for file, paths in asdict(DEPLOYED["ollama"].allowed).items():
            (folder / file).write_text("".join(f"{path}\n" for path in paths))
        told = {"PROXY_FOLDER": name, "LISTEN_AT": at, "CERTIFICATE": "", "ENGINE_AT": engine}
        with configured("seal.cfg", folder / "handover", **told) as process:
            yield process


@contextlib.contextmanager
def haproxy(engines: int = 3, health: str = "/api/version", in_flight: int = 100) -> Iterator[Path]:
    """One that lets in everybody in front of so many engines; the folder of its sockets, which is
    what ORCH_DOOR names. Raises RuntimeError: it does not start."""
    with tempfile.TemporaryDirectory(prefix="door.") as name:  # names of sockets are short
        folder = Path(name)
        for file in (
            "users",
            "sessions",
            "scrapers",
            "secrets",
            "in_flight",
            "per_minute",
            "handover",
        ):
            (folder / file).touch()
        os.mkfifo(folder / "ended", 0o600)
        told = {"PROXY_FOLDER": name, "LISTEN_AT": f"unix@{name}/door", "OPEN": 1, "SHARED": 0,
                "QUERIES": 50, "OWN_ENGINES": 1, "ENGINE": "Ollama", "OLLAMA_API": 1,
                "HEALTH": health, "ENGINES": engines, "IN_FLIGHT": in_flight,
                "WAITING": MOST_WAITING, "CERTIFICATE": ""}  # fmt: skip
        ready = folder / "engines", folder / "commands"
        with (
            (folder / "ended").open("rb+", 0) as log,
            configured("door.cfg", *ready, log=log.fileno(), **told),
        ):
            yield folder
