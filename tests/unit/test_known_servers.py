"""Both servers with known times answer alike, and say what was true."""

import json
import shutil
import time
from http.client import HTTPConnection

import pytest
from events import PATIENCE_S, undisturbed
from known import known_server
from paced_server import Pace, running

TTFT_S, ITL_S, TOKENS = 0.05, 0.01, 3
END_S = TTFT_S + TOKENS * ITL_S


@pytest.fixture(scope="module", params=["compiled", "python"])
def port(request):
    if request.param == "python":
        with running(Pace(ttft=TTFT_S, itl=ITL_S, tokens=TOKENS)) as server:
            yield server.port
    elif shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc)")
    else:
        with known_server(core=None, ttft=TTFT_S, itl=ITL_S, tokens=TOKENS) as server:
            yield server.port


def ask(port, method, path, body=None):
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(
        method, path, None if body is None else json.dumps({"model": "known"} | body)
    )
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(
    "path, text_of",
    [("/api/generate", lambda c: c["response"]), ("/api/chat", lambda c: c["message"]["content"])],
)
def test_ollamas_stream_has_a_line_for_each_token_and_an_end_with_counts(port, path, text_of):
    status, text = ask(port, "POST", path, {"options": {"num_predict": 2}})
    *tokens, end = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert [token["done"] for token in tokens] == [False, False]
    assert all(map(text_of, tokens)) and text_of(end) == ""
    assert end["done"] and end["eval_count"] == 2
    assert end["eval_duration"] == pytest.approx(2 * ITL_S * 1e9)
    assert end["total_duration"] >= (TTFT_S + 2 * ITL_S) * 1e9


@pytest.mark.parametrize(
    "path, body, text_of",
    [
        ("/v1/chat/completions", {"messages": []}, lambda c: c["delta"].get("content")),
        ("/v1/completions", {"prompt": "x"}, lambda c: c["text"]),
    ],
)
def test_openais_stream_has_an_event_for_each_token_the_usage_and_done(port, path, body, text_of):
    asked = {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}}
    status, text = ask(port, "POST", path, body | asked)
    *tokens, end, usage = events(text)
    assert status == 200 and text.endswith("data: [DONE]\n\n")
    assert all(text_of(token["choices"][0]) for token in tokens) and len(tokens) == 2
    assert not text_of(end["choices"][0]) and end["choices"][0]["finish_reason"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 2


def test_openais_usage_comes_only_where_it_is_asked_for(port):
    _, text = ask(port, "POST", "/v1/chat/completions", {"messages": [], "stream": True})
    assert len(events(text)) == TOKENS + 1
    assert not any("usage" in event for event in events(text))


@pytest.mark.parametrize(
    "path, body, text_of",
    [
        ("/api/generate", {"stream": False}, lambda a: a["response"]),
        ("/api/chat", {"stream": False}, lambda a: a["message"]["content"]),
        ("/v1/completions", {}, lambda a: a["choices"][0]["text"]),
        ("/v1/chat/completions", {"messages": []}, lambda a: a["choices"][0]["message"]["content"]),
    ],
)
def test_an_answer_in_one_piece_comes_when_its_stream_would_have_ended(port, path, body, text_of):
    began = time.perf_counter()
    status, text = ask(port, "POST", path, body)
    assert time.perf_counter() - began >= END_S
    assert status == 200 and text_of(json.loads(text)).count("a") == TOKENS


def test_they_say_what_was_true(port):
    ask(port, "DELETE", "/seen")
    before = time.perf_counter()
    ask(port, "POST", "/api/generate", {"options": {"seed": 41, "num_predict": 2}})
    ask(port, "POST", "/v1/completions", {"seed": 42})
    truths = [json.loads(line) for line in ask(port, "GET", "/requests")[1].splitlines()]
    after = time.perf_counter()
    assert [truth["seed"] for truth in truths] == [41, 42]
    for truth in truths:
        assert before < truth["received"] < truth["first"] < truth["last"] < after
        assert truth["first"] - truth["received"] >= TTFT_S
        assert truth["late"] >= 0
    seen = json.loads(ask(port, "GET", "/seen")[1])
    assert (seen["requests"], seen["answered"], seen["in_flight"]) == (2, 2, 0)
    assert seen["most_in_flight"] == 1 and seen["ended_early"] == 0
    assert TTFT_S <= seen["ttft_seconds"]["mean"] <= seen["ttft_seconds"]["max"]
    assert 0 <= seen["lateness_seconds"]["p50"] <= seen["lateness_seconds"]["max"]


def test_they_forget(port):
    ask(port, "POST", "/v1/completions", {})
    ask(port, "DELETE", "/seen")
    assert json.loads(ask(port, "GET", "/seen")[1])["requests"] == 0
    assert ask(port, "GET", "/requests")[1] == ""


@undisturbed
def test_an_answer_pauses_where_it_is_told_to():
    with running(Pace(tokens=4, pause=0.2, pause_after=2)) as server:
        began = time.perf_counter()
        status, text = ask(server.port, "POST", "/api/generate", {})
        assert time.perf_counter() - began >= 0.2
        assert status == 200 and len(text.splitlines()) == 5
        assert server.seen.truths[0].late < 0.2  # the pause is no lateness


@undisturbed
def test_requests_beyond_the_slots_wait_for_their_turn():
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc)")
    with known_server(core=None, ttft=0.1, tokens=1, slots=1) as server:
        connections = [
            HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S) for _ in range(3)
        ]
        for connection in connections:
            connection.request("POST", "/api/generate", "{}")
        assert all(connection.getresponse().read() for connection in connections)
        waited = sorted(t["first"] - t["received"] for t in server.requests())
        assert waited[0] >= 0.1 and waited[1] >= 0.19 and waited[2] >= 0.28
        assert server.seen()["most_in_flight"] == 3
