#!/usr/bin/env python3
"""Throughput of three replicas as a multiple of one's: by the load generator, and by /benchmark.

    .venv/bin/python benchmarks/replicas.py [--replicas 3] [--slots 4] [--seconds 8] [--runs 3]

The replicas are benchmarks/paced_server.py: they answer at a fixed pace and serve a fixed number of
requests at once, so that one replica's throughput is known, and what is measured is how well the
load is spread. Twice as many clients as slots keep every replica busy. Ends with 1 where a multiple
is more than 5 % from the number of replicas.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TTFT_S, ITL_S, TOKENS = 0.2, 0.02, 20
ANSWER_S = TTFT_S + TOKENS * ITL_S
TOLERANCE = 0.05

# Asked of (addresses, clients, requests, folder): requests per second.
Measure = Callable[[list[str], int, int, Path], float]


@contextlib.contextmanager
def replica(slots: int) -> Iterator[str]:
    """A stand-in in a process of its own; its host:port."""
    pace = [f"--ttft={TTFT_S}", f"--itl={ITL_S}", f"--tokens={TOKENS}", f"--slots={slots}"]
    command = [sys.executable, str(PROJECT / "benchmarks" / "paced_server.py"), *pace]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def by_loadgen(addresses: list[str], clients: int, requests: int, folder: Path) -> float:
    """`python3 -m loadgen` with a --url for each replica."""
    command = [sys.executable, "-m", "loadgen", "--model=known", f"--out={folder}", "--quiet"]
    command += [f"--clients={clients}", f"--requests={requests}"]
    command += [f"--url=http://{address}" for address in addresses]
    subprocess.run(command, cwd=PROJECT, check=True)
    return _rate(json.loads((folder / "summary.json").read_text()))


def by_service(addresses: list[str], clients: int, requests: int, folder: Path) -> float:
    """POST /benchmark of the client service, which reads the addresses from its file."""
    sys.path.insert(0, str(PROJECT))
    from haproxy import haproxy

    import clientService

    folder.mkdir()
    (folder / "ollama_ip_1.txt").write_text("".join(f"{address}\n" for address in addresses))
    os.environ.update(ORCH_OUTPUT_DIR=str(folder), ORCH_OLLAMA_JOB="1", ORCH_MODEL="known")
    body = {"n_clients": clients, "n_requests_per_client": requests // clients}
    with haproxy(len(addresses)) as door:
        os.environ["ORCH_DOOR"] = str(door)
        answer = clientService.create_app().test_client().post("/benchmark", json=body)
    return _rate(answer.get_json())


def _rate(summary: dict) -> float:
    if not summary["validity"]["valid"]:
        sys.exit(f"The run is not valid: {summary['validity']['reasons']}")
    return summary["throughput"]["requests_per_second"]


def compare(name: str, measure: Measure, given: argparse.Namespace, scratch: Path) -> bool:
    """Measure one and all replicas in turn, print both and their ratio; whether it is as it was."""
    rates: dict[int, list[float]] = {1: [], given.replicas: []}
    per_client = max(1, round(given.seconds / (2 * ANSWER_S)))
    for run in range(given.runs):
        for count in rates:
            clients = 2 * given.slots * count
            with contextlib.ExitStack() as stack:
                addresses = [stack.enter_context(replica(given.slots)) for _ in range(count)]
                folder = scratch / f"{name}-{count}-{run}"
                rates[count].append(measure(addresses, clients, clients * per_client, folder))
    one, all_of_them = (statistics.median(rates[count]) for count in rates)
    ratio = all_of_them / one
    ideal, off = given.slots / ANSWER_S, ratio / given.replicas - 1
    print(
        f"{name:<10} 1 replica {one:.2f} requests/s (ideal {ideal:.2f})   "
        f"{given.replicas} replicas {all_of_them:.2f}   ratio {ratio:.3f} ({off:+.1%})   "
        f"medians, n={given.runs} each"
    )
    return abs(off) <= TOLERANCE


def main() -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--replicas", type=int, default=3)
    p.add_argument("--slots", type=int, default=4, help="requests that a replica serves at once")
    p.add_argument("--seconds", type=float, default=8.0, help="of a run, about")
    p.add_argument("--runs", type=int, default=3)
    given = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ways = {"loadgen": by_loadgen, "benchmark": by_service}
        good = [compare(name, way, given, Path(scratch)) for name, way in ways.items()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
