"""A browser at a real door: the link that lets it in once, its cookie, and what a foreign page can
make it do."""

import contextlib
import json
import re
import socket
import time
from http.client import HTTPConnection

import pytest
from events import PATIENCE_S, until
from own_door import ALL, Door

from client.door import command
from contracts.named_tokens import NamedToken, digest_of, keep_token, remove_token

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BY_PAGE = {"Orch-Page": "1", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    made = Door(tmp_path_factory.mktemp("links"))
    try:
        made.start()
        made.engine.let.release(ALL)
        yield made
    finally:
        made.close()


def ask(door, method, path, head=(), body=None):
    """Status, head and text of an answer to whoever sends no token but in `head`."""
    connection = HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, data, {**kind, **dict(head)})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def link(door, word="owners-word"):
    status, _, text = ask(door, "POST", "/links", {"Authorization": f"Bearer {word}"})
    assert status == 201, text
    return json.loads(text)["path"]


def cookie(door, word="owners-word"):
    """What a browser sends that has opened a link."""
    status, head, _ = ask(door, "GET", link(door, word))
    assert status == 303
    return {"Cookie": f"other=1; {head['Set-Cookie'].partition(';')[0]}"}


def test_a_link_lets_one_browser_in_once(door):
    path = link(door)
    assert ask(door, "HEAD", path, HTML)[0] == 401, "who looks what it is has not opened it"
    status, head, text = ask(door, "GET", path, HTML)
    assert (status, head["Location"], text) == (303, "./", "")
    word, *attributes = head["Set-Cookie"].split("; ")
    assert re.fullmatch(r"orch_d-1=[A-Za-z0-9]{43}", word)
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    assert not any(one.startswith(("Path", "Domain")) for one in attributes)
    status, _, text = ask(door, "GET", path, HTML)
    assert status == 401
    assert "orch.py --link" in text
    status, head, text = ask(door, "GET", "/", {**HTML, "Cookie": word})
    assert (status, head.get_content_type()) == (200, "text/html")
    assert head["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_page_asks_for_nothing_that_is_elsewhere(door):
    me = cookie(door)
    for name in ("index.html", "page.css", "page.js"):
        status, head, text = ask(door, "GET", f"/page/{name}", me)
        assert (status, head["Cache-Control"]) == (200, "no-store")
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|(href|src)=\"/", text), name
    assert ask(door, "GET", "/page/passes.py", me)[0] == 404


@pytest.mark.parametrize("cookies", [{}, {"Cookie": f"orch_d-1={'x' * 43}"}])
def test_nobody_else_sees_anything(door, cookies):
    for path in ("/", "/page/index.html", "/page/page.js", "/health", "/state", "/events",
                 "/benchmark/a/report.html", "/v1/models", "/api/tags"):  # fmt: skip
        status, head, text = ask(door, "GET", path, {**HTML, **cookies})
        assert (status, head.get_content_type()) == (401, "text/html")
        assert "d-1" not in text
        assert "known" not in text
        assert ask(door, "GET", path, cookies)[0] == 401
    for path in ("/links", "/query", "/benchmark"):
        assert ask(door, "POST", path, {**BY_PAGE, **cookies}, {})[0] == 401


