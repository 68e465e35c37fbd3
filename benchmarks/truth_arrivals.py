"""Whether Poisson arrivals are Poisson: as planned, and as the server received them."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from known import known_server
from measuring import PROJECT, Run, load

BIN_S, SECONDS = 0.1, 15
RATES, PROCESSES, PLANNED_SEEDS = (50, 400), (1, 4), 200
#: What is late by d makes one gap longer and the next one shorter: a correlation of -(d / gap)^2,
#: so -0.01 for 0.25 ms of 2.5 ms. Less than this no queue can tell from none.
SMALL_LAG = 0.03


def dispersion(times: Sequence[float], seconds: float) -> float:
    """Variance by mean of the counts per bin: 1 for Poisson, more where arrivals clump."""
    bins = round(seconds / BIN_S)
    counts = Counter(min(bins - 1, max(0, int(at / BIN_S))) for at in times)
    every = [counts[number] for number in range(bins)]
    return statistics.variance(every) / statistics.mean(every)


def lag_1(times: Sequence[float]) -> float:
    """Correlation of each gap with the next one."""
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.correlation(gaps[:-1], gaps[1:])


def arrivals(runs: int) -> bool:
    """Each rate by 1 and by 4 processes, `runs` seeds each.

    One run's dispersion has a standard error of sqrt(2 / 149) = 0.12 whatever is done right, so
    the mean over the seeds is held to 1 +- 0.2, and each run to three standard errors.
    """
    good = [_planned(rate) for rate in RATES]
    for rate in RATES:
        for processes in PROCESSES:
            good.append(_received(rate, processes, runs))
    return all(good)


def _planned(rate: float) -> bool:
    """The schedule itself, of many seeds."""
    sys.path.insert(0, str(PROJECT))
    from loadgen.load import schedule
    from loadgen.load.prompts import Texts
    from loadgen.options import Options, parse_replica

    def of_seed(seed: int) -> list[float]:
        options = Options(
            replicas=(parse_replica("127.0.0.1"),), model="known", out=Path(), prompts=Texts(),
            clients=None, requests=None, rate=rate, arrivals="poisson", duration_seconds=SECONDS,
            seed=seed,
        )  # fmt: skip
        return list(schedule.arrivals(options))

    return _judge(f"{rate}/s as planned", rate, [of_seed(n) for n in range(PLANNED_SEEDS)])


def _received(rate: float, processes: int, runs: int) -> bool:
    schedules, late = [], []
    for seed in range(runs):
        with known_server(ttft=0.02, tokens=1) as server:
            how = (f"--rate={rate}", "--arrivals=poisson", f"--duration={SECONDS}")
            run = load(server, *how, f"--processes={processes}", seed=seed * 10_000)
        times = _since_start(run)
        schedules.append(sorted(times))
        intended = sorted(record["intended"] for record in run.records)
        late += [at - due for at, due in zip(sorted(times), intended, strict=True)]
    print(f"  {rate}/s, {processes} processes: sent late by p99 {_p99(late) * 1000:.2f} ms")
    return _judge(f"{rate}/s received, {processes} processes", rate, schedules)


def _since_start(run: Run) -> list[float]:
    """When the server received each request, from the start of the run; the start is where the
    promptest request was sent in no time."""
    seed = run.summary["provenance"]["options"]["seed"]
    received = {truth["seed"] - seed: truth["received"] for truth in run.truths}
    intended = {record["request"]: record["intended"] for record in run.records}
    start = min(received[number] - at for number, at in intended.items())
    return [received[number] - start for number in intended]


def _judge(name: str, rate: float, schedules: Sequence[Sequence[float]]) -> bool:
    spread = [dispersion(times, SECONDS) for times in schedules]
    expected, error = rate * SECONDS, math.sqrt(2 / (SECONDS / BIN_S - 1))
    off = [(len(times) - expected) / math.sqrt(expected) for times in schedules]
    lag = statistics.mean(lag_1(times) for times in schedules)
    of_lag = 1 / math.sqrt(sum(map(len, schedules)))
    limit = 3 if len(schedules) < 50 else 4.5  # of 200 seeds one is beyond 3 by chance
    good = (
        abs(statistics.mean(spread) - 1) <= 0.2
        and all(abs(one - 1) <= limit * error for one in spread)
        and all(abs(one) <= limit for one in off)
        and abs(lag) <= max(limit * of_lag, SMALL_LAG)
    )
    print(
        f"{name:<28} dispersion {statistics.mean(spread):.3f} ({min(spread):.3f} to "
        f"{max(spread):.3f}, n={len(spread)})  count off by {statistics.mean(off):+.2f} sigma "
        f"({min(off):+.2f} to {max(off):+.2f})  lag-1 {lag:+.4f} (sigma {of_lag:.4f})"
        f"{'' if good else '  MISSED'}"
    )
    return good


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int((len(values) - 1) * 0.99)]
