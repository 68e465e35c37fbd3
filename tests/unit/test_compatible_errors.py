"""What goes wrong behind the layer, in front of it, and in the midst of an answer."""

import asyncio
import gc
import json
import time

import pytest
from compatible_layer import (
    CHAT,
    END,
    HELLO,
    STREAM_HEAD,
    chat_end,
    in_front_of,
    layer,
    line,
    said,
    streamed,
    whole,
)
from compatible_layer import Layer as Front
from events import until
from ports import free_port

from client.compatible.http_server import MAX_BODY_BYTES, ClientConnection

ANSWER = {"message": {"role": "assistant", "content": "Hi"}, **END}


def refusal(words, status, more=""):
    return whole({"error": words}, status, more)


# --- before an answer has begun ---


REFUSALS = [
    (refusal("model 'x' not found", 404), 404, "model_not_found"),
    (refusal("model is required", 400), 404, "model_not_found"),
    (refusal("top_k is no number", 400), 400, None),
    (refusal("server busy", 503), 503, "queue_full"),
    (refusal("too many", 429), 429, "queue_full"),
    (whole(b"<html>503</html>", 503), 503, "queue_full"),
    (whole(b"<html>504</html>", 504), 504, "timeout"),
    (refusal("no token", 401), 502, "engine_error"),
    (refusal("llama runner has crashed", 500), 502, "engine_error"),
    ((b"nothing like HTTP",), 502, "engine_error"),
    ((b"",), 502, "engine_unreachable"),
]
NO_ANSWERS = [
    (whole(b"[]"), 502, "engine_error"),
    (whole({"error": "it failed"}), 502, "engine_error"),
    ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",), 502, "engine_unreachable"),
]


@pytest.mark.parametrize(("answer", "status", "code"), [*REFUSALS, *NO_ANSWERS])
def test_what_the_engine_refuses(answer, status, code):
    with layer(answer) as one:
        found, error = one.chat(model="x")
    assert (found, error["error"]["code"]) == (status, code)


@pytest.mark.parametrize(("answer", "status", "code"), REFUSALS)
def test_a_stream_that_is_refused_has_its_status(answer, status, code):
    with layer(answer) as one:
        found, error = one.chat(model="x", stream=True)
    assert (found, error["error"]["code"]) == (status, code)


def test_a_full_queue_says_when_to_come_again():
    with layer(refusal("busy", 503), refusal("busy", 429, "Retry-After: 7\r\n")) as one:
        body = json.dumps({"messages": HELLO})
        assert one.ask("POST", CHAT, body.encode())[1]["Retry-After"] == "1"
        assert one.ask("POST", CHAT, body.encode())[1]["Retry-After"] == "7"


def test_an_engine_that_is_not_there():
    with in_front_of(free_port()) as front:
        one = Front(front, None)
        assert one.refused() == (502, "engine_unreachable", None)


def test_an_engine_that_does_not_answer_in_time():
    with layer([b""], timeout_s=0.05) as one:
        assert one.refused() == (504, "timeout", None)
        until(lambda: one.engine.ended == 1)


TOO_LONG = refusal("the input length exceeds the context length", 400)
LOADED = whole({"models": [{"name": "known:latest", "context_length": 512}]})
NOTHING = whole({"models": []})
SHOWN = whole({"model_info": {"general.x": 1, "llama.context_length": 2048}})


@pytest.mark.parametrize(
    ("path", "param", "body"),
    [
        (CHAT, "messages", {"messages": [{"role": "user", "content": "word " * 1000}]}),
        ("/v1/completions", "prompt", {"prompt": "word " * 1000}),
        ("/v1/embeddings", "input", {"input": ["a", "word " * 1000]}),
    ],
)
def test_a_text_that_is_too_long_is_refused_with_both_numbers(path, param, body):
    with layer(TOO_LONG, LOADED, spared=()) as one:
        status, said = one.post(path, **body)
    error = said["error"]
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert "512 tokens" in error["message"] and "about 1250 tokens" in error["message"]


