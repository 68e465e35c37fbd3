"""Times of arrival are the kernel's, however late they are read; what is not sure is counted.

The other end is driven from the loop's own thread, so that the loop is late by as much as we wait.
"""

import asyncio
import socket
import struct
import time
from contextlib import contextmanager
from time import perf_counter

import pytest
from events import PATIENCE_S, undisturbed

from engines.ollama import OLLAMA
from loadgen.load import connection
from loadgen.load.connection import open_connection
from loadgen.measurements import RequestRecord

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT, FINAL = b'{"response":"a","done":false}\n', b'{"response":"","done":true}\n'
END = b"0\r\n\r\n"
LATE_S = 0.05
#: Two clocks are read one after the other, and the machine may be busy.
NEAR_S = 0.01


def chunk(line):
    """As HTTP frames it."""
    return b"%x\r\n%b\r\n" % (len(line), line)


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


def stamps_come(sock, peer):
    """The kernel begins with them a moment after the first socket has asked for them."""
    peer.send(b"x")
    _, notes, _, _ = sock.recvmsg(1, 64)
    return bool(notes)


@pytest.fixture(scope="module")
def kernel_stamps():
    """A socket that keeps the kernel stamping. Skips where it never does for TCP."""
    with listening() as listener, socket.create_connection(listener.getsockname()) as sock:
        peer, _ = listener.accept()
        sock.setsockopt(socket.SOL_SOCKET, connection._SO_TIMESTAMPNS, 1)
        until = time.monotonic() + 20
        while not stamps_come(sock, peer):
            if time.monotonic() > until:
                pytest.skip("this kernel stamps no segments of TCP (Linux 4.13 or later does)")
        yield
        peer.close()


async def until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "nothing was read"
        await asyncio.sleep(0.001)


def exchange(script, request=REQUEST):
    """A request whose answer `script(peer, read)` writes; `read(n)` lets the loop read until there
    are so many chunks. The record, and whether the connection can be used again."""

    async def run():
        record = RequestRecord(0, 0, perf_counter())
        with listening() as listener:
            ours = await open_connection([listener.getsockname()], PATIENCE_S, OLLAMA)
            peer, _ = listener.accept()
            with peer:
                asked = asyncio.ensure_future(ours.exchange(request, record, PATIENCE_S))
                await asyncio.sleep(0)

                async def read(chunks):
                    await until(lambda: len(record.answer.chunks) >= chunks)

                await script(peer, read)
                await asked
                usable = ours.usable
        ours.close()
        return record, usable

    return asyncio.run(run())


def send_and_be_late(peer, data):
    """Nothing is read for a while. When it was sent."""
    at = perf_counter()
    peer.send(data)
    time.sleep(LATE_S)
    return at


@undisturbed
def test_an_arrival_is_when_it_came_however_late_it_is_read(kernel_stamps):
    sent = []

    async def script(peer, read):
        for number, data in enumerate((HEAD + chunk(TEXT), chunk(TEXT), chunk(TEXT)), start=1):
            sent.append(send_and_be_late(peer, data))
            await read(number)
        sent.append(send_and_be_late(peer, chunk(FINAL) + END))

    record, usable = exchange(script)
    answer = record.answer
    assert [*answer.chunks, record.end] == pytest.approx(sent, abs=NEAR_S)
    assert (answer.unsure, answer.unsure_first, answer.unsure_end) == (0, False, False)
    assert usable and record.error is None


@undisturbed
def test_chunks_that_are_read_together_are_not_sure(kernel_stamps):
    sent = []

    async def script(peer, read):
        send_and_be_late(peer, HEAD + chunk(TEXT))
        sent.append(send_and_be_late(peer, chunk(TEXT)))
        await read(2)
        sent.append(send_and_be_late(peer, chunk(TEXT)))
        await read(3)
        peer.send(chunk(FINAL) + END)

    record, _ = exchange(script)
    first, second, third = record.answer.chunks
    assert first == second  # of the first is known only that it came before
    assert [second, third] == pytest.approx(sent, abs=NEAR_S)
    assert (record.answer.unsure, record.answer.unsure_first) == (2, True)


def test_a_first_chunk_that_came_alone_stays_sure(kernel_stamps):
    async def script(peer, read):
        peer.send(HEAD + chunk(TEXT))
        await read(1)
        send_and_be_late(peer, chunk(TEXT))
        send_and_be_late(peer, chunk(FINAL) + END)

    record, _ = exchange(script)
    answer = record.answer
    assert (answer.unsure, answer.unsure_first, answer.unsure_end) == (1, False, False)


def test_a_chunk_that_is_read_with_a_part_of_the_next_one_is_not_sure(kernel_stamps):
    async def script(peer, read):
        peer.send(HEAD + chunk(TEXT))
        await read(1)
        send_and_be_late(peer, chunk(TEXT))
        send_and_be_late(peer, chunk(TEXT)[:20])
        await read(2)
        peer.send(chunk(TEXT)[20:])
        await read(3)
        peer.send(chunk(FINAL) + END)

    record, _ = exchange(script)
    assert (record.answer.unsure, record.answer.unsure_first) == (1, False)


def test_without_stamps_it_is_the_time_of_reading_and_said_to_be_unsure(monkeypatch):
    monkeypatch.setattr(connection, "_SO_TIMESTAMPNS", 9999)  # no option of any kernel
    sent = []

    async def script(peer, read):
        sent.append(send_and_be_late(peer, HEAD + chunk(TEXT)))
        await read(1)
        sent.append(send_and_be_late(peer, chunk(FINAL) + END))

    record, usable = exchange(script)
    answer = record.answer
    assert answer.chunks[0] >= sent[0] + LATE_S and record.end >= sent[1] + LATE_S
    assert (answer.unsure, answer.unsure_first, answer.unsure_end) == (1, True, True)
    assert usable and record.error is None


@pytest.mark.parametrize("set_by_s", [-3600, 3600])
def test_a_clock_that_is_set_meanwhile_moves_no_arrival_beyond_its_neighbours(set_by_s):
    async def run():
        with listening() as listener:
            ours = await open_connection([listener.getsockname()], 1.0, OLLAMA)
            ours._now = before = perf_counter()
            stamp = struct.pack("@ll", int(time.time()) + set_by_s, 0)
            at = ours._stamped(stamp)
            ours.close()
            return before <= at <= perf_counter()

    assert asyncio.run(run())


def test_an_answer_before_the_request_is_sent_whole_leaves_no_connection_to_use_again():
    async def script(peer, read):
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    body = bytes(64 * 1024 * 1024)  # more than the buffers of both ends hold
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    record, usable = exchange(script, head + body)
    assert record.error == "http_413"
    assert not usable
