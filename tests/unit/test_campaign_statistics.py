"""What a campaign says of made-up repetitions whose truth is known."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from campaign.best import Limit, best
from campaign.cells import Cell, Observation
from campaign.noise import fit, values_of
from campaign.stability import stability
from campaign.statistics import LEVEL, analyse, contrast, estimates
from loadgen.compare import intervals

RATE, WAIT = "throughput.requests_per_second", "latency_seconds.ttft.p99"
SLOTS, CLIENTS = "job.service.num_parallel", "load.clients"


def cells(slots=(4, 8), clients=(16, 32)):
    return [Cell({SLOTS: s, CLIENTS: c}) for s in slots for c in clients]


def measured(of, blocks=5, effect=None, drift=1.0, noise=0.01, figure=RATE, seed=1, base=100.0):
    """Each cell once in each block: `effect` by the cells' keys, `drift` to the last block."""
    dice = np.random.default_rng(seed)
    return [
        Observation(
            cell.key,
            block,
            "done",
            {
                figure: base
                * (effect or {}).get(cell.key, 1.0)
                * drift ** ((block - 1) / (blocks - 1))
                * math.exp(dice.normal(0, noise))
            },
        )
        for block in range(1, blocks + 1)
        for cell in of
    ]


def test_a_cell_that_failed_takes_no_effect_away():
    """What the other pairs of cells say of its levels stays."""
    effect = {one.key: 1.5 if one.settings[SLOTS] == 8 else 1.0 for one in cells()}
    seen = [one for one in measured(cells(), effect=effect) if one.cell != cells()[3].key]
    found = {(one.factor, one.level): one for one in analyse(cells(), seen, [RATE]).effects}
    assert found.keys() == {(SLOTS, 8), (CLIENTS, 32)}
    assert {one.cells for one in found.values()} == {1}
    assert found[SLOTS, 8].of.ratio.value == pytest.approx(1.5, rel=0.05)


def test_an_estimate_is_the_geometric_mean_with_students_interval():
    seen = [Observation("a", n, "done", {RATE: value}) for n, value in enumerate((90, 100, 110), 1)]
    [found] = estimates(seen, RATE)
    logs = np.log([90, 100, 110])
    half = 4.3027 * logs.std(ddof=1) / math.sqrt(3)
    assert (found.cell, found.repetitions) == ("a", 3)
    assert found.value == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx(
        (math.exp(logs.mean() - half), math.exp(logs.mean() + half)), rel=1e-4
    )


def test_a_single_repetition_has_no_interval():
    [found] = estimates([Observation("a", 1, "done", {RATE: 5.0})], RATE)
    assert found.value == pytest.approx(5.0)
    assert (found.low, found.high) == (None, None)


def test_two_cells_are_compared_as_the_paired_t_test_does():
    a, b = np.array([10.0, 12.0, 14.0, 11.0]), np.array([11.5, 13.0, 16.5, 12.0])
    seen = [
        Observation(name, block, "done", {RATE: value})
        for name, values in (("n=1", a), ("n=2", b))
        for block, value in enumerate(values, 1)
    ]
    found = analyse([Cell({"n": 1}), Cell({"n": 2})], seen, [RATE], baseline="n=1")
    [change] = found.differences
    ratios = np.log(b / a)
    half = 3.18245 * ratios.std(ddof=1) / 2
    assert found.family == 1
    assert found.effects == []
    assert change.ratio.value == pytest.approx(math.exp(ratios.mean()))
    assert change.ratio.low == pytest.approx(math.exp(ratios.mean() - half), rel=1e-4)
    assert change.ratio.high == pytest.approx(math.exp(ratios.mean() + half), rel=1e-4)
    t = ratios.mean() / (ratios.std(ddof=1) / 2)
    assert change.p == pytest.approx(intervals.t_outside(t, 3))


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(12.706, 1, 0.05), (2.776, 4, 0.05), (5.598, 4, 0.005), (2.0, 1e4, 0.0455)],
)
def test_chances_of_students_t_are_those_of_the_tables(t, freedom, p):
    assert intervals.t_outside(t, freedom) == pytest.approx(p, rel=0.002)
    assert intervals.t_quantile(freedom, p / 2) == pytest.approx(t, rel=0.002)


