"""A real campaign on this machine, killed in the midst: the same command does what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from events import until
from place import TINY, Place

from campaign.units import Ledger, read


@pytest.fixture
def campaign(place: Place) -> Path:
    """2 x 2 cells, twice: two deployments, side by side, that are up from the first block on."""
    service = {"model": str(TINY), "num_thread": 1, "n_clients": 1, "n_requests_per_client": 3}
    job = {"infrastructure": {"time": "10:00"}, "service": service,
           "monitoring": {"enabled": False}}  # fmt: skip
    path = place.folder / "slots.json"
    vary = {"job.service.num_parallel": [1, 2], "load.num_predict": [4, 8]}
    asked = {"recipe": {"job": job}, "vary": vary, "repetitions": 2, "parallel": 2}
    path.write_text(json.dumps({"campaign": asked}))
    return path


def ledger(place: Place) -> Ledger:
    return read(place.output / "campaigns" / "slots")


@pytest.fixture
def killed(place: Place, campaign: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The campaign's command, killed while a run goes on, after two have come to their end."""
    command = place.start(campaign, "--site", "local", "--yes")
    try:
        until(lambda: len(ledger(place).last()) >= 2 or command.poll() is not None)
        assert command.poll() is None, place.log()
        os.kill(command.pid, signal.SIGKILL)
        yield command
    finally:
        command.wait()


def test_after_a_kill_exactly_what_is_missing_is_measured(
    place: Place, campaign: Path, killed: subprocess.Popen[bytes]
) -> None:
    killed.wait()
    before = ledger(place)
    assert "not finished" in place.orch("--status").stdout
    result = place.orch(campaign, "--site", "local", "--yes")
    assert result.returncode in (0, 6), result.stderr  # 6: the machine was too busy for a run
    after = ledger(place)
    found: dict[Any, int] = {unit: len(tries) for unit, tries in after.measured.items()}
    assert found == dict.fromkeys(after.wanted, 1) and len(found) == 8
    for unit, tries in before.measured.items():
        assert after.measured[unit] == tries
    states = Counter(one.state for one in after.last().values())
    assert states["done"] + states["invalid"] == 8
    done = [one for one in after.last().values() if one.state == "done"]
    assert all(one.figures["throughput.output_tokens_per_second"] > 0 for one in done)
    assert len(list((place.output / "benchmarks").iterdir())) == 8  # none was asked for twice
    assert len(after.deployed) == 2  # what was up was used
    assert all(record["state"] == "stopped" for record in place.records())
    until(lambda: not place.processes())  # a job's runner ends after it has said so


def test_ctrl_c_stops_its_deployments_and_says_how_to_go_on(place: Place, campaign: Path) -> None:
    command = place.start(campaign, "--site", "local", "--yes")
    until(lambda: (place.output / "campaigns/slots/deployment-2.log").exists())
    command.send_signal(signal.SIGINT)
    assert command.wait(120) == 130, place.log()
    assert "what is missing is measured by the same command: python3 " in place.log()
    assert not any(record["state"] in ("ready", "starting") for record in place.records())
    until(lambda: not place.processes())  # a job's runner ends after it has said so
