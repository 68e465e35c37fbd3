"""What is reported of the answers of those who ask by other APIs."""

import asyncio
import contextlib
import fcntl
import json
import os

import pytest

from client.compatible.__main__ import main
from client.compatible.bearers import Reporter
from client.compatible.http_server import Request

REPORTS, PATIENCE_S = 200, 30


def request(user):
    return Request("POST", "/v1/chat/completions", {b"orch-user": user.encode()}, b"")


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that is there before its reader."""
    at = tmp_path / "ended"
    os.mkfifo(at)
    return at


def test_more_reports_than_a_pipe_holds_wait_for_their_reader(pipe):
    async def reported(reader):
        report, found = Reporter(pipe), b""
        for number in range(REPORTS):
            report(request("ada"), {"completion_tokens": number})
        while found.count(b"\n") < REPORTS:
            with contextlib.suppress(BlockingIOError):
                found += os.read(reader, 65536)
            await asyncio.sleep(0.001)
        return [json.loads(line) for line in found.splitlines()]

    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    found = asyncio.run(asyncio.wait_for(reported(reader), PATIENCE_S))
    os.close(reader)
    assert [one["completion_tokens"] for one in found] == list(range(REPORTS))
    assert {one["user"] for one in found} == {"ada"}


def test_what_is_nobodys_is_not_reported(pipe):
    report = Reporter(pipe)
    report(request(""), {})
    report(request("bob"), {})
    with pipe.open("rb") as reader:
        assert json.loads(reader.readline())["user"] == "bob"


def test_a_pipe_that_is_not_there_is_named(tmp_path, capsys):
    at = tmp_path / "ended"
    words = ["--listen", "unix:/x", "--engine", "unix:/y", "--model", "m", "--report", str(at)]
    assert main(words) == 2
    assert f"--report {at} cannot be opened: No such file or directory." in capsys.readouterr().err