def test_a_difference_is_real_exactly_if_its_interval_leaves_no_change_out():
    for seed in range(30):
        effect = {one.key: 1 + 0.004 * n for n, one in enumerate(cells())}
        found = analyse(cells(), measured(cells(), effect=effect, seed=seed), [RATE])
        for change in [*found.differences, *(one.of for one in found.effects)]:
            assert change.real == (not change.ratio.low <= 1 <= change.ratio.high)


def test_more_comparisons_make_wider_intervals():
    seen = measured(cells())
    one = analyse(cells(), seen, [RATE], baseline=cells()[0].key)
    all_pairs = analyse(cells(), seen, [RATE])
    assert (one.family, all_pairs.family) == (3 + 2, 6 + 2)
    assert all_pairs.differences[0].ratio.high > one.differences[0].ratio.high


def test_levels_are_compared_over_cells_that_differ_in_nothing_else():
    effect = {one.key: 1.5 if one.settings[SLOTS] == 8 else 1.0 for one in cells()}
    some = cells()[:-1]  # 8 slots with 32 clients is left out
    found = analyse(some, measured(some, effect=effect), [RATE], baseline=some[0].key).effects
    by_factor = {one.factor: one for one in found}
    assert by_factor[SLOTS].cells == by_factor[CLIENTS].cells == 1
    assert (by_factor[SLOTS].level, by_factor[SLOTS].reference) == (8, 4)
    assert by_factor[SLOTS].of.ratio.value == pytest.approx(1.5, rel=0.02)
    assert by_factor[SLOTS].of.real
    assert not by_factor[CLIENTS].of.real


def test_a_missing_repetition_brings_no_drift_into_a_comparison():
    """The slow last block lacks a cell, whose plain mean is therefore higher."""
    seen = measured(cells(), drift=0.5, noise=0.001)
    last = cells()[-1].key
    seen = [one for one in seen if (one.cell, one.block) != (last, 5)]
    seen.append(Observation(last, 5, "failed", problem="its engine did not start"))
    found = analyse(cells(), seen, [RATE], baseline=cells()[0].key)
    change = next(one for one in found.differences if one.cell == last)
    assert change.blocks == 4
    assert change.ratio.value == pytest.approx(1.0, rel=0.005)
    plain = {one.cell: one for one in estimates(seen, RATE)}
    assert plain[last].repetitions == 4
    assert plain[last].value > 1.05 * plain[cells()[0].key].value


def in_groups(of):
    """Cells of the same number of slots are served by one deployment."""
    slots = {cell.key: cell.settings[SLOTS] for cell in cells()}
    return [replace(one, group=f"slots {slots[one.cell]}") for one in of]


def test_cells_of_one_deployment_are_compared_by_what_they_do_not_share():
    """How each deployment came up makes groups differ, but not the cells of a group."""
    dice = np.random.default_rng(1)
    begun = {(slots, block): dice.normal(1, 0.1) for slots in (4, 8) for block in range(1, 6)}
    slots = {cell.key: cell.settings[SLOTS] for cell in cells()}
    seen = [
        replace(one, figures={RATE: one.figures[RATE] * begun[slots[one.cell], one.block]})
        for one in in_groups(measured(cells(), effect={cells()[1].key: 1.05}, noise=0.005))
    ]
    within, across, _ = analyse(cells(), seen, [RATE], baseline=cells()[0].key).differences
    assert within.real
    assert within.ratio.value == pytest.approx(1.05, rel=0.01)
    assert not across.real
    assert across.ratio.high / across.ratio.low > 1.2
    effects = {one.factor: one.of for one in analyse(cells(), seen, [RATE]).effects}
    assert effects[SLOTS].ratio.high / effects[SLOTS].ratio.low > 1.2
    assert effects[CLIENTS].ratio.high / effects[CLIENTS].ratio.low < 1.1


