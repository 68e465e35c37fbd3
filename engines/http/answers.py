"""Answers of HTTP/1.1 as RFC 9112 has them, by httptools: final ones, whatever goes before them.

Used by all that keep connections of their own: the load generator's event loop and the client
service's threads.
"""

from __future__ import annotations

import httptools

#: Bytes of one answer that are held at most, if it must be whole to be understood: a line of a
#: stream, or a body that is one JSON text.
MOST_HELD = 268_435_456
TOO_LONG = f"sent more than {MOST_HELD >> 20} MiB without an end"
_MOST_HEAD = 1_048_576
_TLS_ALERT, _HTTP_2 = b"\x15\x03", (b"\x00\x00", b"HTTP/2")
_SWITCHED, _REQUEST_TIMEOUT = 101, 408
_CODED = (b"content-encoding", b"transfer-encoding")
_CODINGS = (b"", b"identity", b"chunked")


class BadAnswer(OSError):
    """What came is no answer of HTTP that can be read. The text goes on where its sender stands."""


class Answers:
    """Reads the answer to each request of one connection. A subclass is told of it by
    `answer_begins`, `on_body` and `answer_ends`.

    `status`: of the answer, once that is known, else 0. `over`: it has come whole. `surplus`: more
    came than that.
    """

    def __init__(self) -> None:
        self._parser = parser = httptools.HttpResponseParser(self)
        # What RFC 9112 has a recipient take: 2.2 (LF alone), 5.2 (folded lines), 6.3 (both
        # lengths), 7.1.1 (blanks after a chunk's size); and a final answer after one that says
        # `Connection: close`, or is of HTTP/1.0, and was informational.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.status, self.over, self.surplus = 0, False, False
        self._fields: dict[bytes, bytes] = {}
        self._in_head = True
        self._head_size = 0

    # --- for a subclass ---

    def answer_begins(self) -> None:
        """Status and fields of a final answer are known."""
        raise NotImplementedError

    def on_body(self, body: bytes) -> None:
        """A piece of the body, as httptools has it: also of a surplus answer."""
        raise NotImplementedError

    def answer_ends(self) -> None:
        """It has come whole, so far as the connection tells."""
        raise NotImplementedError

    def surplus_begins(self) -> None:
        """An answer too many begins."""

    def feed(self, data: memoryview | bytes) -> None:
        """Take in what came. Raises BadAnswer."""
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > _MOST_HEAD:
                raise BadAnswer(f"sent a head of more than {_MOST_HEAD >> 10} KiB")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # 101, which the subclass was told of
        except httptools.HttpParserError as error:
            if not self.over:
                raise BadAnswer(self._what_it_is(bytes(data[:40]), error)) from error

    def next_answer(self) -> None:
        """A request is sent: no answer to it has begun."""
        self.status, self.over = 0, False

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer that has begun ends where the connection does (RFC 9112, 6.3)."""
        if not self.status or self._in_head or self.status in (_SWITCHED, 204, 304):
            return False
        codings = self._fields.get(b"transfer-encoding")
        if codings is not None:
            return not codings.lower().rstrip().endswith(b"chunked")
        return b"content-length" not in self._fields

    @property
    def closed_idle(self) -> bool:
        """Whether the answer means an idle connection that ends, not the request that crossed it
        (RFC 9110, 15.5.9): true of one on a kept connection."""
        return self.status == _REQUEST_TIMEOUT

    def field(self, name: str) -> str:
        """Return a field of the head, named in small letters; empty if it has none."""
        return self._fields.get(name.encode(), b"").decode("latin-1").strip()

    def unreadable(self) -> str | None:
        """Return why the body cannot be read, as a BadAnswer says it; None: it can."""
        if self.status == _SWITCHED:
            return f"switched to another protocol ({self.field('upgrade') or 'not named'})"
        for name in _CODED:
            codings = self._fields.get(name, b"")
            if codings in _CODINGS:  # one, or none, as a rule
                continue
            if any(coding.strip() not in _CODINGS for coding in codings.lower().split(b",")):
                from engines.http.asking import NOT_ASKED  # which loads http.client and more

                text = name.decode()
                return f"sent {text.title()}: {self.field(text)}{NOT_ASKED}"
        return None

    def refusal(self, words: str) -> str:
        """Return the server's `words` of an answer that is no 200, and what its head adds."""
        if 300 <= self.status < 400 and self.field("location"):
            from engines.http.asking import redirected

            return redirected(self.field("location"))
        why = self.unreadable()
        if why is not None:
            return f"the server {why}"
        challenge = self.field("www-authenticate") or self.field("upgrade")
        return f"{words} ({challenge})".strip() if challenge else words

    # --- httptools' calls ---

    def on_message_begin(self) -> None:
        """Httptools': any answer, also an informational one, or one that nobody asked for."""
        if self.over:
            self.surplus, self._in_head = True, False
            self.surplus_begins()
        else:
            self.surplus, self._in_head, self._fields = False, True, {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Httptools': a field; after the head they are trailers, which say nothing to us."""
        if self._in_head:
            name = name.lower().rstrip()
            before = self._fields.get(name)
            self._fields[name] = value if before is None else b"%b, %b" % (before, value)

    def on_headers_complete(self) -> None:
        """Httptools': the head is over."""
        self._in_head, self._head_size = False, 0
        status = self._parser.get_status_code()
        if (status >= 200 or status == _SWITCHED) and not self.over:
            self.status = status
            self.answer_begins()

    def on_message_complete(self) -> None:
        """Httptools': an answer is over."""
        if self.status and not self.over:  # it was a final one
            self.over = True
            self.answer_ends()
        self._in_head = True

    def _what_it_is(self, data: bytes, error: httptools.HttpParserError) -> str:
        if self.status or self._fields:
            return f"does not speak HTTP as it should ({error})"
        if data.startswith(_TLS_ALERT):
            return "does not speak HTTP: is it https?"
        if data.startswith(_HTTP_2):
            return "does not speak HTTP/1.1, but perhaps HTTP/2"
        return f"does not speak HTTP ({error}: {data!r})"
