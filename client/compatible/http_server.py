"""The server's side of HTTP/1.1, by httptools: requests one after another on each connection, each
answered by a task, which is cancelled when the client goes.

What stands in front speaks HTTP as it should; what does not is closed. Each piece is one write: of
256 streams that were only passed on, uvicorn took 1.5 to 1.6 times the CPU, and the answers began
3 to 4 ms later.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import CORO_CREATED, getcoroutinestate
from typing import Protocol, cast

import httptools

from client.compatible.compact import compact
from client.compatible.errors import ApiError, BadRequest, TooLarge
from contracts.json_object import JsonObject

#: Bytes of a head, and of a body: a conversation, with images in it.
MAX_HEAD_BYTES, MAX_BODY_BYTES = 65_536, 33_554_432
JSON = "application/json"


@dataclass(slots=True)
class Request:
    """What a client asks; the fields of the head by their names in small letters. Of its answer:
    when it began to be made, and when the first piece of a stream came (time.monotonic)."""

    method: str = ""
    target: str = ""
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    came_at: float = 0.0
    first_at: float | None = None


class Source(Protocol):
    """What an answer comes from, which waits while the client is slow to take it."""

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read on."""


#: Does what it can at once, and returns the rest. Raises ApiError, as that may.
Handler = Callable[[Request, "ClientConnection"], Coroutine[object, object, None]]


class ClientConnection(asyncio.Protocol):
    """One connection of a client. To a handler it is what the request is answered on: by `answer`,
    or by `begin`, any number of `write`, and `end`."""

    def __init__(self, handler: Handler, connections: set[ClientConnection]) -> None:
        """`connections` are all that there are."""
        self._handler, self._connections = handler, connections
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._body: list[bytes] = []
        self._head_size = self._size = 0
        self._in_head = True
        self._task: asyncio.Task[None] | None = None
        self._rest: Coroutine[object, object, None] | None = None
        self._close = self._chunked = False
        self._full = False  # the client is slow to take what we write
        self._head = b""
        self._source: Source | None = None
        self.began = False
        #: Called when the client goes: also if the rest of a handler has not begun.
        self.on_gone: Callable[[], None] | None = None

    # --- for a handler ---

    @property
    def request(self) -> Request:
        """What is answered."""
        return self._request

    def answer(self, status: int, body: JsonObject, more: Mapping[str, str] = {}) -> None:
        """Answer with JSON."""
        self.send(status, JSON, compact(body), more)

    def send(self, status: int, kind: str, body: bytes, more: Mapping[str, str] = {}) -> None:
        """Answer with a whole body of that content type."""
        head = self._head_of(status, {"Content-Type": kind, **more})
        self.began = True
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))

    def begin(self, status: int, kind: str, source: Source) -> None:
        """Begin an answer whose length is not known; its head goes with its first piece."""
        head = self._head_of(status, {"Content-Type": kind, "Cache-Control": "no-cache"})
        self._head = head + (b"Transfer-Encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        self._source, self.began = source, True
        if self._full:
            source.pause()

    def write(self, piece: bytes) -> None:
        """Send a piece of it."""
        if piece:
            data = b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece
            self._transport.write(self._head + data)
            self._head = b""

    def end(self, last: bytes = b"") -> None:
        """Send the last piece: the answer is whole."""
        self._source = None
        data = b"%x\r\n%b\r\n" % (len(last), last) if last and self._chunked else last
        whole = b"0\r\n\r\n" if self._chunked else b""
        self._transport.write(b"%b%b%b" % (self._head, data, whole))

    def abort(self) -> None:
        """Break the answer off, so that nobody takes it for whole."""
        self._transport.abort()

    def close_after(self) -> None:
        """Close the connection when all is sent."""
        self._close = True

    def _head_of(self, status: int, fields: Mapping[str, str]) -> bytes:
        closing = {"Connection": "close"} if self._close else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**fields, **closing}.items())
        return f"HTTP/1.1 {status} {_phrase(status)}\r\n{lines}".encode("latin-1")

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._connections.add(self)
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)  # of uvloop's it is no subclass

    def data_received(self, data: bytes) -> None:
        """Asyncio's: a part of a request."""
        if self._in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest("There is no other protocol here than HTTP/1.1."))
        except httptools.HttpParserError:
            if self._task is not None:
                self._close = True
                return
            self._refuse(BadRequest("What was sent is no request of HTTP/1.1."))
        if self._in_head and self._head_size > MAX_HEAD_BYTES:
            self._refuse(TooLarge(f"The head of a request has at most {MAX_HEAD_BYTES} bytes."))

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio's: nobody waits for an answer any longer."""
        self._connections.discard(self)
        if self.on_gone is not None:
            self.on_gone()
        if self._task is not None:
            self._task.cancel()
        if self._rest is not None and getcoroutinestate(self._rest) == CORO_CREATED:
            self._rest.close()  # its task never begins

    def pause_writing(self) -> None:
        """Asyncio's: the client takes less than comes."""
        self._full = True
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        """Asyncio's: it has taken that."""
        self._full = False
        if self._source is not None:
            self._source.resume()

    # --- httptools' calls ---

    def on_message_begin(self) -> None:
        """Httptools'. A request before the last one is answered may be sent once more."""
        if self._task is not None:
            raise BlockingIOError
        self._request, self._body, self._size = Request(), [], 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Httptools': the target, or a part of it."""
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Httptools': a field of the head, or behind the body, where anybody may have written whose
        the request is: those are not for us."""
        if self._in_head:
            self._request.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Httptools': the head is over."""
        self._in_head, self._head_size = False, 0
        self._request.method = self._parser.get_method().decode()
        self._chunked = self._parser.get_http_version() != "1.0"
        self._close = not self._parser.should_keep_alive() or not self._chunked
        fields = self._request.fields
        length = fields.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            self._refuse(TooLarge(_TOO_LARGE))
        elif fields.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Httptools': a piece of the body."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self._refuse(TooLarge(_TOO_LARGE))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Httptools': the request is whole."""
        self._in_head = True
        if self._transport.is_closing():
            return
        self._request.body = b"".join(self._body)
        self._request.came_at = time.monotonic()
        self._body, self.began = [], False
        self._rest = rest = self._at_once(self._request)
        if rest is not None:
            self._task = self._loop.create_task(self._later(rest))
        elif self._close:
            self._transport.close()

    # --- one request ---

    def _at_once(self, request: Request) -> Coroutine[object, object, None] | None:
        """The rest of the handler; None if there is none."""
        try:
            return self._handler(request, self)
        except ApiError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001  # one request's; the others go on
            self._break()
        return None

    async def _later(self, rest: Coroutine[object, object, None]) -> None:
        try:
            await rest
        except ApiError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001  # one request's; the others go on
            self._break()
        finally:
            self._task = self._rest = self._source = self.on_gone = None
            if self._close:
                self._transport.close()

    def _break(self) -> None:
        traceback.print_exc()
        self._fail(ApiError("What has gone wrong here is in the log of this service."))

    def _fail(self, error: ApiError) -> None:
        """Tell the client; it sees an answer that has begun break off."""
        if self.began:
            self.abort()
        else:
            self.answer(error.status, error.as_body(self._request.target), error.headers)

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no request that could be served, and close."""
        if not self._transport.is_closing():
            self._close = True
            self.answer(error.status, error.as_body(self._request.target))
            self._transport.close()


_TOO_LARGE = f"A body has at most {MAX_BODY_BYTES} bytes."


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "-"
