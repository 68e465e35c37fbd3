"""Where the deployment's monitoring is, by the address files of its job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from contracts.job_files import BadAddress, address_file, monitoring_login, parse_address
from loadgen.load.child_process import MonitoringUrls


def monitoring_of(output: Path, job: str | None, ollama_job: str) -> MonitoringUrls:
    """Return what is known now; a part whose file is missing, or holds no address, is not there."""
    if job is None:
        return MonitoringUrls()
    login = monitoring_login(output).header
    return MonitoringUrls(
        login=login if login.exists() else None,
        push_gateway=_url(output, "pushgateway", job),
        prometheus=_url(output, "prometheus", job),
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


def _url(output: Path, service: str, job: str) -> str | None:
    try:
        line, *_ = address_file(output, service, job).read_text("utf-8", "replace").split("\n")
        return f"http://{parse_address(line, service)}"
    except (OSError, BadAddress):
        return None
