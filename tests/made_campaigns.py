"""Campaigns made by arithmetic, in folders as orch.py leaves them: their truth is known."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from campaign import units
from campaign.design import product
from ledger.journal import Journal

SLOTS, RATE = "job.service.num_parallel", "load.rate"
MODEL = "job.service.model"
VARY = {SLOTS: [4, 8], RATE: [1.0, 2.0]}
PROCESS = units.Process(host="login1", pid=1, started="1")
#: A state that a repetition has instead of `done`, and its sentence, by cell and block.
Broken = Mapping[tuple[str, int], tuple[str, str]]


def figures_of(settings, block, noise, faster):
    """What a run has found: more slots make more tokens, a higher rate longer waits."""
    slots, rate = settings.get(SLOTS, 4), settings.get(RATE, 1.0)
    drift = 1 + 0.01 * (block - 1)
    model = 1.4 if str(settings.get(MODEL, "")).endswith("tiny") else 1.0

    def near(value):
        return value * random.Random(f"{settings} {block} {value} {noise}").gauss(1, noise)

    pace = near(40 * model / slots**0.3 / drift * faster)
    ttft = near(0.1 * rate * drift / faster)
    return {
        "throughput.output_tokens_per_second": near(60 * model * slots**0.5 / drift * faster),
        "per_request.output_tokens_per_second.mean": pace,
        "latency_seconds.ttft.mean": ttft,
        "latency_seconds.ttft.p99": near(ttft * 2),
        "latency_seconds.itl.p99": near(1.5 / pace),
        "latency_seconds.e2e.mean": near(ttft + 64 / pace),
        "goodput.share": min(1.0, 1.1 - ttft),
        "energy.joules": near(900 * slots**0.5),
        "energy.joules_per_output_token": near(0.9),
    }


def search_of(settings, block, knob):
    """What a search has found: twice the slots, and no noise worth a word."""
    load = 2 * settings[SLOTS] * (1 + 0.001 * (block % 2))
    return {f"search.{knob}": load, "search.low": load * 0.95, "search.high": load * 1.05}


def make_campaign(
    folder: Path,
    vary: Mapping[str, list[object]] = VARY,
    repetitions: int = 3,
    broken: Broken | None = None,
    missing: Iterable[tuple[str, int]] = (),
    noise: float = 0.005,
    faster: float = 1.0,
    searched: str | None = None,
    **asked: object,
) -> Path:
    """Write a campaign's ledger; return its folder. `broken`: repetitions that do not count;
    `missing`: those that are not done yet; `searched`: each is a search for it."""
    folder.mkdir(parents=True)
    given = {"recipe": "recipe.json", "vary": vary, "repetitions": repetitions, "seed": 1} | asked
    cells = product(vary)
    groups = {cell.key: f"slots {cell.settings.get(SLOTS)}" for cell in cells}
    planned = units.Planned(
        at=1000.0,
        campaign={"campaign": given},
        repetitions=repetitions,
        cells=[
            units.PlannedCell(
                key=cell.key, settings=dict(cell.settings), group=groups[cell.key], fingerprint="f"
            )
            for cell in cells
        ],
        conditions={"code version": "0.2.0", "recipe": "inference"},
        process=PROCESS,
    )
    entries: list[units.Entry] = [planned]
    for number, group in enumerate(dict.fromkeys(groups.values()), 1):
        entries += [
            units.Deploying(at=1000.0, group=group, number=number, gpus=2, jobs=2, process=PROCESS),
            units.Deployed(
                at=1100.0,
                group=group,
                number=number,
                id=f"t-{number}",
                began=1000.0,
                nodes=["gpu1"],
                conditions={"engine": "ollama 0.17.4"},
                fingerprint="d",
            ),
            units.Stopped(at=4600.0, group=group, number=number),
        ]
    places = [(block, cell) for block in range(1, repetitions + 1) for cell in cells]
    for place, (block, cell) in enumerate(places):
        if (cell.key, block) in set(missing):
            continue
        state, problem = (broken or {}).get((cell.key, block), ("done", None))
        done, figures = state == "done", figures_of(cell.settings, block, noise, faster)
        figures |= search_of(cell.settings, block, searched) if searched else {}
        entries.append(
            units.Measured(
                at=1200.0 + place,
                cell=cell.key,
                block=block,
                attempt=1,
                state=state,
                planned="f",
                deployed="d",
                run=f"{folder.name}-{place}",
                figures=figures if done else {},
                problem=problem,
                seconds=30.0,
            )
        )
    with closing(Journal(folder / units.LEDGER)) as journal:
        journal.add(*map(units.as_json, entries))
    return folder