def test_a_table_with_nothing_missing_and_one_with_a_gap_are_judged_alike():
    """Least squares and the plain formula are the same: a cell that is nowhere adds nothing."""
    seen = in_groups(measured(cells()))
    gap = [*seen, replace(seen[0], cell="other", block=6), replace(seen[0], cell="other", block=7)]
    [whole, *_], [with_gap, *_] = (
        analyse(cells(), one, [RATE], baseline=cells()[0].key).differences for one in (seen, gap)
    )
    assert whole.ratio.value == pytest.approx(with_gap.ratio.value)
    assert whole.ratio.low == pytest.approx(with_gap.ratio.low, rel=0.01)


def test_cells_that_were_never_in_one_block_are_not_compared():
    seen = [
        Observation("n=1", 1, "done", {RATE: 1.0}),
        Observation("n=2", 2, "done", {RATE: 2.0}),
    ]
    assert analyse([Cell({"n": 1}), Cell({"n": 2})], seen, [RATE]).differences == []


def test_a_campaign_that_has_measured_nothing_says_nothing():
    found = analyse(cells(), [Observation(cells()[0].key, 1, "failed")], [RATE])
    assert (found.differences, found.effects) == ([], [])
    assert stability([], [RATE]) == []
    assert best([], RATE, "higher").cell is None


def test_an_invalid_repetition_counts_nowhere():
    seen = measured(cells())
    wrong = Observation(
        cells()[0].key, 6, "invalid", {RATE: 1e9}, problem="the client was too slow"
    )
    assert analyse(cells(), [*seen, wrong], [RATE]) == analyse(cells(), seen, [RATE])


def test_a_figure_that_may_be_0_is_compared_by_differences():
    seen = [
        Observation(f"n={n}", block, "done", {"failed": share})
        for n, shares in ((1, (0.0, 0.01, 0.0)), (2, (0.2, 0.22, 0.21)))
        for block, share in enumerate(shares, 1)
    ]
    [change] = analyse([Cell({"n": 1}), Cell({"n": 2})], seen, ["failed"], "n=1").differences
    assert change.ratio is None
    assert change.difference.value == pytest.approx(0.2067, abs=1e-4)
    assert change.real


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_a_figure_that_never_varies_is_no_difference(value):
    seen = [
        Observation(one.key, block, "done", {RATE: value}) for one in cells() for block in (1, 2, 3)
    ]
    found = analyse(cells(), seen, [RATE])
    assert [one.p for one in found.differences] == [1.0] * 6
    assert stability(seen, [RATE])[0].warning is None


def test_noise_beyond_all_numbers_makes_an_interval_and_no_error():
    two_deployments = cells(slots=(4, 8), clients=tuple(range(1, 13)))
    waits = [
        replace(one, group=one.cell.split()[0], figures={WAIT: one.figures[WAIT] * wave})
        for one in measured(two_deployments, blocks=2, figure=WAIT)
        for wave in [9.0 if (one.block == 1) == ("parallel=4" in one.cell) else 1.0]
    ]
    found = analyse(two_deployments, waits, [WAIT])
    assert not any(one.real for one in found.differences)
    assert all(0 < one.ratio.low < one.ratio.high < math.inf for one in found.differences)


def test_a_noisy_cell_is_known_for_its_noise():
    """By a variance for all, what is nothing but its noise would be a difference."""
    some = cells(slots=(1, 2, 4, 8, 16, 32), clients=(16,))
    steady, loud = measured(some, noise=0.005), measured(some, noise=0.3, seed=2)
    last = some[-1].key
    values = values_of(
        [more if one.cell == last else one for one, more in zip(steady, loud, strict=True)], RATE
    )
    variances = dict(zip(values.cells, fit(values).of_cell.variance, strict=True))
    assert variances.pop(last) > 5 * max(variances.values())


def test_drift_is_said_with_its_size():
    [found] = stability(measured(cells(), drift=0.8), [RATE])
    assert found.change.low < 0.8 < found.change.high
    assert [block for block, _ in found.blocks] == [1, 2, 3, 4, 5]
    assert found.warning.startswith("The machine drifted: throughput.requests_per_second fell by 2")
    [steady] = stability(measured(cells(), drift=1.0), [RATE])
    assert steady.warning is None


