"""`python -m client.notify`: tells a webhook how the deployment is, once, as its environment says:
ORCH_WEBHOOK (the URL), ORCH_ID, ORCH_STATE, ORCH_ADDRESS, ORCH_MODEL, ORCH_REASON.

`--await FOLDER` tells nobody, but returns once the client service, whose sockets are in that
folder, says that queries are answered.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 10.0
#: Between two looks at /health.
LOOK_S = 0.5


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was posted to one place is not asked for at another."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


class _Service(http.client.HTTPConnection):
    """The client service, at its socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def message(environment: Mapping[str, str]) -> bytes:
    """The body that a webhook is sent; `text` is what chat programs show."""
    name, state, address, model, reason = (
        environment.get(f"ORCH_{key}", "") for key in ("ID", "STATE", "ADDRESS", "MODEL", "REASON")
    )
    how = {"ready": f"{model} is ready at {address} ({name})"}
    text = how.get(state, f"{name} ({model}) has {state}{f': {reason}' if reason else ''}")
    return json.dumps(
        {"id": name, "state": state, "address": address, "model": model, "text": text}
    ).encode()


def tell(url: str, body: bytes, timeout_s: float = TIMEOUT_S) -> str:
    """Send it; return why that has failed, "" if it has not."""
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, kind, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s):
            return ""
    except urllib.error.HTTPError as error:
        return f"it answered {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)  # urllib's own are about another one
        return getattr(why, "strerror", None) or str(why) or type(why).__name__


def answers(service: Path) -> bool:
    """Whether the client service says that queries are answered."""
    connection = _Service(service)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return the exit code; with 1 it has said why on stderr."""
    if arguments[:1] == ["--await"]:
        while not answers(Path(arguments[1]) / "service"):
            time.sleep(LOOK_S)
        return 0
    why = tell(environment["ORCH_WEBHOOK"], message(environment))
    if why:
        print(why, file=sys.stderr)  # noqa: T201
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
