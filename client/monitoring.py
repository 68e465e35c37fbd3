"""Where the deployment's monitoring is, by the address files of its job."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from loadgen.child import Monitoring

_ADDRESS = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}")


def monitoring_of(output: Path, job: str | None, ollama_job: str) -> Monitoring:
    """What is known now; a part whose file is missing, or holds no address, is not there."""
    if job is None:
        return Monitoring()
    return Monitoring(
        push_gateway=_url(output / f"pushgateway_ip_{job}.txt"),
        prometheus=_url(output / f"prometheus_ip_{job}.txt"),
        gpu_metrics=tuple(_gpus(output / "prometheus_assets", ollama_job)),
    )


def _gpus(folder: Path, ollama_job: str) -> Iterator[str]:
    """By the target files of the Ollama job, or of each of its replicas."""
    names = (f"gpu_targets_{ollama_job}.json", f"gpu_targets_{ollama_job}.*.json")
    for path in sorted(path for name in names for path in folder.glob(name)):
        try:
            (target,) = json.loads(path.read_text("utf-8"))[0]["targets"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # it has just gone
        yield f"http://{target}/metrics"


def _url(path: Path) -> str | None:
    try:
        address = path.read_text("utf-8", "replace").partition("\n")[0].strip()
    except OSError:
        return None
    return f"http://{address}" if _ADDRESS.fullmatch(address) else None
