"""One keep-alive connection to a replica: a request out, its answer's lines in, times taken.

The time of arrival is the kernel's: it stamps what the network hands over (SO_TIMESTAMPNS; for TCP
since Linux 4.13: Documentation/networking/timestamping.rst), so that it does not matter how much
later the program comes to read it. Where the kernel gives none, it is the time of reading, before
anything is parsed.

The loop only tells that a socket can be read. A transport has no stamps, and uvloop's holds writes
back to the end of its turn: with a thousand clients that begin at once, the time noted would be
ahead of the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from time import perf_counter, time

import httptools

from loadgen.answers import TakeLine, error_text
from loadgen.records import INTERRUPTED, Record
from loadgen.sockets import NOTICE_DEATH, host_is_gone, in_words

MAX_ERROR_BODY = 65_536
MAX_LINE = 1_048_576  # a line has a few hundred bytes: one so long is not of a stream of ours
_CLOSED = "the connection was closed before the end of the answer"

_SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h
_STAMP = struct.Struct("@ll")  # struct timespec, of CLOCK_REALTIME
_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size)
_buffer = bytearray(65_536)  # one for all: what comes is parsed before the loop goes on
_received = memoryview(_buffer)


class Connection:
    """A connection that carries one request at a time. Made by `open_connection`."""

    def __init__(self, sock: socket.socket, take_line: TakeLine) -> None:
        self._sock = sock
        self._take_line = take_line
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._receive)
        self._open = True
        self._unsent = b""
        self._parser = httptools.HttpResponseParser(self)
        self._record: Record | None = None
        self._ended: asyncio.Future[None] | None = None
        self._rest = b""  # of a line that is not complete yet, or of an error's body
        self._now = 0.0
        self._heard = False  # a byte of this answer
        self._lines = 0  # in what was read last

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        return self._open

    def close(self) -> None:
        """Close it at once; a request on it ends as cut."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
        if self._record is not None:
            self._fail("cut", _CLOSED)

    async def exchange(self, request: bytes, record: Record, timeout_s: float) -> None:
        """Send a request and note in `record` what comes, until it ends in one way or another.

        A record that has a time of sending keeps it: the timeout, too, counts from there.
        Raises nothing of the network: a failure is noted. Cancelled, it notes an interruption.
        """
        self._record, self._rest, self._ended = record, b"", self._loop.create_future()
        self._heard = False
        left = timeout_s if record.sent is None else timeout_s + record.sent - perf_counter()
        timer = self._loop.call_later(left, self._fail, "timeout", f"no end in {timeout_s:g} s")
        try:
            self._send(request, record)
            await self._ended
        except asyncio.CancelledError:
            self._fail(INTERRUPTED, "the run was stopped")
            raise
        finally:
            timer.cancel()

    def _send(self, request: bytes, record: Record) -> None:
        self._now = perf_counter()
        if record.sent is None:
            record.sent = self._now
        self._unsent = request
        self._send_some()
        if self._unsent and self._open:
            self._loop.add_writer(self._sock, self._send_on)

    def _send_on(self) -> None:
        """The loop's: there is room for more."""
        self._send_some()
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _send_some(self) -> None:
        """As much as goes at once."""
        try:
            done = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail("cut", f"while sending: {error.strerror}")
            return
        self._unsent = self._unsent[done:]

    def _receive(self) -> None:
        """The loop's: there are bytes, or an end."""
        try:
            length, notes, _, _ = self._sock.recvmsg_into((_buffer,), _STAMP_SPACE)
        except BlockingIOError:
            return
        except OSError as error:
            gone = host_is_gone(error)
            self._fail("cut", f"its host is gone ({in_words(error)})" if gone else _CLOSED)
            return
        if not length:
            self._fail("cut", _CLOSED)
            return
        self._now = self._stamped(notes[0][2]) if notes else perf_counter()
        self._take_in(_received[:length], stamped=bool(notes))

    def _stamped(self, stamp: bytes) -> float:
        """The kernel's stamp as a time of perf_counter."""
        now, clock = perf_counter(), time()
        seconds, nanoseconds = _STAMP.unpack(stamp)
        waited: float = clock - seconds - nanoseconds * 1e-9
        # Neither before what came before it nor after now, even where somebody sets the clock.
        return min(now, max(self._now, now - waited))

    def _take_in(self, data: memoryview, stamped: bool) -> None:
        self._heard, self._lines = True, 0
        answer = None if self._record is None else self._record.answer
        before = 0 if answer is None else len(answer.chunks)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("bad_http", str(error))
        together = self._lines > 1 or self._rest  # with a part of the next one, too
        if answer is not None and (together or not stamped):
            answer.not_sure(before)
            answer.unsure_end = not stamped

    # --- httptools' calls ---

    def on_headers_complete(self) -> None:
        """Httptools': the status is known."""
        if self._record is not None:
            self._record.http_status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Httptools': a piece of the body; it may hold several lines, or a part of one."""
        record = self._record
        if record is None:
            return None
        if record.http_status != 200:
            self._rest = (self._rest + body)[:MAX_ERROR_BODY]
            return None
        if not self._rest and body.find(b"\n") == len(body) - 1:  # one whole line, as a rule
            self._line(record, body[:-1])
            return None
        *lines, rest = (self._rest + body).split(b"\n")
        self._rest = rest
        if len(rest) > MAX_LINE:
            return self._fail("bad_json", "a line of the stream does not end")
        for line in lines:
            if line and not self._line(record, line):
                return None
        return None

    def on_message_complete(self) -> None:
        """Httptools': the answer is over."""
        record = self._record
        if record is None:
            return
        if record.http_status != 200:
            self._end(f"http_{record.http_status}", error_text(self._rest))
        elif self._rest and not self._line(record, self._rest):
            return
        elif record.answer.error is not None:
            self._end("server_error", record.answer.error[:300])
        elif record.answer.end is None:
            self._end("cut", "the stream ended without its final chunk")
        else:
            self._end(None, None)
        if self._unsent or not self._parser.should_keep_alive():
            self.close()

    # --- ends ---

    def _line(self, record: Record, line: bytes) -> bool:
        self._lines += 1
        try:
            self._take_line(record.answer, line, self._now)
        except (ValueError, RecursionError) as error:
            self._fail("bad_json", f"{error}: {line[:100]!r}")
            return False
        return True

    def _fail(self, error: str, message: str) -> None:
        """End the request as failed, and the connection, which is in no known state."""
        self._now = perf_counter()
        if self._record is not None:
            self._record.unanswered = error == "cut" and not self._heard
        self._end(error, message)
        self.close()

    def _end(self, error: str | None, message: str | None) -> None:
        record, self._record = self._record, None
        if record is None or self._ended is None:
            return
        if record.answer.end is not None:  # the final chunk came: what follows it does not matter
            record.end = record.answer.end
        else:
            record.end, record.error, record.message = self._now, error, message
        if not self._ended.done():
            self._ended.set_result(None)


async def open_connection(
    address: tuple[str, int], timeout_s: float, take_line: TakeLine
) -> Connection:
    """Connect to a numeric (host, port). Raises OSError or TimeoutError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        for option in NOTICE_DEATH:
            sock.setsockopt(*option)
        with contextlib.suppress(OSError):  # a kernel that has no stamps
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(sock, address), timeout_s)
    except asyncio.TimeoutError as error:  # in Python 3.10 not the built-in TimeoutError
        sock.close()
        raise TimeoutError(f"no connection in {timeout_s:g} s") from error
    except (OSError, asyncio.CancelledError):
        sock.close()
        raise
    return Connection(sock, take_line)
