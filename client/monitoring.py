"""Where the deployment's monitoring is, by the address files of its job."""

from __future__ import annotations

import re
from pathlib import Path

from loadgen.child import Monitoring

_ADDRESS = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}")


def monitoring_of(output: Path, job: str | None) -> Monitoring:
    """What is known now; a part whose file is missing, or holds no address, is not there."""
    if job is None:
        return Monitoring()
    return Monitoring(
        push_gateway=_url(output / f"pushgateway_ip_{job}.txt"),
        prometheus=_url(output / f"prometheus_ip_{job}.txt"),
    )


def _url(path: Path) -> str | None:
    try:
        address = path.read_text("utf-8", "replace").partition("\n")[0].strip()
    except OSError:
        return None
    return f"http://{address}" if _ADDRESS.fullmatch(address) else None
