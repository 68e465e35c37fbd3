"""HTTP as RFC 9112 has it, for all that speak it: the same answers, the same outcome."""

import gzip
import http.client
import json
import subprocess
from pathlib import Path

import pytest
from scripted_server import scripted

from client.engine_apis.ollama import OllamaApi
from client.errors import OllamaFailed
from client.ollama.requests import ReplicaClient
from client.ollama.responses import Response, Server
from client.ollama.streams import lines
from engines.http.answers import Answers, BadAnswer
from engines.http.asking import FinalResponse
from hpc import web
from loadgen.load import runner
from loadgen.load.prompts import Texts
from loadgen.options import Options, parse_replica
from loadgen.outputs import prometheus, push

ROOT = Path(__file__).resolve().parent.parent.parent
SAID = {"model": "m", "response": "Paris", "done": True, "eval_count": 1}
#: A stream of one line, and a whole JSON text.
BODY = json.dumps(SAID).encode() + b"\n"
SIZED = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def answer(fields=b"", status=b"HTTP/1.1 200 OK", body=None):
    """A head of these fields, with its body; of a known length unless `body` says otherwise."""
    if body is None:
        fields, body = fields + SIZED, BODY
    return status + b"\r\n" + fields + b"\r\n" + body


def chunks(extension=b"", end=b"0\r\n\r\n"):
    half = len(BODY) // 2
    parts = (BODY[:half], BODY[half:])
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts) + end


def singly(data):
    return [data[i : i + 1] for i in range(len(data))]


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 7\r\n\r\n"
CONTINUE, PROCESSING = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"
#: By what they show: bytes or pieces, in a tuple where the connection ends after them.
RIGHT = {
    "of known length": answer(),
    "after 100": CONTINUE + answer(),
    "after 102": PROCESSING + answer(),
    "after 100, 102 and twice 103": CONTINUE
    + PROCESSING
    + EARLY
    + EARLY
    + answer(CHUNKED, body=chunks()),
    "after 103 that closes": (b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n", answer()),
    "after 100 of HTTP/1.0": (b"HTTP/1.0 100 C\r\n\r\n" + answer(status=b"HTTP/1.0 200 OK"),),
    "ended by the connection": (answer(body=BODY),),
    "ended by the connection, in pieces": tuple(singly(answer(body=BODY))),
    "of HTTP/1.0, ended by the connection": (answer(status=b"HTTP/1.0 200 OK", body=BODY),),
    "of HTTP/1.0, of known length": (answer(status=b"HTTP/1.0 200 OK"),),
    "of HTTP/1.0, kept alive": answer(b"Connection: keep-alive\r\n", b"HTTP/1.0 200 OK"),
    "of known length, closed": (answer(b"Connection: close\r\n"),),
    "chunked": answer(CHUNKED, body=chunks()),
    "chunk extensions": answer(CHUNKED, body=chunks(b';a;b=c;d="e;f g"')),
    "blanks after a chunk's size": answer(CHUNKED, body=chunks(b"  ")),
    "trailers": answer(CHUNKED, body=chunks(end=b"0\r\nContent-Encoding: br\r\nX: y\r\n\r\n")),
    "names in any case": answer(b"tRANSFER-eNCODING: CHUNKED\r\n", body=chunks()),
    "folded lines": answer(b"X-Old: one\r\n  two\r\n\tthree\r\n"),
    "a field of 64 KB": answer(b"X: %b\r\n" % (b"a" * 65_000)),
    "95 fields": answer(b"".join(b"X-%d: y\r\n" % i for i in range(95))),
    "bytes beyond ASCII": answer(b"X: \xfc\xff\r\n", b"HTTP/1.1 200 \xc3\xbc"),
    "no reason": answer(status=b"HTTP/1.1 200"),
    "an empty line before": b"\r\n\r\n" + answer(),
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(BODY), BODY),
    "length and chunks": answer(b"Content-Length: 3\r\n" + CHUNKED, body=chunks()),
    "in single bytes": singly(EARLY + answer(CHUNKED, body=chunks(b";x"))),
    "two answers in one packet": answer() + answer(status=b"HTTP/1.1 500 No"),
    "a stray line end after": answer() + b"\r\n",
    "identity": answer(b"Content-Encoding: identity\r\n"),
    "upgrade offered": answer(b"Upgrade: h2c\r\nConnection: Upgrade\r\n"),
}


