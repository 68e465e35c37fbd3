"""The lines of an answer, of which each is parsed as it comes, whatever pieces the network makes of
them."""

from __future__ import annotations

from engines.engine import Engine
from engines.http.answers import MOST_HELD, TOO_LONG, Answers
from engines.json_values import error_text
from loadgen.measurements import RequestRecord

MAX_ERROR_BODY = 65_536
CLOSED = "the connection was closed before the end of the answer"
_RETURN = ord("\r")  # a number is found in bytes five times as fast as bytes are
_NO_STREAMS = ("application/json", "text/html", "text/plain")


class AnswerLines(Answers):
    """What comes of the answer to one request at a time, and is noted in its record. Whoever has a
    connection fills in how an answer ends."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._parse_line = engine.parse_line
        self._any_line_end = engine.events
        self._as_a_rule = False  # a 200 whose lines have one end alone
        self._record: RequestRecord | None = None
        self._rest: list[bytes] = []  # of a line that is not complete yet, or of an error's body
        self._held = 0  # bytes of it
        self._after_return = False  # whether a line ended with a carriage return, at a piece's end
        self._used = False
        self._now = 0.0
        self._heard = False  # a byte of this answer
        self._lines = 0  # in what was read last

    def expect(self, record: RequestRecord) -> None:
        """What comes next is the answer to that request."""
        self._record = record
        self._rest, self._held, self._after_return = [], 0, False
        self._heard = self._as_a_rule = False
        self.next_answer()

    def close(self) -> None:
        """Close the connection; a request on it ends as cut."""
        raise NotImplementedError

    def _may_be_kept(self) -> bool:
        """Return whether another request may follow on the connection."""
        raise NotImplementedError

    def _fail(self, error: str, message: str) -> None:
        """End the request as failed, and the connection, which is in no known state."""
        raise NotImplementedError

    def _end(self, error: str | None, message: str | None) -> None:
        """End the request."""
        raise NotImplementedError

    def surplus_begins(self) -> None:
        """Close: nobody knows what comes next."""
        self.close()

    def answer_begins(self) -> None:
        """The status is known."""
        if self._record is None:
            return
        if self._used and self.closed_idle:
            self._heard = False
            self._fail("cut", CLOSED)
            return
        self._record.http_status = self.status
        self._as_a_rule = self.status == 200 and not self._any_line_end
        if self.status in (101, 200) and (why := self.unreadable()) is not None:
            self._fail("bad_http", f"the server {why}")

    def on_body(self, body: bytes) -> None:
        """A piece of the body; it may hold several lines, or a part of one."""
        record = self._record
        if record is None:
            return None
        if self._as_a_rule and not self._rest and body.find(b"\n") == len(body) - 1:
            self._lines += 1  # as _line does, without its call
            try:
                self._parse_line(record.answer, body[:-1], self._now)
            except (ValueError, RecursionError) as error:
                self._fail("bad_json", f"{error}: {body[:100]!r}")
            return None
        if self.status != 200:
            return self._hold(body[: MAX_ERROR_BODY - self._held])
        if self._any_line_end and (_RETURN in body or self._after_return):
            body = self._with_line_feeds(body)
        at = body.find(b"\n")
        if at < 0:
            return self._hold(body)
        if self._rest:
            body = b"".join((*self._rest, body))
            self._rest, self._held = [], 0
        *lines, rest = body.split(b"\n")
        if rest:
            self._hold(rest)
        for line in lines:
            if (line or record.answer.held) and not self._line(record, line):
                return None
        return None

    def _hold(self, piece: bytes) -> None:
        """Until the rest of it comes."""
        if piece:
            self._rest.append(piece)
            self._held += len(piece)
        if self._held > MOST_HELD:
            self._fail("bad_json", f"the server {TOO_LONG} of a line")

    def _with_line_feeds(self, body: bytes) -> bytes:
        """Events may end their lines with CR LF, LF or CR; the two of one end may come apart."""
        if self._after_return and body.startswith(b"\n"):
            body = body[1:]
        self._after_return = body.endswith(b"\r")
        return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def answer_ends(self) -> None:
        """The answer is over."""
        record = self._record
        if record is None:
            return
        rest = b"".join(self._rest)
        if self.status != 200:
            self._end(f"http_{self.status}", self.refusal(error_text(rest)))
        elif rest and not self._line(record, rest):
            return
        elif record.answer.end is None:
            self._end("cut", f"the stream ended without its final chunk{self._no_stream()}")
        else:
            if record.answer.in_one_piece and self._no_stream():
                record.answer.error = "the answer came in one piece, though a stream was asked for"
            self._end(None, None)
        if not self._may_be_kept():
            self.close()

    def _no_stream(self) -> str:
        """What the answer is by its own word, if that is no stream."""
        kind = self.field("content-type").partition(";")[0].strip().lower()
        return f" (it is {kind})" if kind in _NO_STREAMS else ""

    def _line(self, record: RequestRecord, line: bytes) -> bool:
        self._lines += 1
        try:
            self._parse_line(record.answer, line, self._now)
        except (ValueError, RecursionError) as error:
            self._fail("bad_json", f"{error}: {line[:100]!r}")
            return False
        return True
