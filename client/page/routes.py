"""The page's files, the links that let a browser in, and reports as it may show them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path

from flask import Flask, Response, request

from client.api.json_body import sent
from client.api.login_answers import Link
from client.errors import CannotWrite, NotAllowed, Unknown
from client.named_tokens import NamedTokens
from client.page.passes import Pass, links_of, sessions_of
from client.self_benchmark import authority_of
from client.settings import ServiceSettings
from contracts.load import RUN_ID
from contracts.named_tokens import ANYBODY, OWNER, read_tokens, tokens_folder

#: How long a link may be opened, and a session lasts: as a login's token does at most.
LINK_S, SESSION_S = 300, 7 * 86400
_HERE = Path(__file__).parent
_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
}
#: Nothing is loaded from elsewhere, and nothing elsewhere shows it in a frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: A report is made of others' words, too: it runs nothing, and has no part in the session.
_OF_REPORTS = {
    **_HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src "
    "data:; frame-ancestors 'none'",
}
_GONE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>This link opens nothing</title>
<main><h1>This link opens nothing</h1><p>It was opened before, or is older than five minutes. Have
another one printed by <code>orch.py --link</code>. If this browser is in already,
<a href="./">go on to the page</a>.</p></main></html>
"""


class Links:
    """Makes links for those who have a token, and sessions of links."""

    def __init__(self, settings: ServiceSettings, tokens: NamedTokens) -> None:
        """`tokens` tells the door of sessions."""
        self._deployment = str(settings.deployment)
        self._settings, self._door = settings, tokens
        self._tokens = tokens_folder(settings.output, self._deployment)
        self._links = links_of(self._tokens.parent)
        self._sessions = sessions_of(self._tokens.parent)
        self._one_at_a_time = threading.Lock()

    def make(self, user: str) -> Link:
        """Return a link for a bearer. Raises NotAllowed: the token was revoked just now;
        CannotWrite."""
        now = time.time()
        token = read_tokens(self._tokens).get(user)
        if token is None and user not in (OWNER, ANYBODY):
            raise NotAllowed(f"The token of {user} makes no links, or was revoked just now.")
        link = Pass(
            user=user,
            token=None if user in (OWNER, ANYBODY) or token is None else token.sha256,
            created=now,
            expires=now + LINK_S,
        )
        with self._one_at_a_time, _writing(self._tokens.parent):
            return Link(path=f"/open?code={self._links.add(link)}", expires=link.expires)

    def open(self, code: str) -> str | None:
        """Return the cookie of the session that a link begins, as a header; None if it is none, or
        was opened before. Raises CannotWrite."""
        with self._one_at_a_time, _writing(self._tokens.parent):
            link, now = self._links.take(code), time.time()
            if link is None or not link.valid(now, read_tokens(self._tokens)):
                return None
            session = link.model_copy(update={"created": now, "expires": now + SESSION_S})
            word = self._sessions.add(session)
        self._door.look()
        return self._cookie(word)

    def _cookie(self, word: str) -> str:
        """Without a path it is for the folder of what was asked for, wherever a proxy has that: a
        neighbour below the same host is not sent it."""
        cookie: SimpleCookie = SimpleCookie({f"orch_{self._deployment}": word})
        morsel = cookie[f"orch_{self._deployment}"]
        morsel["max-age"], morsel["httponly"], morsel["samesite"] = SESSION_S, True, "Strict"
        morsel["secure"] = authority_of(self._settings) is not None
        return morsel.OutputString()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raises CannotWrite for what a file system does not take."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{folder} takes no links or sessions: {error}.") from error


def add_page(
    app: Flask, settings: ServiceSettings, tokens: NamedTokens | None, user: Callable[[], str]
) -> None:
    """Add the page, and if there are tokens what lets a browser in; `user`: whose request it is."""

    @app.get("/page/<name>")
    def file(name: str) -> Response:
        if name not in _FILES:
            raise Unknown("The page has no such file.")
        return _answer((_HERE / name).read_bytes(), _FILES[name])

    @app.get("/benchmark/<run_id>/report.html")
    def report(run_id: str) -> Response:
        path = settings.output / "benchmarks" / run_id / "report.html"
        try:
            text = path.read_bytes() if RUN_ID.fullmatch(run_id) else b""
        except OSError:
            text = b""
        if not text:
            raise Unknown("There is no report of that benchmark.")
        return _answer(text, "text/html", _OF_REPORTS)

    _add_links(app, Links(settings, tokens) if tokens is not None else None, user)


def _add_links(app: Flask, links: Links | None, user: Callable[[], str]) -> None:
    @app.post("/links")
    def make() -> tuple[Response, int]:
        if links is None:
            raise Unknown("This service is of no deployment, and lets everybody in.")
        return sent(links.make(user()), 201)

    @app.get("/open", provide_automatic_options=False)
    def enter() -> Response:
        # Whoever only looks whether there is something opens nothing.
        code = request.args.get("code", "") if request.method == "GET" else ""
        cookie = links.open(code) if links and code else None
        if cookie is None:
            answer = _answer(_GONE.encode(), "text/html")
            answer.status_code = 401
            return answer
        answer = _answer(b"", "text/html")
        answer.status_code = 303
        answer.headers["Location"] = "./"
        answer.headers["Set-Cookie"] = cookie
        return answer


def _answer(body: bytes, kind: str, headers: dict[str, str] = _HEADERS) -> Response:
    return Response(body, mimetype=kind, headers=headers)