def test_the_best_cell_is_named_with_those_that_may_be_it():
    three = cells(slots=(1, 2, 4), clients=(16,))
    rates = measured(three, effect={three[0].key: 0.5, three[1].key: 1.001})
    found = best(rates, RATE, "higher")
    assert {found.cell.cell, *found.level_with} == {three[1].key, three[2].key}
    slowest = best(rates, RATE, "lower")
    assert (slowest.cell.cell, slowest.level_with) == (three[0].key, [])


def test_the_noise_is_fitted_once_however_many_cells_may_be_the_best(monkeypatch):
    fitted = []
    monkeypatch.setattr("campaign.best.fit", lambda of: fitted.append(of) or fit(of))
    best(measured(cells(slots=(1, 2, 4, 8))), RATE, "higher")
    assert len(fitted) == 1


@pytest.mark.parametrize("seed", range(4))
def test_whom_the_best_is_level_with_is_found_as_if_all_pairs_were_looked_at(seed):
    """With and without repetitions that are missing, in one deployment for each number of slots."""
    of, dice = cells(slots=(1, 2, 4), clients=(1, 2, 3, 4)), np.random.default_rng(seed)
    effect = {one.key: 1 + 0.02 * dice.integers(0, 4) for one in of}
    groups = {one.key: str(one.settings[SLOTS]) if seed % 2 else one.key for one in of}
    seen = [
        replace(one, group=groups[one.cell])
        for one in measured(of, effect=effect, seed=seed)
        if dice.random() > 0.1 * seed
    ]
    values = values_of(seen, RATE)
    noise, found = fit(values), best(seen, RATE, "higher")
    tail = LEVEL / (len(of) - 1)
    made = {
        (one, other): contrast(values, noise, [(one, other)], (one, other))
        for one, other in itertools.permutations(values.cells, 2)
    }
    worse = {other for (_, other), it in made.items() if it and it.value > it.half_width(tail)}
    rest = set(values.cells) - worse - {found.cell.cell}
    assert 0 < len(rest) < len(of) - 1 and set(found.level_with) == rest


def test_of_many_cells_those_pairs_are_told_that_have_the_best(monkeypatch):
    """Each as if all pairs were: nobody waits for half a million, or reads them."""
    of = cells(slots=(1, 2, 4, 8), clients=(1, 2, 3))
    seen = [one for one in measured(of, effect={of[5].key: 1.1}) if one.block < 5 or one.cell > "n"]
    every = analyse(of, seen, [RATE], reference=of[5].key)
    assert len(every.differences) == 12 * 11 / 2
    monkeypatch.setattr("campaign.statistics.MOST_PAIRED", 11)
    few = analyse(of, seen, [RATE], reference=of[5].key)
    assert (few.family, few.effects) == (every.family, every.effects)
    known = {frozenset((it.cell, it.against)): it for it in every.differences}
    assert len(few.differences) == 11
    for one in few.differences:
        same = known[frozenset((one.cell, one.against))]
        assert (one.p, one.blocks) == pytest.approx((same.p, same.blocks))
        turned = same.ratio.value if one.cell == same.cell else 1 / same.ratio.value
        assert one.ratio.value == pytest.approx(turned)


def test_a_cell_that_misses_a_limit_is_not_the_best():
    three = cells(slots=(1, 2, 4), clients=(16,))
    rates = measured(three, effect={three[2].key: 2.0})
    waits = measured(three, effect={three[2].key: 3.0}, figure=WAIT, base=0.3)
    both = [
        Observation(one.cell, one.block, "done", {**one.figures, **more.figures})
        for one, more in zip(rates, waits, strict=True)
    ]
    limit = Limit(WAIT, 0.5)
    found = best(both, RATE, "higher", [limit])
    assert found.cell.cell in (three[0].key, three[1].key)
    assert found.out == [(three[2].key, limit)]
    assert found.unsure == []
    tight = best(both, RATE, "higher", [Limit(WAIT, 0.1)])
    assert tight.cell is None
    [edge] = best(both, RATE, "higher", [Limit(WAIT, 0.301)]).unsure
    assert edge.bound == 0.301


def test_results_can_be_written_as_json():
    found = analyse(cells(), measured(cells()), [RATE])
    assert asdict(found)["differences"][0]["ratio"]["low"] > 0