def load(server, **changes):
    """The records of a run against it."""
    options = Options(
        replicas=(parse_replica(server.url),), model="m", out=Path("unused"), prompts=Texts(),
        **{"warmup": 0, "timeout_seconds": 30.0, "requests": 2, **changes},
    )  # fmt: skip
    return runner.run(options, lambda team: None).records


def by_loadgen(server):
    records = load(server)
    assert [(r.error, r.message) for r in records] == [(None, None)] * 2
    assert [len(r.answer.chunks) for r in records] == [1, 1]


def by_client(server):
    ollama = ReplicaClient(lambda: "")
    for _ in range(2):
        assert ollama.generate(f"{server.host}:{server.port}", b"{}", 30) == SAID


def by_orchestration(server):
    for _ in range(2):
        found = web.call("POST", f"{server.url}/x", {}, timeout_s=30)
        assert (found.status, found.json) == (200, SAID)


def by_standard_library(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.response_class = FinalResponse
    connection.request("GET", "/x")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (200, SAID)


def by_job_script(server):
    script = f'source {ROOT}/lib/service.sh; PORT={server.port}; http POST /x "{{}}"; echo $?'
    said = subprocess.run(["bash", "-c", script], capture_output=True, timeout=30, check=True)
    assert said.stdout == BODY + b"0\n"


SPEAKERS = (by_loadgen, by_client, by_orchestration, by_standard_library)


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_that_is_right_is_understood(name, speaker):
    with scripted(RIGHT[name]) as server:
        speaker(server)


@pytest.mark.parametrize("name", [n for n, given in RIGHT.items() if isinstance(given, tuple)])
def test_a_job_script_understands_what_may_answer_http_1_0(name):
    with scripted(RIGHT[name]) as server:
        by_job_script(server)


@pytest.mark.parametrize("early", [CONTINUE + EARLY, b"\r\n" + PROCESSING])
def test_a_job_script_passes_over_what_goes_before(early):
    with scripted((early, answer(status=b"HTTP/1.0 200 OK"))) as server:
        by_job_script(server)


# --- refused by name ---

MOVED = b"HTTP/1.1 %d Moved\r\nLocation: https://else.where/x\r\nContent-Length: 0\r\n\r\n"
#: By what is said of them: what they are.
REFUSED = {
    r"https://else\.where/x": [MOVED % status for status in (301, 302, 303, 307, 308)],
    "Content-Encoding: br, although only identity": [answer(b"Content-Encoding: br\r\n")],
    "Content-Encoding: zstd": [answer(b"content-encoding: zstd\r\n")],
}
REFUSED_BY_PARSER = {
    "Content-Encoding: gzip, although": [
        answer(b"Content-Encoding: gzip\r\n", body=gzip.compress(BODY)),
        answer(b"Content-Encoding: gzip\r\n", b"HTTP/1.1 500 No"),
    ],
    "Transfer-Encoding: gzip": [answer(b"Transfer-Encoding: gzip, chunked\r\n", body=chunks())],
    "switched to another protocol \\(x\\)": [
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"
    ],
    "HTTP: is it https": [(b"\x15\x03\x01\x00\x02\x02\x46",)],
    "perhaps HTTP/2": [(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",), answer(status=b"HTTP/2 200 OK")],
    "does not speak HTTP": [(b"SSH-2.0-OpenSSH_9.2\r\n",), (b"<html>no</html>\n",)],
    r'Bearer realm="x"': [answer(b'WWW-Authenticate: Bearer realm="x"\r\n', b"HTTP/1.1 401 No")],
    r"\(TLS/1\.2\)": [answer(b"Upgrade: TLS/1.2\r\n", b"HTTP/1.1 426 Upgrade Required")],
    "a head of more than": [[b"HTTP/1.1 200 OK\r\nX: ", *([b"a" * 65_536] * 17)]],
}


def pairs(table):
    return [(words, given) for words, several in table.items() for given in several]


@pytest.mark.parametrize(("words", "given"), pairs(REFUSED) + pairs(REFUSED_BY_PARSER))
def test_loadgen_says_what_an_answer_is_that_cannot_be_used(words, given):
    with scripted(given) as server:
        (record,) = load(server, requests=1)
    assert record.error in ("bad_http", f"http_{record.http_status}")
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(record.message)


@pytest.mark.parametrize(("words", "given"), pairs(REFUSED) + pairs(REFUSED_BY_PARSER))
def test_the_client_says_what_an_answer_is_that_cannot_be_used(words, given):
    with scripted(given) as server, pytest.raises(OllamaFailed, match=words):
        ReplicaClient(lambda: "").generate(f"{server.host}:{server.port}", b"{}", 30)


@pytest.mark.parametrize(("words", "given"), pairs(REFUSED))
def test_the_orchestration_says_what_an_answer_is_that_cannot_be_used(words, given):
    with scripted(given) as server:
        try:
            said = web.call("GET", f"{server.url}/x").error
        except web.NoAnswer as error:
            said = str(error)
        assert len(server.heads) == 1
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(said)


def test_the_orchestration_reads_what_is_zipped():
    zipped = gzip.compress(BODY)
    fields = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(zipped)
    with scripted(answer(fields, body=zipped)) as server:
        assert web.call("GET", f"{server.url}/x").json == SAID


@pytest.mark.parametrize("status", [204, 304])
def test_no_body_is_awaited_where_none_can_be(status):
    given = answer(b"Content-Length: 9\r\n", b"HTTP/1.1 %d No" % status, body=b"")
    with scripted(given) as server:
        (record,) = load(server, requests=1)
        assert record.error == f"http_{status}"
        assert web.call("GET", f"{server.url}/x").status == status


def test_only_identity_is_asked_for():
    with scripted(answer()) as server:
        by_loadgen(server)
        by_client(server)
        by_orchestration(server)
    heads = [head.lower() for head in server.heads]
    assert len(heads) == 6
    assert all(b"\r\naccept-encoding: identity" in head for head in heads)


# --- connections that are kept ---


def test_a_connection_that_is_closed_after_its_answer_is_not_used_again():
    with scripted((answer(),)) as server:  # nothing in the answer says so
        records = load(server, requests=20)
        assert [record.error for record in records] == [None] * 20
        assert len(server.heads) == 20


def test_what_is_cut_on_an_idle_connection_is_sent_once_more_on_a_new_one():
    with scripted(answer(), (), answer()) as server:
        first, second = load(server)
        assert (first.error, second.error) == (None, None)
        assert (first.retried_from, second.retried_from) == (None, server.url)
        assert server.connections >= 2


def test_what_is_cut_on_a_new_connection_is_not_sent_again():
    with scripted((), answer()) as server:
        (record,) = load(server, requests=1)
        assert (record.error, len(server.heads)) == ("cut", 1)


def test_what_is_cut_within_its_answer_is_not_sent_again():
    with scripted(answer(), (answer()[:-3],)) as server:
        assert [record.error for record in load(server)] == [None, "cut"]
        assert len(server.heads) == 2


def test_the_orchestration_sends_once_more_what_is_cut_before_an_answer():
    with scripted(answer(), (), answer()) as server:
        by_orchestration(server)
        assert len(server.heads) == 3
    with scripted((answer()[:-3],)) as server, pytest.raises(web.NoAnswer):
        web.call("GET", f"{server.url}/x")
    assert len(server.heads) == 1


def test_a_408_for_an_idle_connection_is_no_answer_to_the_next_request():
    late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with scripted((answer(), late)) as server:
        by_client(server)
        by_loadgen(server)


# --- streams through the client service ---

TOKEN = b'{"response":"a","done":false}'


@pytest.mark.parametrize(
    "stream",
    [TOKEN + b"\n" + BODY, TOKEN + b"\r\n" + BODY + b"\r\n\n", TOKEN + b"\n\n" + BODY.rstrip()],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_stream_goes_through_whole_however_its_lines_end(stream, apart):
    data = answer(body=stream)  # ended by the connection
    with scripted(tuple(singly(data)) if apart else (data,)) as server:
        begun = asked(server)
        through = b"".join(lines(begun, OllamaApi(), float("inf")))
    assert [json.loads(line) for line in through.split(b"\n") if line.strip()] == [
        json.loads(TOKEN),
        SAID,
    ]


def asked(server):
    """An answer of it, of which the head has been read."""
    there = Server(f"{server.host}:{server.port}")
    begun = Response(there.connect())
    begun.begin(there.request("POST", "/api/generate", b"{}"), 30)
    return begun


def test_a_stream_whose_line_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr("client.ollama.streams.MOST_HELD", 100_000)
    with scripted([answer(body=b"x" * 60_000), b"x" * 60_000]) as server:
        begun = asked(server)
        (said,) = [json.loads(line) for line in lines(begun, OllamaApi(), float("inf")) if line]
    assert "MiB without an end of a line" in said["error"]["message"]


# --- what is asked beside a run ---


def test_prometheus_and_pushgateway_are_not_looked_for_elsewhere():
    where = "it redirects to https://else.where/x: give that address"
    with scripted(MOVED % 307) as server:
        found = prometheus.snapshot(server.url, 1e9, 1e9 + 60)
        assert found["problem"] == f"Prometheus at {server.url} answers 307: {where}."
        with pytest.raises(OSError, match=f"it answered 307 {where}"):
            push._send(server.url, "PUT", 30, [], b"")()


# --- bounds ---


class _Whole(Answers):
    def __init__(self):
        super().__init__()
        self.body = b""

    def answer_begins(self):
        pass

    def on_body(self, body):
        self.body += body

    def answer_ends(self):
        pass


def test_many_and_long_fields_are_taken():
    whole = _Whole()
    whole.feed(
        answer(b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"Y: %b\r\n" % (b"a" * 300_000))
    )
    assert (whole.status, whole.over, whole.body) == (200, True, BODY)


def test_fields_without_an_end_are_not_kept():
    whole = _Whole()
    with pytest.raises(BadAnswer, match="more than 1024 KiB"):
        for _ in range(2000):
            whole.feed(
                b"HTTP/1.1 200 OK\r\n" if not whole._head_size else b"X: %b\r\n" % (b"a" * 1000)
            )


def test_a_line_of_many_megabytes_is_read():
    words = "x" * 6_000_000
    body = (
        json.dumps({"response": words, "done": False}, separators=(",", ":")).encode()
        + b"\n"
        + BODY
    )
    with scripted(answer(b"Content-Length: %d\r\n" % len(body), body=body)) as server:
        (record,) = load(server, requests=1)
    assert (record.error, len(record.answer.chunks)) == (None, 2)


def test_a_line_that_is_longer_than_may_be_held_is_named(monkeypatch):
    monkeypatch.setattr("loadgen.load.answer_lines.MOST_HELD", 100_000)
    with scripted([answer(body=b"x" * 60_000), b"x" * 60_000]) as server:
        (record,) = load(server, requests=1)
    assert record.error == "bad_json"
    assert "MiB without an end of a line" in record.message
