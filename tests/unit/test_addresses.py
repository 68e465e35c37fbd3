"""A name has several addresses: each is tried, and all are named where none takes a connection."""

import asyncio
import socket
from pathlib import Path
from time import monotonic

import pytest
from ports import free_port
from scripted_server import scripted

from client.errors import Unreachable
from client.ollama.requests import ReplicaClient
from contracts.errors import TargetError
from engines.http.sockets import addresses_of, connect, in_turn
from hpc import web
from loadgen.load import runner
from loadgen.load.prompts import Texts
from loadgen.load.replicas import Replicas
from loadgen.options import Options, parse_replica

DONE = b'{"response": "x", "done": true, "eval_count": 1}\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(DONE), DONE)
V4, V6, OTHER_V4 = "127.0.0.1", "::1", "127.0.0.2"


@pytest.fixture
def name(monkeypatch):
    """`name(*hosts)`: two.test has these addresses."""
    real = socket.getaddrinfo

    def give(*hosts):
        def found(host, port, *rest, **more):
            if host != "two.test":
                return real(host, port, *rest, **more)
            return [entry for h in hosts for entry in real(h, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return give


def load(url, **changes):
    options = Options(
        replicas=(parse_replica(url),), model="m", out=Path("unused"), prompts=Texts(), **changes
    )
    return runner.run(options, lambda team: None).records


def by_loadgen(port):
    assert [r.error for r in load(f"http://two.test:{port}", requests=3)] == [None] * 3


def by_client(port):
    assert ReplicaClient(lambda: "").generate(f"two.test:{port}", b"{}", 30)["done"]


def by_orchestration(port):
    assert web.call("GET", f"http://two.test:{port}/x").json["done"]


SPEAKERS = (by_loadgen, by_client, by_orchestration)


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("hosts", [(V6, V4), (OTHER_V4, V6, V4), (V4, V6), (V4, V4)])
def test_the_address_that_listens_is_found(name, hosts, speaker):
    name(*hosts)
    with scripted(OK, host=V4) as server:
        speaker(server.port)


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_server_of_ipv6_alone_is_found(name, speaker):
    name(V4, V6)
    with scripted(OK, host=V6) as server:
        speaker(server.port)


def test_a_literal_of_ipv6_is_a_host():
    with scripted(OK, host=V6) as server:
        assert [r.error for r in load(server.url)] == [None]
        assert web.call("GET", f"{server.url}/x").json["done"]
        assert b"\r\nHost: [::1]:%d\r\n" % server.port in server.heads[0]


def test_all_that_were_tried_are_named(name):
    name(V6, V4, OTHER_V4)
    port = free_port()
    all_three = rf"{V6}: Connection refused; {V4}: .* refused; {OTHER_V4}: .* refused"
    with pytest.raises(TargetError, match=all_three):
        load(f"http://two.test:{port}", warmup=1)
    with pytest.raises(TargetError, match=all_three):
        load(f"http://two.test:{port}", warmup=0)
    with pytest.raises(Unreachable, match=all_three):
        ReplicaClient(lambda: "").get(f"two.test:{port}", "/api/version")
    with pytest.raises(web.NoAnswer, match=all_three):
        web.call("GET", f"http://two.test:{port}/x")


def test_a_run_keeps_to_the_address_that_answered_first(name):
    name(OTHER_V4, V4)

    async def reached(replicas):
        connection = await replicas.connect(0)
        connection.close()
        return connection.address[0]

    async def twice(port):
        url = f"http://two.test:{port}"
        replicas = Replicas(
            Options(replicas=(parse_replica(url),), model="m", out=Path("unused"), prompts=Texts())
        )
        before = await reached(replicas)
        with scripted(OK, host=OTHER_V4, port=port):
            return before, await reached(replicas)

    with scripted(OK, host=V4) as server:
        assert asyncio.run(twice(server.port)) == (V4, V4)


def test_an_address_that_is_silent_has_its_share_of_the_time(name):
    """Its queue is full: the kernel drops what comes."""
    with socket.create_server((OTHER_V4, 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((OTHER_V4, port))
            waiting.append(one)
        name(OTHER_V4, V4)
        with scripted(OK, host=V4, port=port):
            began = monotonic()
            connect("two.test", port, 2.0).close()
            assert monotonic() - began > 0.9
        for one in waiting:
            one.close()


def test_shares_of_the_time_go_on_to_those_that_come_after():
    shares = [share for _, share in in_turn([("a", 1), ("b", 1), ("c", 1)], 9.0)]
    assert shares == [pytest.approx(share, rel=0.2) for share in (3.0, 4.5, 9.0)]


def test_the_interface_of_a_link_local_address_stays_with_it():
    index, interface = socket.if_nameindex()[0]
    assert addresses_of(f"fe80::1%{interface}", 80) == [(f"fe80::1%{index}", 80)]
