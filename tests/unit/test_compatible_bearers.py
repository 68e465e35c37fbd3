"""What is reported of the answers of those who ask by other APIs."""

import asyncio
import json
import socket

from client.compatible.bearers import Reporter
from client.compatible.http_server import Request

REPORTS = 60


def request(user):
    return Request("POST", "/v1/chat/completions", {b"orch-user": user.encode()}, b"")


def test_more_reports_than_linux_lets_wait_for_their_reader_come_all_the_same(tmp_path):
    at = tmp_path / "ended"

    async def reported():
        report = Reporter(at)
        for number in range(REPORTS):
            report(request("ada"), {"completion_tokens": number})
        loop = asyncio.get_running_loop()
        return [json.loads(await loop.sock_recv(reader, 2048)) for _ in range(REPORTS)]

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(at))
        reader.setblocking(False)
        found = asyncio.run(reported())
    assert [one["completion_tokens"] for one in found] == list(range(REPORTS))
    assert {one["user"] for one in found} == {"ada"}


def test_what_nobody_takes_is_lost_and_what_is_nobodys_is_not_reported(tmp_path):
    at = tmp_path / "ended"

    async def reported():
        report = Reporter(at)
        report(request("ada"), {})  # nobody is there
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
            reader.bind(str(at))
            reader.setblocking(False)
            report(request(""), {})
            report(request("bob"), {})
            return [json.loads(await asyncio.get_running_loop().sock_recv(reader, 2048))]

    assert [one["user"] for one in asyncio.run(reported())] == ["bob"]
