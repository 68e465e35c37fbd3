"""A campaign on real Slurm, killed again and again: the same command measures what is missing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from events import until
from project import Project

from campaign.units import Ledger, read

PATIENCE_S, CELLS, REPETITIONS = 900.0, 12, 3


def write(project: Project) -> str:
    """2 x 2 x 3 cells on four deployments, two of them at once."""
    recipe = Path(project.recipe("base.json", partition="cpu", client_partition="cpu", mem_gb=2,
                                 gpus=0, n_clients=1, n_requests_per_client=3))  # fmt: skip
    campaign = {
        "name": "slots",
        "recipe": str(recipe),
        "vary": {
            "job.service.num_parallel": [1, 2],
            "job.service.context_length": [1024, 2048],
            "load.num_predict": [2, 4, 8],
        },
        "repetitions": REPETITIONS,
        "parallel": 2,
    }
    path = project.folder / "slots.json"
    path.write_text(json.dumps({"campaign": campaign}))
    return str(path)


def measured(ledger: Ledger) -> int:
    return len(ledger.last())


#: When the command is killed: while it deploys, in the midst of a run, and in between.
MOMENTS: list[tuple[str, Callable[[Ledger], bool]]] = [
    ("a deployment is begun", lambda ledger: len(ledger.deploying) >= 1),
    ("a run goes on", lambda ledger: any(map(ledger.open_run, ledger.started))),
    ("5 runs are measured", lambda ledger: measured(ledger) >= 5),
    ("a deployment has ended", lambda ledger: measured(ledger) >= 8 and len(ledger.stopped) >= 3),
    ("25 runs are measured", lambda ledger: measured(ledger) >= 25),
]


def kill_when(reached: Callable[[], bool], what: str, project: Project, path: str) -> None:
    command = project.start(path, "--yes")
    until(lambda: command.poll() is not None or reached(), PATIENCE_S, what)
    assert command.poll() is None, command.end()
    command.send_signal(signal.SIGKILL)
    command.wait()


@pytest.mark.long
def test_killed_at_five_moments_each_repetition_is_measured_once(project: Project) -> None:
    path, folder = write(project), project.output / "campaigns" / "slots"
    for what, reached in MOMENTS:
        kill_when(lambda reached=reached: reached(read(folder)), what, project, path)  # type: ignore[misc]
    result = project.orch(path, "--yes", timeout=PATIENCE_S)
    assert result.returncode in (0, 6), result.stderr  # 6: the machine was too busy for a run
    ledger = read(folder)
    assert {unit: len(tries) for unit, tries in ledger.measured.items()} == dict.fromkeys(
        ledger.wanted, 1
    )
    assert len(ledger.wanted) == CELLS * REPETITIONS
    assert {one.state for one in ledger.last().values()} <= {"done", "invalid"}
    assert len(list((project.output / "benchmarks").glob("slots-*"))) == CELLS * REPETITIONS
    # Of itself it takes 4 + 2 x 2; a kill may cost those that were up and were not needed next.
    assert 8 <= len(ledger.deploying) <= 8 + 2 * len(MOMENTS)
    assert (folder / "report.html").exists()
    project.assert_nothing_left()
