#!/usr/bin/env python3
"""The least that a client can be, in each way that the field has: what an engine is compared with.

    python3 benchmarks/minimal_clients.py raw|urllib3|aiohttp PORT CLIENTS REQUESTS

Closed loop against Ollama's /api/generate; prints its figures as JSON. `raw` is the floor: a
socket's bytes are stamped and searched for the end of the answer, and nothing else is done. The
others read each line as JSON, as a load generator has to. aiohttp is no dependency of the project:
give its place by PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import gc
import json
import select
import socket
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise
from time import perf_counter

BODY = b'{"model": "known", "prompt": "Explain the sea.", "stream": true, "options": {"seed": 0}}'
REQUEST = (
    b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
END = b"\r\n0\r\n\r\n"


class Stamps:
    """Times of one answer: the request's sending, each arrival, the end."""

    __slots__ = ("arrivals", "end", "sent")

    def __init__(self) -> None:
        self.arrivals = array("d")
        self.sent = self.end = perf_counter()


def lines_into(stamps: Stamps) -> Callable[[bytes], None]:
    """Takes in pieces of a body and stamps its lines, each when its piece came."""
    rest = b""

    def take(piece: bytes) -> None:
        nonlocal rest
        now = perf_counter()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            chunk = json.loads(line)
            if chunk.get("response"):
                stamps.arrivals.append(now)
            if chunk.get("done"):
                stamps.end = now

    return take


# --- raw: one thread, epoll, no parsing ---


def raw(port: int, clients: int, requests: int) -> list[Stamps]:
    """Sockets and epoll; an arrival is a piece that recv gave."""
    poll, done = select.epoll(), []
    waiting: dict[int, tuple[socket.socket, Stamps]] = {}
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock, select.EPOLLIN)
        waiting[sock.fileno()] = (sock, Stamps())
    for fd, (sock, _) in waiting.items():
        waiting[fd] = (sock, Stamps())
        sock.send(REQUEST)
    begun = clients
    while len(done) < requests:
        for fd, _ in poll.poll():
            sock, stamps = waiting[fd]
            data = sock.recv(65536)
            stamps.arrivals.append(perf_counter())
            if not data.endswith(END):
                continue
            stamps.end = stamps.arrivals[-1]
            done.append(stamps)
            if begun < requests:
                begun += 1
                waiting[fd] = (sock, Stamps())
                sock.send(REQUEST)
    return done


# --- threads with urllib3 ---


def with_urllib3(port: int, clients: int, requests: int) -> list[Stamps]:
    """A thread for each client."""
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=clients, block=True)
    begin = threading.Barrier(clients)

    def client(number: int, done: list[Stamps]) -> None:
        begin.wait()
        for _ in range(number, requests, clients):
            stamps = Stamps()
            answer = pool.request("POST", "/api/generate", body=BODY, preload_content=False)
            take = lines_into(stamps)
            for piece in answer.stream():
                take(piece)
            answer.release_conn()
            done.append(stamps)

    lists: list[list[Stamps]] = [[] for _ in range(clients)]
    threads = [threading.Thread(target=client, args=item) for item in enumerate(lists)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [stamps for each in lists for stamps in each]


# --- aiohttp ---


def with_aiohttp(port: int, clients: int, requests: int) -> list[Stamps]:
    """A task for each client, on uvloop."""
    import aiohttp
    import uvloop

    done: list[Stamps] = []
    url = f"http://127.0.0.1:{port}/api/generate"

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        for _ in range(number, requests, clients):
            stamps = Stamps()
            async with session.post(url, data=BODY) as answer:
                take = lines_into(stamps)
                async for piece in answer.content.iter_any():
                    take(piece)
            done.append(stamps)

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(client(session, number) for number in range(clients)))

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main())
    return done


CLIENTS = {"raw": raw, "urllib3": with_urllib3, "aiohttp": with_aiohttp}


def distribution(values: Iterator[float]) -> dict[str, float]:
    """Mean, median and p99."""
    ordered = sorted(values)
    if not ordered:
        return dict.fromkeys(("mean", "p50", "p99"), 0.0)
    n = len(ordered)
    return {
        "mean": sum(ordered) / n,
        "p50": ordered[n // 2],
        "p99": ordered[int((n - 1) * 0.99)],
    }


def figures(done: list[Stamps]) -> dict[str, object]:
    """What a client reports."""
    seconds = max(s.end for s in done) - min(s.sent for s in done)
    gaps = (after - before for s in done for before, after in pairwise(s.arrivals))
    return {
        "requests_per_second": len(done) / seconds,
        "ttft": distribution(s.arrivals[0] - s.sent for s in done),
        "itl": distribution(gaps),
        "e2e": distribution(s.end - s.sent for s in done),
    }


if __name__ == "__main__":
    gc.freeze()
    name, *numbers = sys.argv[1:]
    print(json.dumps(figures(CLIENTS[name](*map(int, numbers)))))
