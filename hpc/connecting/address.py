"""Where a deployment's door is, as orch.py --address says it, here or on a login node."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from contracts.errors import ServiceError
from contracts.job_files import BadAddress, authority_file, parse_address, user_token_file
from engines.json_values import text_of
from hpc.deployments.records import LIVE_STATES, Record
from hpc.endpoints import OutputDir
from hpc.following.report import tunnel_line
from hpc.recipe.values import NAME_PATTERN


@dataclass(frozen=True)
class Address:
    """`url`: of the door, None as long as there is none. `ssh`: the line that opens a tunnel to it
    at home. `token_file`, `ca`: paths where the deployment is, None if it asks for no token or
    speaks no TLS. `state`: as --status has it."""

    id: str
    url: str | None
    ssh: str | None
    token_file: str | None
    ca: str | None
    state: str

    @property
    def live(self) -> bool:
        """Whether the deployment has not ended."""
        return self.state in LIVE_STATES

    @property
    def door(self) -> tuple[str, int]:
        """Host and port of the door; there must be a `url`."""
        parts = urlsplit(self.url or "")
        return parts.hostname or "", parts.port or 0


def address_of(record: Record, output: OutputDir) -> Address:
    """The address of a deployment, as its refreshed record has it."""
    url = record.client if record.live else None
    token = user_token_file(output.path, record.id)
    authority = authority_file(token)
    return Address(
        id=record.id,
        url=url,
        ssh=tunnel_line(url) if url else None,
        token_file=str(token) if token.exists() else None,
        ca=str(authority) if authority.exists() else None,
        state=record.state,
    )


def read_address(text: str, source: str) -> Address:
    """The address of what orch.py --address --json has printed at `source`; nothing of it is
    believed that could not be one. Raises ServiceError."""
    try:
        found = json.loads(text)
        address = Address(
            id=_matching(NAME_PATTERN, found["id"]),
            url=_url(found["url"]),
            ssh=text_of(found, "ssh"),
            token_file=_path(found["token_file"]),
            ca=_path(found["ca"]),
            state=_matching("[a-z]+", found["state"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise ServiceError(
            f"{source} has answered no address of a deployment; is its orch.py of the version of "
            "this one?"
        ) from error
    return address


def _matching(pattern: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(value)
    return value


def _path(value: object) -> str | None:
    if value is None:
        return None
    path = _matching("/.+", value)
    if not path.isprintable():
        raise ValueError(path)
    return path


def _url(value: object) -> str | None:
    if value is None:
        return None
    scheme, _, address = str(value).partition("://")
    try:
        return f"{_matching('https?', scheme)}://{parse_address(address, 'client')}"
    except BadAddress as error:
        raise ValueError(value) from error
