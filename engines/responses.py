"""Answers of HTTP as the standard library reads them, for all that is asked beside a run."""

from __future__ import annotations

import http.client

NOT_ASKED = ", although only identity was asked for"


class FinalResponse(http.client.HTTPResponse):
    """The final one, whatever goes before it (RFC 9110, 15.2: "A client MUST be able to parse one
    or more 1xx responses"): http.client passes over 100 alone. For a connection's
    `response_class`."""

    def _read_status(self) -> tuple[str, int, str]:
        """Any informational answer as 100. Empty lines before it mean nothing (RFC 9112, 2.2)."""
        while self.fp.peek(1)[:1] in (b"\r", b"\n"):
            self.fp.readline(2)
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in typeshed
        informational = 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if informational else status, reason


def redirected(location: str) -> str:
    """Return what to say of a redirect, which is not followed: it leads to what was not named."""
    return f"it redirects to {location[:300]}: give that address"


def why_unreadable(response: http.client.HTTPResponse) -> str | None:
    """Return a sentence if its body is not what was asked for: it lies elsewhere, or is coded."""
    location, coding = (response.getheader(f, "") for f in ("Location", "Content-Encoding"))
    if 300 <= response.status < 400 and location:
        return redirected(location)
    if coding.lower() not in ("", "identity"):
        return f"it sent Content-Encoding: {coding}{NOT_ASKED}"
    return None
