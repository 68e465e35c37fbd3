"""/query: an answer is whole or an error, a prompt is read whole or that is said."""

import json

import pytest
from scripted_server import scripted

import clientService

END = {"model": "known", "response": "", "done": True, "done_reason": "stop", "eval_count": 1}
FAILED = 'orch_requests_total{outcome="error",source="query"} 1.0'
TEXT = {"model": "known", "response": "a", "done": False}
BROKEN = {"error": "runner terminated"}


@pytest.fixture
def place(tmp_path, monkeypatch, door):
    """The output directory that the environment of a client service names."""
    (tmp_path / "logs").mkdir()
    names = {"OUTPUT_DIR": str(tmp_path), "OLLAMA_JOB": "41", "MODEL": "known", "JOB_ID": "42"}
    for name, value in names.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    return tmp_path


def service_of(place, port):
    (place / "ollama_ip_41.txt").write_text(f"127.0.0.1:{port}\n")
    return clientService.create_app().test_client()


@pytest.fixture
def service(place, server):
    """In front of a stand-in that answers as Ollama does."""
    return service_of(place, server.port)


@pytest.fixture
def query(place):
    """Asks a client service whose Ollama answers with the given bytes; `/query`'s response."""

    def ask(data, **body):
        with scripted(data) as server:
            client = service_of(place, server.port)
            response = client.post("/query", json={"prompt": "hi", **body})
            response.get_data()  # while it is there
            response.metrics = client.get("/metrics").get_data(as_text=True)
            return response

    return ask


def http(*lines, kind="application/x-ndjson", status="200 OK", end=b"\n"):
    body = b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + end for x in lines)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


STREAMS = {
    "before any text": [BROKEN],
    "after some text": [TEXT, BROKEN],
    "before the end": [TEXT, BROKEN, END],
    "after the end": [TEXT, END, BROKEN],
    "in the end": [TEXT, END | BROKEN],
    "in an unfinished line": [TEXT, TEXT | BROKEN, END],
}


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_anywhere_in_a_stream_is_its_last_line(query, name):
    lines = query(http(*STREAMS[name]), stream=True).get_data().splitlines()
    error = json.loads(lines[-1])["error"]
    assert error == {"type": "ollama_error", "message": "Ollama failed: runner terminated"}


@pytest.mark.parametrize(
    "lines", [[b"<html>Log in</html>"], [b""], [{"detail": "Not Found"}], [TEXT], [b"[]"]], ids=str
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_answer_of_ollamas_is_an_error(query, lines, stream):
    response = query(http(*lines), stream=stream)
    assert response.status_code == (200 if stream else 502)
    error = json.loads(response.get_data().splitlines()[-1])["error"]
    assert error["type"] == "ollama_error"


@pytest.mark.parametrize("answer", [BROKEN, {"error": {"message": "no"}}, END | BROKEN], ids=str)
def test_an_error_with_status_200_is_an_error(query, answer):
    response = query(http(answer, kind="application/json"))
    assert response.status_code == 502 and "failed" in response.get_json()["error"]["message"]


def test_an_error_in_an_answers_text_is_text(query):
    said = TEXT | {"response": '{"error": "x"}'}
    lines = query(http(said, END), stream=True).get_data().splitlines()
    assert [json.loads(line) for line in lines] == [said, END]


def test_a_failed_stream_counts_as_failed(query):
    response = query(http(TEXT, END, BROKEN), stream=True)
    assert FAILED in response.metrics
    assert FAILED not in query(http(TEXT, END), stream=True).metrics


# --- prompts ---

LONG = "word " * 1000
REFUSED = http({"error": "the input length exceeds the context length"}, status="400 Bad Request")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(query, stream):
    response = query(REFUSED, prompt=LONG, stream=stream, options={"num_ctx": 512})
    assert response.status_code == 400
    error = response.get_json()["error"]
    assert error["type"] == "prompt_too_long"
    assert "1250 tokens (5000 bytes)" in error["message"] and "holds 512" in error["message"]


@pytest.mark.parametrize("read", [512, 300], ids=["the context", "fewer than words"])
@pytest.mark.parametrize("stream", [False, True])
def test_where_ollama_cuts_it_all_the_same_the_answer_says_so(query, stream, read):
    end = END | {"prompt_eval_count": read}
    lines = [TEXT, end] if stream else [end]
    response = query(http(*lines), prompt=LONG, stream=stream, options={"num_ctx": 512})
    last = json.loads(response.get_data().splitlines()[-1])
    assert "error" not in last, last
    assert last["truncated"] is True and last["prompt_eval_count"] == read


@pytest.mark.parametrize("stream", [False, True])
def test_of_one_that_was_read_whole_nothing_is_said(query, stream):
    end = END | {"prompt_eval_count": 1100}
    response = query(http(end), prompt=LONG, stream=stream, options={"num_ctx": 4096})
    assert "truncated" not in json.loads(response.get_data())


# --- what can be asked for ---


@pytest.mark.parametrize(
    "given",
    [
        {"think": True},
        {"think": "low"},
        {"format": "json"},
        {"format": {"type": "object"}},
        {"keep_alive": "10m"},
        {"keep_alive": "0"},
        {"keep_alive": -1},
        {"think": False, "format": "json", "keep_alive": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_thinking_format_and_keep_alive_reach_ollama(service, server, given, stream):
    response = service.post("/query", json={"prompt": "hi", "stream": stream, **given})
    assert response.status_code == 200 and response.get_data()
    (body,) = server.seen.bodies
    assert {key: body.get(key) for key in given} == given
    assert body["truncate"] is False


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"think": "much"}, "true, false, low, medium or high"),
        ({"think": 1}, "true, false, low"),
        ({"format": "yaml"}, "json, or a JSON Schema"),
        ({"format": {}}, "json, or a JSON Schema"),
        ({"keep_alive": "soon"}, "a duration such as 10m"),
        ({"keep_alive": True}, "a duration such as 10m"),
    ],
    ids=str,
)
def test_what_they_cannot_be_is_refused(query, given, words):
    response = query(http(END), **given)
    assert response.status_code == 400
    assert words in response.get_json()["error"]["message"]
