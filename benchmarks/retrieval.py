#!/usr/bin/env python3
"""How true and how fast search is: recall@k of the index against exact search, and its latency.

    .venv/bin/python benchmarks/retrieval.py [--points 5000] [--dimension 384] [--runs 3]
    .venv/bin/python benchmarks/retrieval.py --qdrant http://HOST:6333 --key-file FILE [--grpc 6334]

Without --qdrant the store is a folder (qdrant-client's local mode), which compares with all points:
there recall is 1 by its nature, and searches follow one another. With it, a server and its index.

The points are made: around CENTRES directions drawn at random, as texts gather around topics; the
questions are near some of the points. Recall@k is the share of the k nearest by exact search (done
here, with numpy) that the store's answer has. Then N threads search, one search after another, for
SECONDS; embedding and answering are not part of it. The collection is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from measuring import PROJECT, Figures

sys.path.insert(0, str(PROJECT))

from loadgen.measure.stats import percentile
from retrieval.chunks import point_id
from retrieval.points import Point
from retrieval.settings import RetrievalSettings
from retrieval.store import Store

COLLECTION = "orch_benchmark"
CENTRES, SPREAD = 200, 0.6
QUESTIONS = 200
LEVELS = (1, 2, 4, 8, 16, 32, 64)
BATCH = 256
#: The least that an index should find; below it, answers miss sources that exact search finds.
RECALL = 0.95


@dataclass(frozen=True)
class Data:
    """Vectors of points and of questions, each of length 1."""

    points: np.ndarray
    questions: np.ndarray

    def nearest(self, k: int) -> list[set[int]]:
        """The numbers of the k nearest points of each question, by exact search."""
        order = np.argpartition(-(self.questions @ self.points.T), k, axis=1)[:, :k]
        return [set(map(int, row)) for row in order]


def made(points: int, dimension: int, seed: int) -> Data:
    """The data set of a seed."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CENTRES, dimension))
    topics = centres[random.integers(CENTRES, size=points)]
    known = _unit(topics + SPREAD * random.standard_normal((points, dimension)))
    near = known[random.integers(points, size=QUESTIONS)] * np.sqrt(dimension)
    return Data(known, _unit(near + SPREAD * random.standard_normal((QUESTIONS, dimension))))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store: Store, data: Data) -> float:
    """Write all points; points/s."""
    store.prepare(data.points.shape[1])
    began = perf_counter()
    for start in range(0, len(data.points), BATCH):
        vectors = data.points[start : start + BATCH].tolist()
        store.upsert([_point(start + i, vector) for i, vector in enumerate(vectors)])
    return len(data.points) / (perf_counter() - began)


def _point(number: int, vector: list[float]) -> Point:
    key = point_id(COLLECTION, "made", "", number)
    return Point(key, vector, f"Text of point {number}. " * 20, "made", "", number)


def recall(store: Store, data: Data, k: int) -> float:
    """Mean share of the exact k nearest that the store finds."""
    shares = []
    for question, true in zip(data.questions, data.nearest(k), strict=True):
        found = {hit.position for hit in store.search(question.tolist(), k)}
        shares.append(len(found & true) / k)
    return statistics.mean(shares)


def load(
    store: Store, data: Data, k: int, threads: int, seconds: float
) -> tuple[float, list[float]]:
    """Searches per second, and their latencies, ascending, with so many in flight."""
    questions = data.questions.tolist()
    latencies: list[list[float]] = [[] for _ in range(threads)]
    begin = threading.Barrier(threads + 1)

    def search(own: list[float], number: int) -> None:
        begin.wait()
        until = perf_counter() + seconds
        while (began := perf_counter()) < until:
            store.search(questions[(number + len(own) * threads) % len(questions)], k)
            own.append(perf_counter() - began)

    workers = [
        threading.Thread(target=search, args=(own, number)) for number, own in enumerate(latencies)
    ]
    for worker in workers:
        worker.start()
    begin.wait()
    began = perf_counter()
    for worker in workers:
        worker.join()
    every = sorted(latency for own in latencies for latency in own)
    return len(every) / (perf_counter() - began), every


@contextlib.contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Store]:
    """The store, empty; it is emptied again at the end."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(
            RetrievalSettings(
                place=arguments.qdrant or folder,
                collection=COLLECTION,
                embedding_model="made",
                grpc_port=arguments.grpc,
                key_file=arguments.key_file,
            )
        )
        if store.points():
            sys.exit(f"There is a collection {COLLECTION} at {arguments.qdrant}; remove it first.")
        try:
            yield store
        finally:
            store.drop()
            store.close()


def measure(arguments: argparse.Namespace, seed: int, figures: Figures) -> None:
    """One run: fill, recall, load."""
    data, k = made(arguments.points, arguments.dimension, seed), arguments.top_k
    with opened(arguments) as store:
        figures.add("upserts, points/s", fill(store, data))
        figures.add(f"recall@{k}", recall(store, data, k), at_least=RECALL)
        for threads in LEVELS:
            rate, latencies = load(store, data, k, threads, arguments.seconds)
            figures.add(f"{threads:>2} in flight: searches/s", rate)
            for percent in (50, 99):
                name = f"{threads:>2} in flight: p{percent} ms"
                figures.add(name, 1000 * percentile(latencies, percent))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 where the recall is too low."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--qdrant", help="URL of a server")
    parser.add_argument("--grpc", type=int, help="its gRPC port")
    parser.add_argument("--key-file", type=Path, help="holds its API key, mode 600")
    parser.add_argument("--points", type=int, default=5_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--top-k", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each level")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args(argv)
    figures = Figures()
    for seed in range(arguments.runs):
        measure(arguments, seed, figures)
    where = arguments.qdrant or "a folder (local mode)"
    title = f"{arguments.points} points of {arguments.dimension} dimensions in {where}"
    return 0 if figures.report(title) else 1


if __name__ == "__main__":
    sys.exit(main())
