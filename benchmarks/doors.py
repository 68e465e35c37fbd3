"""Starts the door of a deployment as its job script does, in front of servers with known times.

The script is the real one, which `orch.py --dry-run` renders: gunicorn with the client service,
what translates OpenAI's API, and HAProxy (lib/door.cfg) at the port.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from known import MODEL

PROJECT = Path(__file__).resolve().parent.parent
#: What the jobs are called: the engines', which only has an address file, and the client's.
ENGINES_JOB, CLIENT_JOB = "41", "42"
START_S = 120.0


class Answer(NamedTuple):
    """What the door answers, read whole."""

    status: int
    retry_after: str | None
    body: bytes


@dataclass(frozen=True)
class Door:
    """One that is open at `host:port`."""

    at: str
    output: Path
    deployment: str
    script_pid: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.at}"

    @property
    def token_file(self) -> Path:
        """The file of what its owner sends."""
        return self.output / "deployments" / self.deployment / "user.token"

    @property
    def commands(self) -> Path:
        """The socket of HAProxy's commands."""
        (config,) = {word for line in self.processes().values() for word in line.split()
                     if word.endswith("/door.cfg")}  # fmt: skip
        return Path(config).with_name("commands")

    @property
    def fields(self) -> dict[str, str]:
        """What its owner sends with each request."""
        return {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}

    def connection(self, timeout_s: float = 60.0) -> HTTPConnection:
        """One to it, that begins with the first request."""
        host, _, port = self.at.rpartition(":")
        return HTTPConnection(host, int(port), timeout=timeout_s)

    def ask(self, path: str, body: object = None, timeout_s: float = 60.0) -> Answer:
        """Ask with the token: by GET, or by POST if there is a body. Raises OSError,
        HTTPException."""
        connection, fields = self.connection(timeout_s), self.fields
        try:
            data = None if body is None else json.dumps(body)
            if data is not None:
                fields["Content-Type"] = "application/json"
            connection.request("GET" if data is None else "POST", path, data, fields)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheader("Retry-After"), answer.read())
        finally:
            connection.close()

    def at_engines(self, addresses: Sequence[str]) -> None:
        """Say where the engines are from now on."""
        say_engines(self.output, addresses)

    def processes(self) -> dict[int, str]:
        """The process ids of all that it consists of, and their command lines."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(path.name)) == self.script_pid:
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return found


def say_engines(output: Path, addresses: Sequence[str]) -> None:
    """Write the address file of the engines' job, whole at once."""
    path = output / f"ollama_ip_{ENGINES_JOB}.txt"
    new = path.with_suffix(".new")
    new.write_text("".join(f"{address}\n" for address in addresses))
    new.replace(path)


@contextlib.contextmanager
def door(
    folder: Path,
    addresses: Sequence[str],
    num_parallel: int,
    most: int | None = None,
    internal_token: str = "",
) -> Iterator[Door]:
    """A door in front of engines that work on `num_parallel` requests each; at most `most` of
    them, if more are to come. `internal_token`: what they ask for; empty: whatever it is."""
    output = folder / "output"
    deployment = _render(folder, output, num_parallel, most or len(addresses))
    if internal_token:
        path = output / "deployments" / deployment / "internal.token"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{internal_token}\n")
        path.chmod(0o600)
    say_engines(output, addresses)
    script = output / "scripts" / f"{deployment}.client.sh"
    log = (folder / "client.log").open("w")
    process = subprocess.Popen(
        ["bash", str(script), ENGINES_JOB], stdout=log, stderr=log, cwd=folder,
        env={**os.environ, "ORCH_JOB_ID": CLIENT_JOB}, start_new_session=True,
    )  # fmt: skip
    try:
        address = output / f"client_ip_{CLIENT_JOB}.txt"
        deadline = monotonic() + START_S
        while not address.exists():
            if process.poll() is not None or monotonic() > deadline:
                sys.exit(f"The door did not open: {(folder / 'client.log').read_text()}")
            sleep(0.02)
        opened = Door(address.read_text().strip(), output, deployment, process.pid)
        while opened.ask("/health").status != 200:  # by then it knows the engines
            if monotonic() > deadline:
                sys.exit(f"The door knows no engine: {(folder / 'client.log').read_text()}")
            sleep(0.02)
        yield opened
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()


def _render(folder: Path, output: Path, num_parallel: int, nodes: int) -> str:
    """Write the scripts of a deployment; return its id."""
    service = {"model": MODEL, "num_parallel": num_parallel}
    infrastructure = {"time": "60:00", "nodes": nodes}
    job = {"name": "door", "infrastructure": infrastructure, "service": service,
           "monitoring": {"enabled": False}, "security": "token"}  # fmt: skip
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps({"job": job}))
    command = [sys.executable, str(PROJECT / "orch.py"), str(recipe), "--site", "local"]
    command += ["--dry-run", "--output-dir", str(output)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    (script,) = (output / "scripts").glob("*.client.sh")
    return script.name.removesuffix(".client.sh")
