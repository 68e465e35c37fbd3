"""Simulated campaigns: false alarms, what is found, and what drift does with blocks and without.

Their noise is real: each repetition is one of the recorded runs of campaign_noise.csv, with all its
figures. Everything is seeded. The family is all that a campaign of 2 x 2 cells is asked: of each of
the four main figures 3 cells against the baseline, and 2 levels.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from campaign.cells import Cell, Observation
from campaign.statistics import analyse
from loadgen.measure.run_figures import BY_KEY, MAIN_FIGURES

CAMPAIGNS, BLOCKS = 200, range(1, 6)
FIGURES = [figure.key for figure in MAIN_FIGURES]
CELLS = [Cell({"slots": slots, "clients": clients}) for slots in (4, 8) for clients in (16, 32)]
BASELINE, CHANGED = CELLS[0].key, CELLS[3].key
RECORDED = Path(__file__).with_name("campaign_noise.csv")


def recorded(load):
    lines = [line for line in RECORDED.read_text().splitlines() if not line.startswith("#")]
    return [
        {key: float(line[key]) for key in FIGURES}
        for line in csv.DictReader(lines)
        if line["load"] == load
    ]


def campaign(dice, runs, drift=0.0, in_blocks=True, restarts=0.0):
    """Cells that are all the same, on a machine that slows down by `drift` from first to last, and
    that is by chance (`restarts`: how much) as fast as it is each time that a deployment begins."""
    units = [(cell, block) for block in BLOCKS for cell in CELLS]
    if in_blocks:
        units = [
            units[start + at]
            for start in range(0, len(units), len(CELLS))
            for at in dice.permutation(len(CELLS))
        ]
    else:  # a cell is done with before the next one begins
        units.sort(key=lambda unit: unit[0].key)
    begun = {(block, slots): dice.normal(0, restarts) for block in BLOCKS for slots in (4, 8)}
    seen = []
    for n, (cell, block) in enumerate(units):
        slots = cell.settings["slots"]
        speed = (1 - drift * n / (len(units) - 1)) * np.exp(begun[block, slots])
        figures = scaled(runs[dice.integers(len(runs))], speed)
        seen.append(Observation(cell.key, block, "done", figures, group=f"slots {slots}"))
    return seen


def scaled(figures, speed):
    """The figures of a server that does everything `speed` times as fast."""
    return {
        key: value * speed if BY_KEY[key].better == "higher" else value / speed
        for key, value in figures.items()
    }


def alarms(load, campaigns=CAMPAIGNS, **how):
    """The share of campaigns of equal cells in which any difference is called real."""
    dice, runs = np.random.default_rng(1), recorded(load)
    found = (
        analyse(CELLS, campaign(dice, runs, **how), FIGURES, BASELINE) for _ in range(campaigns)
    )
    alarmed = sum(
        any(one.real for one in [*each.differences, *(effect.of for effect in each.effects)])
        for each in found
    )
    return alarmed / campaigns


@pytest.mark.parametrize("load", ["closed", "open", "busy"])
def test_equal_cells_differ_in_at_most_one_campaign_of_twenty(load):
    assert alarms(load) <= 0.05


def test_how_a_deployment_came_up_is_no_effect_of_what_it_was_begun_with():
    assert alarms("closed", restarts=0.03) <= 0.05


def test_a_difference_of_a_tenth_is_found_with_five_repetitions():
    """Of a cell whose deployment has another one, too; every figure, p99 of TTFT as well."""
    dice, runs = np.random.default_rng(2), recorded("closed")
    found = dict.fromkeys(FIGURES, 0)
    for _ in range(CAMPAIGNS):
        seen = [
            replace(one, figures=scaled(one.figures, 1.1)) if one.cell == CHANGED else one
            for one in campaign(dice, runs)
        ]
        for one in analyse(CELLS, seen, FIGURES, BASELINE).differences:
            found[one.figure] += one.cell == CHANGED and one.real
    assert min(found.values()) >= CAMPAIGNS * 0.9


def test_a_difference_of_a_tenth_is_found_in_noise_of_a_fiftieth():
    dice, found = np.random.default_rng(3), 0
    for _ in range(CAMPAIGNS):
        seen = [
            Observation(
                cell.key,
                block,
                "done",
                {FIGURES[0]: (1.1 if cell.key == CHANGED else 1.0) * np.exp(dice.normal(0, 0.02))},
            )
            for block in BLOCKS
            for cell in CELLS
        ]
        # Compared with as many as there are with all four figures.
        made = analyse(CELLS, seen, FIGURES[:1] * len(FIGURES), BASELINE)
        found += next(one.real for one in made.differences if one.cell == CHANGED)
    assert found >= CAMPAIGNS * 0.9


def test_drift_is_an_effect_only_without_blocks():
    assert alarms("closed", drift=0.2) <= 0.05
    assert alarms("closed", drift=0.2, in_blocks=False, campaigns=20) >= 0.9
