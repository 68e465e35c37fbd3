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


def test_a_report_of_nobodys_or_to_nobody_is_none(tmp_path):
    async def reported():
        report = Reporter(tmp_path / "nobody")
        report(request("ada"), {})
        report(request(""), {})

    asyncio.run(reported())