def test_the_page_asks_the_model_and_the_engine_never_sees_the_cookie(door):
    me = cookie(door)
    door.engine.heads.clear()
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    for path, body in (("/v1/chat/completions", chat), ("/api/generate", {"prompt": "Hello"})):
        assert ask(door, "POST", path, {**me, **BY_PAGE}, {"model": "known", **body})[0] == 200
    sent = {name.lower() for head in door.engine.heads for name in head}
    assert "authorization" in sent
    assert not sent & {"cookie", "orch-page"}


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Orch-Page": "1", "Sec-Fetch-Site": "same-site"},
        {"Orch-Page": "1", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_foreign_page_starts_nothing(door, head):
    me = cookie(door)
    door.engine.begun.clear()
    for method, path in (
        ("POST", "/query"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/api/generate"),
        ("POST", "/benchmark"),
        ("DELETE", "/benchmark/a"),
    ):
        assert ask(door, method, path, {**me, **head}, {"prompt": "Hello"})[0] == 403
    assert door.engine.begun == []


def test_a_cookie_is_no_token_and_a_token_is_no_cookie(door):
    me = cookie(door)
    word = me["Cookie"].rpartition("=")[2]
    assert ask(door, "GET", "/health", {"Authorization": f"Bearer {word}"})[0] == 401
    assert ask(door, "GET", f"/{word}/health")[0] == 401
    assert ask(door, "GET", "/health", {"Cookie": "orch_d-1=owners-word"})[0] == 401
    assert ask(door, "POST", "/links", {**me, **BY_PAGE})[0] == 403, "it prolongs itself"


@pytest.mark.parametrize(
    ("path", "head", "status"),
    [
        ("//links", {}, 403),
        ("/%6Cinks", {}, 404),
        ("/links%23", {}, 404),
        ("/benchmark/links", {"SCRIPT_NAME": "/benchmark"}, 405),  # /benchmark/ID is no POST
    ],
)
def test_no_other_spelling_of_a_path_is_past_the_rules_for_it(door, path, head, status):
    assert ask(door, "POST", path, {**cookie(door), **BY_PAGE, **head})[0] == status


def test_headers_of_a_proxy_that_is_not_there_break_nothing(door):
    contradictory = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"}
    for head in ({"SCRIPT_NAME": "/evil"}, contradictory):
        assert ask(door, "GET", "/health", {**head, "X-Api-Key": "owners-word"})[0] == 200
        assert ask(door, "GET", "/open", head)[0] == 401


def test_a_session_ends_with_its_bearers_token_for_good(door):
    owner, anna = cookie(door), cookie(door, door.give("anna"))
    assert ask(door, "GET", "/health", anna)[0] == 200
    remove_token(door.tokens, "anna")
    until(lambda: ask(door, "GET", "/health", anna)[0] == 401)
    other = NamedToken(sha256=digest_of("another-word"), created=time.time())
    keep_token(door.tokens, "anna", other)
    until(lambda: door.status("GET", "/health", "another-word") == 200)
    assert ask(door, "GET", "/health", anna)[0] == 401
    assert ask(door, "GET", "/health", owner)[0] == 200


@pytest.mark.parametrize(
    ("path", "count"), [("/open", 9), ("/owners-word/health", 9), ("/owners-word/state", 41)]
)
def test_a_body_that_does_not_come_keeps_nobody_waiting(door, path, count):
    """There are two threads for those who come with a link, whom no token tells apart; who sends
    nothing is let go after 30 s."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", door.port), PATIENCE_S)
            stack.enter_context(sock).sendall(head + bytes(40_000))
        asked = stack.enter_context(
            contextlib.closing(HTTPConnection("127.0.0.1", door.port, timeout=25))
        )
        asked.request("GET", path)
        assert asked.getresponse().status == (401 if path == "/open" else 200)


def test_who_comes_after_the_service_knows_its_sessions(door):
    me = cookie(door)
    door.service.kill()
    door.service.wait()
    command(door.folder / "commands", f"clear map {door.folder / 'sessions'}")
    assert ask(door, "GET", "/page/page.js", me)[0] == 401
    door.serve()
    until(lambda: ask(door, "GET", "/page/page.js", me)[0] == 200)


def test_without_tokens_a_foreign_page_starts_nothing_either(tmp_path):
    made = Door(tmp_path, OPEN=1)
    try:
        made.start()
        made.engine.let.release(ALL)
        assert ask(made, "GET", "/", HTML)[1].get_content_type() == "text/html"
        for head, status in (({}, 200), (BY_PAGE, 200), ({"Sec-Fetch-Site": "cross-site"}, 403)):
            assert ask(made, "POST", "/query", head, {"prompt": "Hello"})[0] == status
    finally:
        made.close()


def test_from_one_host_so_many_are_opened_in_a_minute(door):
    found = [ask(door, "GET", "/open?code=guessed")[0] for _ in range(61)]
    assert (found[0], found[-1]) == (401, 429)
    assert ask(door, "GET", "/health", {"Authorization": "Bearer owners-word"})[0] == 200