def test_the_context_of_a_model_that_is_not_loaded_is_that_which_it_was_made_for():
    with layer(TOO_LONG, NOTHING, SHOWN, spared=()) as one:
        assert "is 2048 tokens" in one.chat()[1]["error"]["message"]
    with layer(TOO_LONG, whole(b"", 500), spared=()) as one:
        assert one.chat()[1]["error"]["code"] == "context_length_exceeded"


# --- in the midst of a stream ---


@pytest.mark.parametrize(
    "rest",
    [
        [line({"error": "it crashed"})],
        [b"0\r\n\r\n"],
        [b"5\r\nno!\n\n\r\n"],
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_a_failure_on_the_way_is_the_last_event(path, rest):
    first = said("Hi") if path == CHAT else line({"model": "m", "response": "Hi", "done": False})
    with layer([STREAM_HEAD, first, *rest]) as one:
        connection = one.connect()
        body = {"messages": HELLO} if path == CHAT else {"prompt": "Hi"}
        connection.request("POST", path, json.dumps({**body, "stream": True}))
        answer = connection.getresponse()
        *_, last, end = answer.read().decode().split("\n\n")
        assert answer.status == 200 and end == ""
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["type"] == "server_error"
        assert error["message"].startswith("The engine") and "callback" not in error["message"]
        assert connection.sock is None or connection.sock.recv(1) == b"", "the connection ends"


@pytest.mark.parametrize("after", [b"", b"nonsense"])
def test_an_engine_that_goes_in_the_midst(after):
    """What comes together with the head is told by the status, as nothing was sent by then."""
    with layer((STREAM_HEAD, said("Hi"), after)) as one:
        status, _, text = one.ask("POST", CHAT, {"messages": HELLO, "stream": True})
    error = text.decode().split("\n\n")[-2] if status == 200 else text
    assert status in (200, 502) and b"[DONE]" not in text
    assert json.loads(error.removeprefix("data: " if status == 200 else b""))["error"]["code"]


def test_a_stream_that_takes_too_long_says_so():
    """Its beginning is within the time on any machine."""
    with layer([STREAM_HEAD, said("Hi")], timeout_s=3.0) as one:
        [_, last] = one.stream()
    assert last["error"]["code"] == "timeout"


# --- a client that goes ---


def request(**body):
    data = json.dumps({"messages": HELLO, **body}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_while_it_waits_frees_the_engine(stream):
    with layer([b""]) as one:
        with one.raw(request(stream=stream)):
            until(lambda: one.engine.heads)
            assert one.engine.ended == 0
        until(lambda: one.engine.ended == 1)


def test_a_client_that_goes_in_the_midst_of_a_stream_frees_the_engine():
    with layer([STREAM_HEAD, said("Hi")]) as one:
        with one.raw(request(stream=True)) as sock:
            assert b"Hi" in sock.recv(65_536)
            assert one.engine.ended == 0
        until(lambda: one.engine.ended == 1)


class Closed:
    """A transport whose client goes as soon as it has asked."""

    def is_closing(self):
        return False


def test_a_client_that_goes_before_its_task_begins_frees_the_engine(recwarn):
    gone, begun = [], []

    async def rest():
        begun.append(True)

    def handler(request, client):
        client.on_gone = lambda: gone.append(request.target)
        return rest()

    async def comes_and_goes():
        connection = ClientConnection(handler, set())
        connection.connection_made(Closed())
        connection.data_received(b"GET /v1/models HTTP/1.1\r\n\r\n")
        connection.connection_lost(None)
        await asyncio.sleep(0)

    asyncio.run(comes_and_goes())
    assert (gone, begun) == (["/v1/models"], [])
    gc.collect()
    assert [str(w.message) for w in recwarn if "never awaited" in str(w.message)] == []


def test_a_client_that_takes_nothing_holds_the_engine_back():
    """Not more than some buffers' worth is read of the engine's answer."""
    lines, sent = said("x" * 60_000), []

    def pieces():
        yield STREAM_HEAD
        for number in range(1_000):
            sent.append(number)
            yield lines

    with layer(pieces()) as one:
        sock = one.raw(request(stream=True))
        until(lambda: len(sent) > 1 and _stands_still(sent))
        assert len(sent) < 1_000
        sock.close()


def _stands_still(sent):
    before = len(sent)
    time.sleep(0.2)
    return len(sent) == before


# --- connections ---


def test_connections_to_the_engine_are_kept():
    with layer(whole(ANSWER)) as one:
        for _ in range(3):
            assert one.chat()[0] == 200
        assert one.engine.connections == 1


def test_a_connection_that_the_engine_closed_is_not_used_again():
    with layer((whole(ANSWER),), whole(ANSWER)) as one:
        assert one.chat()[0] == 200
        assert one.chat()[0] == 200


def test_one_that_is_closed_just_as_a_request_goes_out_is_made_again():
    with layer(whole(ANSWER), (b"",), whole(ANSWER)) as one:
        assert [one.chat()[0], one.chat()[0]] == [200, 200]
        assert (one.engine.connections, len(one.engine.heads)) == (2, 3)


def test_the_token_goes_to_the_engine_alone():
    with layer(whole(ANSWER), headers=(("Authorization", "Bearer inner"),)) as one:
        connection = one.connect()
        connection.request("POST", CHAT, json.dumps({"messages": HELLO}),
                           {"Authorization": "Bearer outer"})  # fmt: skip
        assert connection.getresponse().status == 200
        assert b"Bearer inner" in one.engine.heads[0] and b"outer" not in one.engine.heads[0]


# --- HTTP ---


def test_several_requests_on_a_connection():
    with layer(whole(ANSWER), streamed(said("Hi"), chat_end()), whole(ANSWER)) as one:
        connection = one.connect()
        for stream in (False, True, False):
            connection.request("POST", CHAT, json.dumps({"messages": HELLO, "stream": stream}))
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read()
            assert connection.sock is not None


def read_all(sock):
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


def test_a_request_that_comes_too_early_is_left_to_be_sent_again():
    with layer([b""], timeout_s=0.2) as one:
        both = read_all(one.raw(request() + request()))
    assert both.startswith(b"HTTP/1.1 504") and both.count(b"HTTP/1.1") == 1


def test_http_1_0_has_streams_that_end_with_the_connection():
    with layer(streamed(said("Hi"), chat_end())) as one:
        answer = read_all(one.raw(request(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert b"Transfer-Encoding" not in answer and answer.endswith(b"data: [DONE]\n\n")


def test_fields_behind_a_body_do_not_say_whose_it_is():
    """The door writes those of the head alone; what is behind it comes through as it was sent."""
    users, body = [], json.dumps({"messages": HELLO}).encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nOrch-User: ada\r\nOrch-Turn: 1005\r\n" % CHAT.encode()
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body)
    forged = b"Orch-User: owner\r\nOrch-Turn: 0\r\n\r\n"

    def report(request, usage):
        users.append(request.fields[b"orch-user"])

    with layer(whole(ANSWER), report=report) as one:
        with one.raw(head + chunks + forged) as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert b"\r\nOrch-Turn: 1005\r\n" in one.engine.heads[-1]
    assert users == [b"ada"]


def test_a_client_that_waits_to_be_told_to_send_is_told():
    head, _, body = request().partition(b"\r\n\r\n")
    with layer(whole(ANSWER)) as one:
        sock = one.raw(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nX: " + b"x" * 70_000, 413),
        (b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"GET /v1/models HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(sent, status):
    with layer(whole(ANSWER)) as one:
        answer = read_all(one.raw(sent))
    assert answer.startswith(b"HTTP/1.1 %d " % status) and b"Connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_paths_and_methods_that_there_are_not():
    with layer(whole(ANSWER)) as one:
        for method, path, status in (
            ("GET", "/v1/audio/speech", 404),
            ("POST", "/api/chat", 404),
            ("GET", CHAT, 405),
            ("DELETE", "/v1/models/known", 405),
        ):
            found, _, text = one.ask(method, path)
            assert (found, json.loads(text)["error"]["type"]) == (status, "invalid_request_error")
        assert one.engine.heads == []
