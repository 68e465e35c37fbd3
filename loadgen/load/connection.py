"""One keep-alive connection to a replica: a request out, its answer's lines in, times taken.

The time of arrival is the kernel's: it stamps what the network hands over (SO_TIMESTAMPNS; for TCP
since Linux 4.13: Documentation/networking/timestamping.rst), so that it does not matter how much
later the program comes to read it. If the kernel gives none, it is the time of reading, before
anything is parsed.

The loop only tells that a socket can be read. A transport has no stamps, and uvloop's holds writes
back to the end of its turn: with a thousand clients that begin at once, the time noted would be
ahead of the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from time import perf_counter, time

from engines.engine import Engine
from engines.http.answers import BadAnswer
from engines.http.sockets import (
    NOTICE_DEATH,
    Address,
    host_is_gone,
    in_turn,
    in_words,
    none_answered,
)
from engines.http.tls import Tls, tls_error_words
from loadgen.load.answer_lines import CLOSED, AnswerLines
from loadgen.load.timer import Deadline
from loadgen.measurements import INTERRUPTED, RequestRecord

_SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h
_STAMP = struct.Struct("@ll")  # struct timespec, of CLOCK_REALTIME
_STAMP_SPACE = socket.CMSG_SPACE(_STAMP.size)
_MOMENT_S = 0.1  # in which no server finds a connection idle
_buffer = bytearray(65_536)  # one for all: what comes is parsed before the loop goes on
_received = memoryview(_buffer)


class Connection(AnswerLines):
    """A connection that carries one request at a time. Made by `open_connection`.

    `went_stale`: it was kept from an earlier request and closed before a byte of an answer. Servers
    close idle connections when they like, also as the next request is under way to them.
    """

    def __init__(
        self, sock: socket.socket, engine: Engine, address: Address, tls: Tls | None = None
    ) -> None:
        super().__init__(engine)
        self.address = address
        self.went_stale = False
        self._was_kept = False  # for another answer after its first one
        self._sock = sock
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._receive)
        self._open = True
        self._unsent = b""
        self._finished: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._fail)

    @property
    def usable(self) -> bool:
        """Return whether another request can be sent on it."""
        return self._open

    def probe(self) -> bool:
        """Return the same, having read what came since the loop last did: nothing should have.

        That is another call of the system, and spared a connection in full use: servers close
        either after the first answer, or one that has been idle.
        """
        if self._open and not (self._was_kept and perf_counter() - self._now < _MOMENT_S):
            self._receive()
        return self._open

    def close(self) -> None:
        """Close it at once; a request on it ends as cut."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._deadline.close()
        if self._record is not None:
            self._fail("cut", CLOSED)

    async def exchange(self, request: bytes, record: RequestRecord, timeout_s: float) -> None:
        """Send a request and note in `record` what comes, until it ends in one way or another.

        A record that has a time of sending keeps it: the timeout, too, counts from there.
        Raises nothing of the network: a failure is noted. Cancelled, it notes an interruption.
        """
        self._finished = self._loop.create_future()
        self.expect(record)
        try:
            self._send(request, record)
            if self._record is not None and record.sent is not None:
                self._deadline.set(record.sent, timeout_s)
            await self._finished
        except asyncio.CancelledError:
            self._fail(INTERRUPTED, "the run was stopped")
            raise
        finally:
            self._deadline.clear()
            self._was_kept, self._used = self._used, True

    def _send(self, request: bytes, record: RequestRecord) -> None:
        self._now = perf_counter()
        if record.sent is None:
            record.sent = self._now
        self._unsent = request if self._tls is None else self._tls.encrypted(request)
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
            self._fail("cut", f"its host is gone ({in_words(error)})" if gone else CLOSED)
            return
        if not length:
            self._hung_up()
            return
        self._now = self._stamped(notes[0][2]) if notes else perf_counter()
        if self._tls is None:
            self._process(_received[:length], bool(notes))
        else:
            self._process_encrypted(self._tls, _received[:length], bool(notes))

    def _process_encrypted(self, tls: Tls, data: memoryview, stamped: bool) -> None:
        """What can be read has come with the last piece of its record."""
        try:
            plain = tls.decrypted(data)
        except ssl.SSLError as error:
            self._fail("bad_http", f"with the server {tls_error_words(error)}")
            return
        replies = tls.replies()
        if replies:
            self._unsent += replies
            self._loop.add_writer(self._sock, self._send_on)
        if plain:
            self._process(memoryview(plain), stamped)
        if tls.closed and self._open:
            self._hung_up()

    def _hung_up(self) -> None:
        """The server closed the connection: an answer may end so."""
        if self._record is not None and self.ends_with_connection:
            self._now = perf_counter()
            self.answer_ends()
            self.close()
        else:
            self._fail("cut", CLOSED)

    def _stamped(self, stamp: bytes) -> float:
        """The kernel's stamp as a time of perf_counter."""
        now, clock = perf_counter(), time()
        seconds, nanoseconds = _STAMP.unpack(stamp)
        waited: float = clock - seconds - nanoseconds * 1e-9
        # Neither before what came before it nor after now, even if somebody sets the clock.
        return min(now, max(self._now, now - waited))

    def _process(self, data: memoryview, stamped: bool) -> None:
        if self._record is None:  # nobody asked: a 408, an answer too many
            return self.close()
        self._heard, self._lines = True, 0
        answer = self._record.answer
        before = len(answer.chunks)
        try:
            self.feed(data)
        except BadAnswer as error:
            self._fail("bad_http", f"the server {error}")
        together = self._lines > 1 or self._rest  # with a part of the next one, too
        if together or not stamped:
            answer.not_sure(before)
            answer.unsure_end = not stamped
        return None

    # --- ends ---

    def _may_be_kept(self) -> bool:
        return not self._unsent and self._parser.should_keep_alive()

    def _fail(self, error: str, message: str) -> None:
        """End the request as failed, and the connection, which is in no known state."""
        self._now = perf_counter()
        if self._record is not None:
            self._record.unanswered = error == "cut" and not self._heard
            self.went_stale = self._record.unanswered and self._used and message == CLOSED
        self._end(error, message)
        self.close()

    def _end(self, error: str | None, message: str | None) -> None:
        record, self._record = self._record, None
        if record is None or self._finished is None:
            return
        if record.answer.error is not None and record.http_status == 200:  # wherever it stood
            record.end, record.error = self._now, "server_error"
            record.message = record.answer.error[:300]
        elif record.answer.end is not None:  # the final chunk came: a cut after it does not matter
            record.end = record.answer.end
        else:
            record.end, record.error, record.message = self._now, error, message
        if not self._finished.done():
            self._finished.set_result(None)


