"""The files by which the jobs of a deployment make themselves known in the output directory.

`<service>_ip_<number>.txt` holds an address a line, `logs/<number>.rc` how the job ended. Whoever
reads one knows the number of the job: nothing else in a file is believed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.json_object import JsonObject

#: Of an address that names none.
DEFAULT_PORTS: Mapping[str, int] = {
    "ollama": 11434,
    "client": 5000,
    "qdrant": 6333,
    "prometheus": 9090,
    "pushgateway": 9091,
    "grafana": 3000,
}
# Names of hosts have no underscore (RFC 1123); those of nodes may, and resolve.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")


class BadAddress(ValueError):
    """A line is no address; the message says so, as the end of a sentence on its file."""


def address_file(output: Path, service: str, number: str) -> Path:
    """Return where the job of that number writes the addresses of a service."""
    return output / f"{service}_ip_{number}.txt"


def parse_address(line: str, service: str) -> str:
    """Return `host:port` of a line of an address file; the service's usual port if it names none.

    Raises BadAddress.
    """
    host, _, port = line.strip().partition(":")
    number = port or str(DEFAULT_PORTS.get(service, ""))
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,20}", number):
        raise BadAddress(f"holds {line[:80]!r}, which is no address (host:port)")
    if not 0 < int(number) < 65536:
        raise BadAddress(f"holds the port {number}, which does not exist")
    return f"{host}:{int(number)}"


def internal_token_file(output: Path, deployment: str) -> Path:
    """Return where the token is that a deployment's own parts send to its engines.

    lib/seal.sh makes it. There is none if the engines ask for none.
    """
    return output / "deployments" / deployment / "internal.token"


#: What a token that has come from elsewhere must look like.
TOKEN = "[A-Za-z0-9]{20,100}"


def user_token_file(output: Path, deployment: str) -> Path:
    """Return where the token is that a deployment's owner sends (lib/door.sh)."""
    return internal_token_file(output, deployment).with_name("user.token")


def began_at(output: Path, number: str) -> float | None:
    """Return when a job's script last began to run (s since 1970); None if it has not. A job that
    was requeued and runs anew has another time."""
    try:
        return fresh(output / "logs" / f"{number}.started").stat().st_mtime
    except OSError:
        return None


#: The user of the monitoring's login.
MONITORING_USER = "orch"


@dataclass(frozen=True)
class MonitoringLogin:
    """Files of mode 600: the `password`; what Prometheus's programs read it by (`hashed`); the
    `header` by which it is sent, as curl reads it (-H @FILE)."""

    password: Path
    hashed: Path
    header: Path


def monitoring_login(output: Path) -> MonitoringLogin:
    """Return where the login of the monitoring is, of all deployments of an output directory."""
    folder = output / "deployments"
    return MonitoringLogin(
        folder / "scrape.token", folder / "scrape.users", folder / "scrape.header"
    )


def monitoring_header(password: str) -> str:
    """Return the line of HTTP by which the monitoring's password is sent (RFC 7617)."""
    both = base64.b64encode(f"{MONITORING_USER}:{password}".encode()).decode()
    return f"Authorization: Basic {both}\n"


def authority_file(token_file: Path) -> Path:
    """Return where the certificate is by which a deployment's client service and engines are known,
    beside its internal token. lib/tls.sh makes it. There is none if they speak no TLS."""
    return token_file.with_name("authority.pem")


def url_of(address: str, token_file: Path) -> str:
    """Return what is at a published address of a deployment's client service or engine: whoever
    has published it has written the authority's certificate before, if it speaks TLS."""
    secure = fresh(authority_file(token_file)).exists()
    return f"https://{address}" if secure else f"http://{address}"


def certificate_digest(token_file: Path) -> str:
    """Return the SHA-256 of the client service's certificate, in hexadecimal digits; "" if it has
    none."""
    try:
        return token_file.with_name("certificate.sha256").read_text().strip()
    except OSError:
        return ""


def forget_tokens(output: Path, deployment: str) -> None:
    """Remove the tokens of a deployment that has ended: they open nothing any more."""
    shutil.rmtree(internal_token_file(output, deployment).parent, ignore_errors=True)


def chain_folder(output: Path, deployment: str) -> Path:
    """Return where the jobs of a deployment that follow one another are known (lib/chain.sh)."""
    return output / "deployments" / f"{deployment}.chain"


def handover_file(chain: Path) -> Path:
    """Return where, in such a folder, the job that serves says how a hand-over stands."""
    return chain / "handover.json"


#: The value of a word that is true no more.
TAKEN_BACK = "-"


def chain_said(folder: Path) -> dict[int, dict[str, str]]:
    """Return what `jobs` of such a folder says of each number of the deployment's jobs: ids of jobs
    by service, and what else is known by words that begin with a dot."""
    found: dict[int, dict[str, str]] = {}
    try:
        lines = fresh(folder / "jobs").read_text(errors="replace").split("\n")[:-1]
    except OSError:
        return found
    for number, what, value in (said for line in lines if len(said := line.split()) == 3):
        if number.isdecimal():
            words = found.setdefault(int(number), {})
            if value == TAKEN_BACK:
                words.pop(what, None)
            else:
                words[what] = value
    return found


@dataclass(frozen=True)
class ExitStatus:
    """What a job's exit-code file says: exit code and, when it knows one, the reason."""

    exit_code: int
    reason: str


def read_exit_status(output: Path, number: str) -> ExitStatus | None:
    """Return the exit status of the job of that number; None as long as there is none."""
    return read_end(output / "logs" / f"{number}.rc")


def read_end(file: Path) -> ExitStatus | None:
    """Return what a file of such lines says; None as long as there is none."""
    path = fresh(file)
    try:
        code, _, reason = path.read_text("utf-8", "replace").partition("\n")
        return ExitStatus(int(code), reason.strip())
    except (OSError, ValueError):
        return None


#: What the reason of a job begins with that has ended since nobody asked anything.
IDLE = "idle for "


@dataclass(frozen=True)
class IdleState:
    """When a deployment of which nobody asks anything, or its engine, is going to end; times are
    Unix times. `ends` is None, and `state` "sleeping" or "waking", if there is no engine that
    answers, and one comes with the next request."""

    timeout_s: float
    last_request: float
    ends: float | None
    state: str = "awake"

    def as_facts(self) -> JsonObject:
        """As its file, and `--status --json`, have it."""
        return asdict(self)


def idle_file(output: Path, deployment: str) -> Path:
    """Return where the client service says when the deployment would end."""
    return output / "deployments" / f"{deployment}.idle.json"


def read_idle(output: Path, deployment: str) -> IdleState | None:
    """Return what it says; None if the deployment has no such end, or does not serve yet."""
    try:
        found = json.loads(fresh(idle_file(output, deployment)).read_bytes())
        ends = None if found["ends"] is None else float(found["ends"])
        return IdleState(
            float(found["timeout_s"]), float(found["last_request"]), ends, str(found["state"])
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def not_told(output: Path, deployment: str) -> list[str]:
    """Return who could not be told how the deployment is, a line each (lib/notify.sh)."""
    try:
        path = output / "deployments" / f"{deployment}.notify"
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def fresh(path: Path) -> Path:
    """Return `path`, once the network file system has been made to check it.

    NFS remembers for up to a minute that a file was not there (nfs(5), acdirmax); opening the
    directory makes it ask the server.
    """
    try:
        os.close(os.open(path.parent, os.O_RDONLY))
    except OSError:
        pass
    return path
