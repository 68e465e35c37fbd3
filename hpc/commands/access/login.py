"""--login: a token of one's own, for a deployment that its owner shares."""

from __future__ import annotations

import argparse
import errno
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from contracts.errors import ServiceError, UsageError
from contracts.files import FileError, expanded, write_whole
from contracts.job_files import TOKEN, authority_file
from contracts.live.copy_lines import ways_to_ask
from contracts.named_tokens import login_payload
from hpc.console import Console, columns
from hpc.deployments.records import Record, find_record
from hpc.endpoints import OutputDir
from hpc.recipe.values import NAME_PATTERN
from hpc.site import load_site
from hpc.times import format_time
from hpc.web import Answer, call

_GIVEN_S = 30.0
_MUNGE_S = 15.0


@dataclass(frozen=True)
class Place:
    """What a credential is made for: deployment and owner (uid)."""

    deployment: str
    owner: int


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Log in, keep the token, and print what is done with it. Raises UsageError, ServiceError,
    NoAnswer, FileError."""
    socket = load_site(given.site).munge_socket
    record = None if "://" in given.login else find_record(output.path, given.login)
    url = _url(given.login, record)
    known_by = _known_by(url, output)
    place = _place(url, call("GET", f"{url}/login", token_file=known_by), record)
    payload = login_payload(place.deployment, urlsplit(url).netloc)
    asked = {"credential": _credential(place.owner, payload, socket)}
    answer = call("POST", f"{url}/login", asked, _GIVEN_S, known_by)
    if answer.status != 200:
        raise ServiceError(f"{url} gives no token: {answer.error}.")
    word, name = str(answer.json.get("token")), str(answer.json.get("name"))
    if not re.fullmatch(TOKEN, word):
        raise ServiceError(f"{url} has answered no token; is it of the version of this orch.py?")
    token = _keep(place.deployment, word, known_by)
    if given.json:
        console.json({"deployment": place.deployment, "url": url, "name": name,
                      "token_file": str(token), "expires": answer.json.get("expires")})  # fmt: skip
        return
    console.tell("orch", f"the token of {name} for {place.deployment} is in {token}")
    left = format_time(_valid_s(answer))
    console.tell("orch", f"valid for {left}, or as long as the deployment:")
    queries, native = (answer.json.get(key) is not False for key in ("queries", "ollama"))
    for line in columns(ways_to_ask(url, token, queries=queries, native=native)):
        console.say(f"  {line}")


def _url(given: str, record: Record | None) -> str:
    """Raises UsageError."""
    if record is None:
        try:
            parts = urlsplit(given)
        except ValueError:  # such as half of an IPv6 address
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise UsageError(f"--login is {given!r}, but must be a deployment's ID, or its URL: "
                             "http://HOST:PORT.")  # fmt: skip
        return f"{parts.scheme}://{parts.netloc}"
    if not record.live or record.client is None:
        raise UsageError(f"{record.id} is {record.state}, and has no address to log in at; ask its "
                         "owner to look (--status).")  # fmt: skip
    return record.client


def _known_by(url: str, output: OutputDir) -> Path | None:
    """A file beside the certificate by which a service is known that speaks TLS. Raises UsageError
    if there is none."""
    if not url.startswith("https://"):
        return None
    beside = output.path / "deployments" / "user.token"
    if not os.access(authority_file(beside), os.R_OK):
        raise UsageError(
            f"{url} is known by its owner's {authority_file(beside)}, which cannot be read here; "
            "name the output directory of the owner (--output-dir)."
        )
    return beside


def _place(url: str, answer: Answer, record: Record | None) -> Place:
    """Raises ServiceError if nobody can log in there, or it is not what the record says."""
    if answer.status != 200:
        raise ServiceError(f"nobody can log in at {url}: {answer.error}.")
    deployment, owner = answer.json.get("deployment"), answer.json.get("owner")
    if not isinstance(deployment, str) or not re.fullmatch(NAME_PATTERN, deployment):
        raise ServiceError(f"{url} names no deployment; is it of the version of this orch.py?")
    if not isinstance(owner, int) or owner < 0:
        raise ServiceError(f"{url} names no owner; is it of the version of this orch.py?")
    found = Place(deployment, owner)
    if record is not None and found != Place(record.id, record.path.stat().st_uid):
        raise ServiceError(
            f"at {url} another deployment answers than {record.id} (it says: {deployment}, of uid "
            f"{owner}); ask the owner whether it still runs."
        )
    return found


def _credential(owner: int, payload: bytes, socket: str | None) -> str:
    """Return what says who we are, to this owner alone. Raises UsageError, ServiceError."""
    command = ["munge", f"--restrict-uid={owner}", *([f"--socket={socket}"] if socket else [])]
    try:
        made = subprocess.run(command, input=payload, capture_output=True, timeout=_MUNGE_S)
    except FileNotFoundError as error:
        raise UsageError(
            "there is no munge on PATH, by which --login says who you are; log in on a node of the "
            "cluster, or ask the owner for a token (--token add NAME)."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"munge does not answer in {_MUNGE_S:g} s; see its munged.") from error
    if made.returncode != 0:
        words = made.stderr.decode(errors="replace").strip().removeprefix("munge: Error: ")
        raise ServiceError(f"munge says not who you are: {words}; see its daemon, munged, or name "
                           "its socket in a site profile (munge_socket, --site).")  # fmt: skip
    return made.stdout.decode().strip()


def _keep(deployment: str, word: str, known_by: Path | None) -> Path:
    """Write the token down where nobody else reads it, and return the file. Raises FileError."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folder = expanded(home) / "orch" / deployment
    token = folder / "user.token"
    try:
        if not folder.is_absolute():  # whoever has no home has none here either
            raise OSError(errno.ENOENT, "it is no absolute path")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(token, [f"{word}\n"], 0o600)
        header = f"Authorization: Bearer {word}\n"
        write_whole(token.with_name("user.header"), [header], 0o600)
        authority_file(token).unlink(missing_ok=True)
        if known_by is not None:
            write_whole(authority_file(token), [authority_file(known_by).read_text()], 0o600)
    except OSError as error:
        raise FileError(
            f"cannot write {token}: {error.strerror}; make room there, or set XDG_CONFIG_HOME to a "
            "folder of yours, and log in again."
        ) from error
    return token


def _valid_s(answer: Answer) -> int:
    expires = answer.json.get("expires")
    return max(0, int(expires - time.time())) if isinstance(expires, (int, float)) else 0