async def open_connection(
    addresses: Sequence[Address],
    timeout_s: float,
    engine: Engine,
    secure: Callable[[], Tls] | None = None,
) -> Connection:
    """Connect to the first of the addresses of a host that takes a connection, in so much time for
    all of them; `secure` makes the TLS of one. Raises OSError or TimeoutError, which names all that
    were tried."""
    errors: list[OSError] = []
    for address, share in in_turn(addresses, timeout_s):
        try:
            tls = None if secure is None else secure()
            return Connection(await _connected(address, share, tls), engine, address, tls)
        except OSError as error:
            errors.append(error)
    raise none_answered(addresses, errors)


async def _connected(address: Address, timeout_s: float, tls: Tls | None) -> socket.socket:
    """A socket that is connected, and has shaken hands. Raises OSError or TimeoutError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        for option in NOTICE_DEATH:
            sock.setsockopt(*option)
        with contextlib.suppress(OSError):  # a kernel that has no stamps
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        await asyncio.wait_for(_greet(sock, address, tls), timeout_s)
    except asyncio.TimeoutError as error:  # in Python 3.10 not the built-in TimeoutError
        sock.close()
        raise TimeoutError(f"no connection in {timeout_s:g} s") from error
    except (OSError, asyncio.CancelledError):
        sock.close()
        raise
    return sock


async def _greet(sock: socket.socket, address: Address, tls: Tls | None) -> None:
    await asyncio.get_running_loop().sock_connect(sock, address)
    if tls is not None:
        await tls.shake_hands(sock)
