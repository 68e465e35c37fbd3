"""Any server that speaks the API: its URL as people write it, TLS, and what it asks for to let us
in, which nobody gets to see."""

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contracts.errors import UsageError
from engines.http.headers import HIDDEN, Mask, headers_of, hide_values
from engines.registry import RETRIEVAL
from loadgen import arguments
from loadgen.load.protocols import Requests
from loadgen.load.schedule import Planned
from loadgen.options import parse_replica, parse_replicas

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-very-secret-0123456789"


# --- URLs ---


@pytest.mark.parametrize(
    ("url", "port", "path"),
    [
        ("https://h/v1", 443, "/v1/chat/completions"),
        ("https://h/v1/", 443, "/v1/chat/completions"),
        ("HTTPS://h", 443, "/v1/chat/completions"),
        ("http://h:8000/v1/chat/completions", 8000, "/v1/chat/completions"),
        ("http://h:8000/v1/models/", 8000, "/v1/chat/completions"),
        ("http://h/some/path/openai/v1", 80, "/some/path/openai/v1/chat/completions"),
        ("http://h/proxy", 80, "/proxy/v1/chat/completions"),
        ("https://h/v1beta/openai/", 443, "/v1beta/openai/chat/completions"),
        ("https://h/api/v3", 443, "/api/v3/chat/completions"),
        ("http://h/api/chat/completions", 80, "/api/chat/completions"),
        ("h:8000//v1//", 8000, "/v1/chat/completions"),
        ("http://h/a%20b/v1", 80, "/a%20b/v1/chat/completions"),
        ("  http://h:8000/v1\n", 8000, "/v1/chat/completions"),
        ("[::1]:8000/v1", 8000, "/v1/chat/completions"),
    ],
)
def test_base_urls_of_openais_api(url, port, path):
    request = head(url, "openai")
    assert request.startswith(f"POST {path} HTTP/1.1\r\n")
    assert parse_replica(url, "openai").port == port


@pytest.mark.parametrize(
    ("url", "port", "path"),
    [
        ("http://h", 11434, "/api/generate"),
        ("h", 11434, "/api/generate"),
        ("::1", 11434, "/api/generate"),
        ("https://h", 443, "/api/generate"),
        ("http://h/ollama", 80, "/ollama/api/generate"),
        ("http://h/ollama/", 80, "/ollama/api/generate"),
        ("http://h/ollama/api", 80, "/ollama/api/generate"),
        ("http://h:11434/api/chat", 11434, "/api/generate"),
        ("h:80/x", 80, "/x/api/generate"),
    ],
)
def test_base_urls_of_ollamas_api(url, port, path):
    assert head(url, "ollama").startswith(f"POST {path} HTTP/1.1\r\n")
    assert parse_replica(url).port == port


@pytest.mark.parametrize(
    ("url", "port", "root"),
    [
        ("http://h", 5000, ""),
        ("h:80/health", 80, ""),
        ("https://h/door/query", 443, "/door"),
    ],
)
def test_base_urls_of_a_client_service(url, port, root):
    replica = parse_replica(url, RETRIEVAL)
    assert (replica.port, replica.root) == (port, root)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h:8000/v1", "h:8000"),
        ("https://h/v1", "h"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[fe80::1%25eth0]:8000", "[fe80::1]:8000"),
        ("https://h:8443", "h:8443"),
    ],
)
def test_the_server_is_told_its_name(url, host):
    assert f"\r\nHost: {host}\r\n" in head(url, "openai")


@pytest.mark.parametrize(
    ("url", "api", "words"),
    [
        ("http://h/v1", "ollama", "give --api openai"),
        ("http://h/api/generate", "openai", "give --api ollama"),
        ("http://h/v1/completions", "openai", "/chat/completions"),
        ("http://h/v1?x=1", "openai", "without what follows"),
        ("ftp://h/v1", "openai", "give http://HOST:PORT"),
        ("http://h:0/v1", "openai", "give http://HOST:PORT"),
        ("http://h/v1 x", "openai", "a blank or a control character"),
        ("http://h/v1\r\nX: y", "openai", "a blank or a control character"),
        (f"https://me:{KEY}@h/v1", "openai", "--header @FILE"),
        (f"https://h/v1?key={KEY}", "openai", "without what follows"),
        (f"https://me:{KEY}/x@h/v1", "openai", "--url"),
    ],
)
def test_urls_that_are_refused_say_what_to_give_and_show_no_secret(url, api, words):
    with pytest.raises(UsageError) as caught:
        parse_replica(url, api)
    assert words in str(caught.value) and KEY not in str(caught.value)


def test_two_ways_to_write_one_server_are_one():
    with pytest.raises(UsageError, match="twice"):
        parse_replicas(["http://h:8000", "http://h:8000/v1/"], "openai")


# --- headers and keys ---


def options(*words):
    plain = ["--model", "m", "--out", "x", "--url", "http://h:8000"]
    return arguments.points(arguments.parse([*plain, *words]))[0]


