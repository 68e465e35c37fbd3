"""What comes into the client service: each bad request is told all that is wrong with it."""

import time

import pytest

import clientService
from client.api.bodies import BenchmarkRequest, Points, Query, Search
from client.api.json_body import validate
from client.errors import BadInput


@pytest.fixture
def output(tmp_path, monkeypatch, door):
    """An output directory, and the environment that names it; no address yet."""
    for name, value in {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": "41", "MODEL": "known"}.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    return tmp_path


@pytest.fixture
def client(output):
    return clientService.create_app().test_client()


@pytest.fixture
def up(client, server, output):
    """The service with its address published."""
    (output / "ollama_ip_41.txt").write_text(f"127.0.0.1:{server.port}\n")
    return client


def error(response, status, kind):
    """The words of an error that has this status and kind, in the one shape of errors."""
    assert (response.status_code, response.mimetype) == (status, "application/json")
    found = response.get_json()
    assert set(found) == {"error"} and set(found["error"]) == {"type", "message"}
    assert found["error"]["type"] == kind
    assert "Traceback" not in found["error"]["message"]
    return found["error"]["message"]


QUERIES = {
    "no prompt": ({}, "prompt is missing"),
    "null": ({"prompt": None}, "prompt is missing"),
    "empty": ({"prompt": ""}, 'prompt is "", but must be a text'),
    "number": ({"prompt": 1}, "prompt is 1, but must be a text"),
    "array": ({"prompt": ["x"]}, 'prompt is ["x"], but must be a text'),
    "huge": ({"prompt": "x" * 1_000_001}, "a text of 1 to 1000000 bytes"),
    "model": ({"prompt": "x", "model": 7}, "model is 7, but must be"),
    "options": ({"prompt": "x", "options": []}, "options is [], but must be an object"),
    "stream": ({"prompt": "x", "stream": "yes"}, "but must be true or false"),
    "system": ({"prompt": "x", "system": {}}, "system is {}, but must be a text"),
    "unknown": ({"prompt": "x", "promt": "y"}, '"promt" is unknown (did you mean prompt?)'),
    "two": ({"promt": "y", "model": ""}, "prompt is missing"),
}
BENCHMARKS = {
    "zero": ({"n_clients": 0}, "n_clients is 0, but must be a whole number from 1 to 10000"),
    "negative": ({"n_clients": -1}, "n_clients is -1"),
    "many": ({"n_clients": 10_001}, "from 1 to 10000"),
    "text": ({"n_clients": "4"}, 'n_clients is "4"'),
    "float": ({"n_clients": 4.5}, "n_clients is 4.5"),
    "bool": ({"n_clients": True}, "n_clients is true"),
    "array": ({"n_clients": [1]}, "n_clients is [1]"),
    "huge": ({"n_clients": 10**400}, "n_clients is 1000"),
    "per client": ({"n_requests_per_client": 1_000_001}, "from 1 to 1000000"),
    "product": (
        {"n_clients": 1001, "n_requests_per_client": 1000},
        "n_clients x n_requests_per_client is 1001000, but must be at most 1000000",
    ),
    "num_predict": ({"num_predict": 32_769}, "from 1 to 32768"),
    "seed": ({"seed": -1}, "seed is -1"),
    "warmup": ({"warmup": 1001}, "from 0 to 1000"),
    "wait": ({"wait": 1}, "wait is 1, but must be true or false"),
    "prompt": ({"prompt": ""}, "prompt is"),
    "id": ({"id": "../x"}, 'id is "../x"'),
    "hidden": ({"id": ".x"}, "not begin with a dot"),
    "long id": ({"id": "x" * 101}, "1 to 100 of"),
    "newline": ({"id": "x\n"}, "1 to 100 of"),
    "unknown": ({"clients": 1}, '"clients" is unknown (did you mean n_clients?)'),
    "model": ({"model": "a\0b"}, "model is"),
    "model not ascii": ({"model": "ü"}, "a name of 1 to 256 letters, digits and signs of ASCII"),
    "rate": ({"rate": 0, "n_requests": 1}, "rate is 0, but must be a number of more than 0"),
    "rate text": ({"rate": "5", "n_requests": 1}, 'rate is "5"'),
    "arrivals": ({"arrivals": "bursty"}, "must be constant or poisson"),
    "arrivals list": ({"arrivals": ["poisson"]}, "must be constant or poisson"),
    "duration": ({"duration_seconds": 86_401}, "a number of more than 0 and at most 86400"),
    "timeout": ({"timeout_seconds": True}, "timeout_seconds is true"),
    "input_tokens": ({"input_tokens": 0}, "input_tokens is 0"),
    "processes": ({"processes": 65}, "from 1 to 64"),
    "goodput": ({"goodput": {}}, "an object with ttft, itl, tpot, e2e, normalised or some of them"),
    "goodput name": ({"goodput": {"latency": 1}}, "goodput is"),
    "goodput seconds": ({"goodput": {"ttft": 0}}, "goodput is"),
    "goodput null": ({"goodput": {"ttft": None}}, "goodput is"),
    "two loops": ({"rate": 5, "n_clients": 2, "n_requests": 9}, "rate does not go with n_clients"),
    "two ends": (
        {"duration_seconds": 5, "n_requests_per_client": 2},
        "duration_seconds does not go with n_requests_per_client",
    ),
    "two prompts": ({"input_tokens": 5, "prompt": "x"}, "input_tokens does not go with prompt"),
    "no end": ({"rate": 5}, "rate goes only with n_requests or duration_seconds"),
    "no rate": ({"max_concurrency": 5}, "max_concurrency goes only with rate"),
    "no rate for n_requests": ({"n_requests": 5}, "n_requests goes only with rate"),
    "too long": ({"rate": 1e-9, "n_requests": 2}, "take longer than 86400 seconds"),
    "too many": (
        {"rate": 2000, "duration_seconds": 501},
        "rate x duration_seconds is 1.002e+06, but must be at most 1000000",
    ),
}


@pytest.mark.parametrize(("body", "words"), QUERIES.values(), ids=QUERIES)
def test_a_bad_query_is_told_what_is_wrong(client, body, words):
    assert words in error(client.post("/query", json=body), 400, "bad_request")


@pytest.mark.parametrize(("body", "words"), BENCHMARKS.values(), ids=BENCHMARKS)
def test_a_bad_benchmark_is_told_what_is_wrong(client, output, body, words):
    assert words in error(client.post("/benchmark", json=body), 400, "bad_request")
    assert not (output / "benchmarks").exists()


def test_null_counts_as_not_given_and_a_whole_float_as_whole():
    body = {"rate": None, "n_clients": 4.0, "prompt": None, "input_tokens": 7}
    found = validate(body, BenchmarkRequest)
    assert (found.rate, found.n_clients, found.prompt, found.input_tokens) == (None, 4, None, 7)
    assert isinstance(found.n_clients, int)


def test_all_errors_are_told_at_once(client):
    body = {"n_clients": 0, "seed": "x", "nclients": 1}
    message = error(client.post("/benchmark", json=body), 400, "bad_request")
    assert all(word in message for word in ("n_clients is 0", "seed is", '"nclients" is unknown'))


BODIES = {
    "empty": b"",
    "not json": b"prompt=x",
    "cut": b'{"prompt": "x"',
    "NaN": b'{"prompt": "x", "options": {"temperature": NaN}}',
    "Infinity": b'{"prompt": "x", "options": {"temperature": -Infinity}}',
    "overflow": b'{"prompt": "x", "options": {"temperature": 1e999}}',
    "endless number": b'{"prompt": ' + b"9" * 5000 + b"}",
    "not utf-8": b'{"prompt": "\xff"}',
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "bom": '\ufeff{"prompt": "x"}'.encode(),
    "array": b'[{"prompt": "x"}]',
    "string": b'"x"',
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep in options": b'{"prompt": "x", "options": ' + b'{"a":' * 50_000,
    "twice": b'{"prompt": "x", "prompt": "y"}',
}


@pytest.mark.parametrize("path", ["/query", "/benchmark"])
@pytest.mark.parametrize("data", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_json_object_is_refused(client, path, data):
    answer = client.post(path, data=data, content_type="application/json")
    assert "The body" in error(answer, 400, "bad_request")


def test_a_body_that_is_not_declared_as_json_is_refused(client):
    for kind in (None, "text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/query", data=b'{"prompt": "x"}', content_type=kind)
        error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/query", "/benchmark"])
def test_a_body_over_the_limit_is_refused(client, path):
    answer = client.post(path, data=b"x" * 2_000_001, content_type="application/json")
    error(answer, 413, "request_entity_too_large")


def test_a_lone_surrogate_and_a_nul_are_passed_on(up, server):
    data = b'{"prompt": "\\ud800 \\u0000"}'
    assert up.post("/query", data=data, content_type="application/json").status_code == 200
    assert server.seen.bodies[0]["prompt"] == "\ud800 \0"


def test_other_paths_and_methods_have_json_errors_too(client):
    error(client.get("/nope"), 404, "not_found")
    error(client.get("/benchmark/../../etc/passwd"), 404, "not_found")
    answer = client.get("/query")
    error(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("run_id", ["nope", "..", ".hidden", "x" * 200, "%00", "a%2Fb", "a%0a"])
@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_benchmark_that_is_not_there(client, output, method, run_id):
    (output / "benchmarks" / ".hidden").mkdir(parents=True)
    error(getattr(client, method)(f"/benchmark/{run_id}"), 404, "not_found")


def test_what_nobody_expected_is_an_error_object_without_inner_words(output, monkeypatch):
    def broken(self):
        raise RuntimeError("inner words")

    monkeypatch.setattr(clientService.OllamaClientService, "health", broken)
    answer = clientService.create_app().test_client().get("/health")
    assert "inner words" not in error(answer, 500, "internal_server_error")


@pytest.mark.parametrize("depth", [100, 980, 5000])
@pytest.mark.parametrize("key", ["options", "stream"])
def test_nesting_that_json_writers_cannot_bear_is_refused(up, depth, key):
    words = error(nested(up, key, depth), 400, "bad_request")
    assert words == ("The body is nested too deeply: at most 100 objects or arrays in each other.")


def test_nesting_that_they_can_bear_is_not(up):
    assert nested(up, "options", 99).status_code == 200
    assert "stream is" in error(nested(up, "stream", 99), 400, "bad_request")


def nested(client, key, depth):
    """What is answered to a query in which `key` has so many objects in each other."""
    value = '{"a":' * depth + "1" + "}" * depth
    body = f'{{"prompt": "x", "{key}": {value}}}'
    return client.post("/query", data=body, content_type="application/json")


def test_of_very_many_unknown_keys_the_first_are_named_and_soon(client):
    began = time.monotonic()
    response = client.post("/benchmark", json={f"n_client{n}": 1 for n in range(50_000)})
    assert time.monotonic() - began < 60  # it takes a tenth of a second
    words = error(response, 400, "bad_request")
    assert '"n_client0" is unknown (did you mean n_clients?)' in words
    assert "49990 more are unknown" in words and len(words) < 2000


MANY = {f"k{n}": [] for n in range(50_000)}
CHUNK = {"position": 0, "text": "x"}
CROWDED = {
    "goodput": (BenchmarkRequest, {"goodput": MANY}, "goodput is"),
    "option": (Query, {"prompt": "x", "retrieval": MANY}, "retrieval is"),
    "filter": (Search, {"query": "x", "filter": MANY}, "filter is"),
    "list": (Search, {"query": "x", "filter": {"a": [[]] * 50_000}}, "filter is"),
    "chunks": (Points, {"chunks": [[]] * 50_000}, "chunks is"),
    "chunk": (Points, {"chunks": [{**CHUNK, **MANY}]}, "chunks is"),
    "metadata": (Points, {"chunks": [{**CHUNK, "metadata": MANY}]}, "chunks is"),
}


@pytest.mark.parametrize(("kind", "body", "words"), CROWDED.values(), ids=CROWDED)
def test_of_what_holds_very_much_no_member_is_looked_at(kind, body, words):
    """To say what is wrong with each would take a minute."""
    with pytest.raises(BadInput) as raised:
        validate(body, kind)
    assert words in str(raised.value) and len(str(raised.value)) < 300
    assert raised.value.__cause__.error_count() < 10