def head(url, api, *words):
    """The head of a request."""
    made = options("--api", api, *words)
    replaced = {**vars(made), "replicas": (parse_replica(url, api),)}
    return Requests(type(made)(**replaced)).bytes_of(Planned(0, 0, 0.0, 1), 0).decode()


def given(*headers, token=None, api="openai", environment=None):
    return headers_of(headers, token, api, environment or {})


def test_a_key_comes_from_a_file_or_from_the_apis_variable(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"\ufeff{KEY}\r\n")
    file.chmod(0o600)
    bearer = (("Authorization", f"Bearer {KEY}"),)
    assert given(token=file) == (bearer, [])
    assert given(token=file, environment={"OPENAI_API_KEY": "another"})[0] == bearer
    assert given(environment={"OPENAI_API_KEY": f" {KEY}\n"})[0] == bearer
    assert given(environment={"OLLAMA_API_KEY": KEY}, api="ollama")[0] == bearer
    assert given(environment={"OPENAI_API_KEY": KEY}, api="ollama")[0] == ()
    assert given("authorization: mine", environment={"OPENAI_API_KEY": KEY})[0] == (
        ("authorization", "mine"),
    )


def test_a_secret_file_that_others_can_read_is_warned_of(tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    assert f"chmod 600 {file}" in given(token=file)[1][0]
    file.write_text(f"X: {KEY}")
    assert f"chmod 600 {file}" in given(f"@{file}")[1][0]


def test_headers_of_a_file_are_one_a_line(tmp_path):
    file = tmp_path / "headers"
    file.write_text(f"api-key: {KEY}\r\n\r\nX-Tenant:  blue  \n")
    assert given(f"@{file}", "A: b")[0] == (("api-key", KEY), ("X-Tenant", "blue"), ("A", "b"))


def test_headers_reach_the_server_and_take_the_place_of_ours():
    request = head("http://h/v1", "openai", "--header", "User-Agent: me", "--header", "X-A: 1")
    assert request.count("User-Agent") == 1
    assert "\r\nUser-Agent: me\r\n" in request and "\r\nX-A: 1\r\n" in request


@pytest.mark.parametrize(
    "header",
    [
        f"X: {KEY}\r\nY: z",
        f"X {KEY}",
        KEY,
        f"a b: {KEY}",
        f"X: {KEY}\x00",
        f"Content-Length: {KEY}",
    ],
)
def test_headers_that_cannot_be_are_refused_without_being_shown(header):
    with pytest.raises(UsageError) as caught:
        given(header)
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", f"{KEY} {KEY}", f"{KEY}\n{KEY}\n"])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(UsageError, match="one key") as caught:
        given(token=file)
    assert KEY not in str(caught.value)


def test_a_key_in_the_command_line_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="--token-file") as caught:
        options("--api-key", KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", [KEY, f"Bearer {KEY}"])
def test_what_a_server_repeats_of_a_secret_is_hidden(value):
    mask = Mask((("X", value),))
    for text in (f"bad key {KEY}!", f"bad: {value}", f"cut at {KEY[:12]}", f"b'..{KEY[:9]}'"):
        assert HIDDEN in mask(text) and "sk-ver" not in mask(text)
    assert mask("nothing of it") == "nothing of it"


def test_a_password_of_basic_is_hidden_as_well():
    coded = base64.b64encode(f"me:{KEY}".encode()).decode()
    mask = Mask((("Authorization", f"Basic {coded}"),))
    assert mask(f"{KEY} or {coded}") == f"{HIDDEN} or {HIDDEN}"


def test_short_values_are_hidden_as_words_alone():
    mask = Mask((("X-Tenant", "a"),))
    assert mask("tenant a has a cat") == f"tenant {HIDDEN} has {HIDDEN} cat"


def test_a_command_line_is_shown_with_the_names_of_headers():
    words = ["--header", f"X: {KEY}", f"--header=Y: {KEY}", "--header", "@file", "--url", "u"]
    assert hide_values(words) == [
        "--header", f"X: {HIDDEN}", f"--header=Y: {HIDDEN}", "--header", "@file", "--url", "u",
    ]  # fmt: skip


# --- a server that asks for a key, by TLS ---


class _Handler(BaseHTTPRequestHandler):
    """Speaks OpenAI's API below /gateway/v1, repeats a wrong key, and notes what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self._send(200, json.dumps({"data": [{"id": "m"}], "version": "v"}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Authorization"]
        self.server.asked.append((self.path, key))
        if key != f"Bearer {KEY}":
            words = {"error": {"message": f"Incorrect API key provided: {key}."}}
            self._send(401, json.dumps(words).encode())
            return
        chunks = [{"choices": [{"delta": {"content": "a"}}]}] * 3
        usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in (*chunks, usage)]
        self._send(200, "".join([*events, "data: [DONE]\n\n"]).encode())

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.context = [], context
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def finish_request(self, request, client_address):
        if self.context is not None:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, *_):
        pass  # a client that does not trust us


@pytest.fixture
def serve(certificates):
    """Start a server with a certificate, or without one."""
    started = []

    def begin(name=None):
        context = None
        if name is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / f"{name}.pem")
        started.append(_Server(context))
        return started[-1], started[-1].server_port

    yield begin
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def load(tmp_path):
    """Run the load generator with OpenAI's API; (exit code, all that it said and wrote)."""

    def run(url, *words, **environment):
        out = tmp_path / "out"
        command = [sys.executable, "-m", "loadgen", "--api", "openai", "--model", "m", "--url", url]
        command += ["--out", str(out), "--requests", "4", "--clients", "2", *words]
        plain = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        done = subprocess.run(
            command, cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        written = [path.read_text("utf-8") for path in out.rglob("*") if path.is_file()]
        assert "Traceback" not in done.stderr
        return done.returncode, "\n".join([done.stdout, done.stderr, *written])

    return run


def test_a_server_behind_tls_and_a_path_with_an_own_ca_and_a_key(
    serve, load, certificates, tmp_path
):
    server, port = serve("good")
    code, all_said = load(
        f"https://127.0.0.1:{port}/gateway/v1/", "--ca", certificates / "ca.pem",
        "--processes", "2", OPENAI_API_KEY=KEY,
    )  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert code in (0, 6) and summary["requests"]["succeeded"] == 4
    assert summary["provenance"]["options"]["headers"] == ["Authorization"]
    assert summary["provenance"]["server"]["before"][0]["digest"] == "m"
    assert KEY not in all_said
    asked = {path for path, _ in server.asked}
    assert asked == {f"/gateway/{end}" for end in ("v1/chat/completions", "v1/models", "version")}
    assert {key for _, key in server.asked} == {f"Bearer {KEY}"}


def test_the_monitorings_login_is_in_nothing_that_is_written(serve, load, certificates, tmp_path):
    login = tmp_path / "login"
    login.write_text("Authorization: Basic b3JjaDpzZWNyZXQ=\n")
    login.chmod(0o600)
    _, port = serve("good")
    code, all_said = load(
        f"https://localhost:{port}/v1", "--ca", certificates / "ca.pem",
        "--monitoring-login", login, OPENAI_API_KEY=KEY,
    )  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert code in (0, 6)
    assert summary["provenance"]["options"]["monitoring_login"] == ["Authorization"]
    assert "b3JjaDpzZWNyZXQ=" not in all_said


def test_the_systems_variable_names_a_ca_as_well(serve, load, certificates):
    _, port = serve("good")
    trusted = {"SSL_CERT_FILE": str(certificates / "ca.pem"), "OPENAI_API_KEY": KEY}
    code, _ = load(f"https://localhost:{port}/v1", "--no-reuse", "--no-report", **trusted)
    assert code in (0, 6)
    code, said = load(f"https://localhost:{port}/v1", SSL_CERT_FILE="/nonexistent/ca.pem")
    assert code == 2 and "SSL_CERT_FILE" in said


@pytest.mark.parametrize(
    ("name", "trusts", "words"),
    [
        ("good", False, "not trusted"),
        ("other", True, "another host's"),
        ("old", True, "not valid now"),
        (None, True, "is it http://?"),
    ],
)
def test_why_there_is_no_tls_is_one_sentence(serve, load, certificates, name, trusts, words):
    _, port = serve(name)
    ca = ("--ca", certificates / "ca.pem") if trusts else ()
    code, said = load(f"https://127.0.0.1:{port}/v1", *ca, "--no-report")
    assert code == 4 and words in said and len(said.strip().splitlines()) == 1
    assert ("--ca" in said) == (not trusts)


def test_http_to_a_server_of_https_is_one_sentence_as_well(serve, load):
    _, port = serve("good")
    code, said = load(f"http://127.0.0.1:{port}/v1", "--no-report")
    assert code == 4 and len(said.strip().splitlines()) == 1, said
    assert "https" in said


def test_a_ca_that_is_none_is_a_wrong_option(load, tmp_path):
    (tmp_path / "none.pem").write_text("no certificate")
    for file in ("none.pem", "missing.pem"):
        code, said = load("https://127.0.0.1:9/v1", "--ca", tmp_path / file)
        assert code == 2 and file in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("warmup", ["0", "1"])
def test_a_key_that_a_server_repeats_is_in_no_output(serve, load, warmup):
    _, port = serve()
    wrong = KEY + "-wrong"
    header = f"Authorization: Bearer {wrong}"
    code, said = load(
        f"http://127.0.0.1:{port}/v1", "--header", header, "--warmup", warmup, "--json-progress"
    )
    assert code == (4 if warmup == "1" else 6)
    assert "Incorrect API key provided: ***" in said and KEY not in said
