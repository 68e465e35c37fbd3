"""What is known of each engine: one entry of a table, for all who ask its servers."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts.errors import ServiceError
from contracts.load import APIS
from engines.engine import Facts, LoadedModel
from engines.json_values import object_of
from engines.ollama import same_precision
from engines.registry import ENGINES, RETRIEVAL
from loadgen.load.prompts import Texts
from loadgen.load.protocols import Requests
from loadgen.load.schedule import Planned
from loadgen.options import Options, parse_replica


def test_every_api_has_its_engine():
    assert {*APIS, RETRIEVAL} == ENGINES.keys()


@pytest.mark.parametrize("api", ENGINES)
def test_requests_go_to_the_path_of_the_engine(api):
    replica = parse_replica("http://h:1", api)
    options = Options(replicas=(replica,), model="m", out=Path("unused"), prompts=Texts(), api=api)
    sent = Requests(options).bytes_of(Planned(0, 0, 0.0, 1), 0).decode()
    assert sent.startswith(f"POST {replica.root}{ENGINES[api].path} HTTP/1.1\r\n")


# --- ready ---


def ready(api, root, said):
    """What an engine thinks of a server with these answers by path, else 404; and the paths that
    were asked."""
    paths = []

    def ask(path, body=None):
        paths.append(path)
        assert (body is None) == (path != f"{root}{ENGINES[api].path}")
        answer = said.get(path, 404)
        if isinstance(answer, int):
            return SimpleNamespace(status=answer, json={}, error=f"HTTP {answer} no")
        return SimpleNamespace(status=200, json=answer, error="")

    return ENGINES[api].ready(ask, root, "m", "It"), paths


TAGS = {"models": [{"name": "m:latest", "digest": "sha"}]}
RUNNING = {"models": [{**TAGS["models"][0], "size": 10, "size_vram": 10}]}
OLLAMA = {
    "/api/tags": TAGS,
    "/api/generate": {"done": True},
    "/api/ps": RUNNING,
    "/api/version": {"version": "1"},
}
LOADED = LoadedModel("m:latest", "sha", size=10, size_vram=10)


def test_ollama_is_ready_once_it_answers_and_has_the_model_in_memory():
    assert ready("ollama", "", OLLAMA) == (Facts("1", LOADED), list(OLLAMA))
    assert LOADED.where == "gpu"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"/api/tags": {"models": [{"name": "n"}]}}, "It does not list m yet"),
        ({"/api/ps": {"models": []}}, "m is not in memory yet"),
    ],
)
def test_until_then_it_is_said_why(changes, words):
    assert ready("ollama", "", {**OLLAMA, **changes})[0] == words


VLLM = {
    "/v1/models": {"data": [{"id": "n"}, {"id": "m", "max_model_len": 512}]},
    "/v1/chat/completions": {"choices": []},
    "/version": {"version": "0.11"},
}


def test_a_server_of_openais_api_is_ready_once_it_answers():
    found, paths = ready("openai", "/v1", VLLM)
    assert found == Facts("0.11", LoadedModel("m", context_length=512))
    assert paths[:2] == ["/v1/models", "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"/v1/models": 503}, "It is not ready yet: HTTP 503 no"),
        ({"/v1/chat/completions": 503}, "It is not ready yet: HTTP 503 no"),
        ({"/v1/chat/completions": 429}, "It is not ready yet: HTTP 429 no"),
    ],
)
def test_until_then_such_a_server_is_waited_for(changes, words):
    assert ready("openai", "/v1", {**VLLM, **changes})[0] == words


@pytest.mark.parametrize("said", [404, {"data": []}])
def test_one_that_lists_no_models_is_asked_all_the_same(said):
    assert ready("openai", "/v1", {**VLLM, "/v1/models": said})[0] == Facts("0.11")


def test_one_that_answers_to_a_name_that_it_does_not_list_is_ready():
    listed = {"data": [{"id": "n"}]}
    assert ready("openai", "/v1", {**VLLM, "/v1/models": listed})[0] == Facts("0.11")


def test_one_that_has_other_models_is_told_with_their_names():
    said = {"/v1/models": {"data": [{"id": "n"}, {"id": "o"}]}, "/v1/chat/completions": 404}
    with pytest.raises(ServiceError, match=r"with m: HTTP 404 no \(it lists n, o\)\.$"):
        ready("openai", "/v1", said)


def test_ollama_behind_openais_api_is_known_by_its_models():
    listed = {"data": [{"id": "m:latest", "owned_by": "library"}]}
    said = {**OLLAMA, "/v1/models": listed, "/v1/chat/completions": {"choices": []}}
    assert ready("openai", "/v1", said)[0] == Facts("1", LOADED)


@pytest.mark.parametrize(
    ("api", "root", "said"),
    [
        ("ollama", "", {**OLLAMA, "/api/generate": 500}),
        ("openai", "/v1", {**VLLM, "/v1/chat/completions": 401}),
    ],
)
def test_a_model_that_fails_ends_the_wait(api, root, said):
    with pytest.raises(ServiceError, match=r"^It cannot answer with m: HTTP \d{3} no\.$"):
        ready(api, root, said)


# --- precision ---


@pytest.mark.parametrize(
    ("asked", "quantization", "same"),
    [
        ("fp16", "F16", True),
        ("bfloat16", "BF16", True),
        ("int8", "Q8_0", True),
        ("q4", "Q4_K_M", True),
        ("Q4_0", "Q4_K_M", False),
        ("fp16", "BF16", False),
        ("q4", "", False),
    ],
)
def test_a_precision_is_known_by_what_people_call_it(asked, quantization, same):
    assert same_precision(asked, quantization) is same


@pytest.mark.parametrize(
    "line",
    [b'{"a":"\\ud83d"}', b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf{"a":1}', b'{"a":%b}' % (b"9" * 40),
     b'{"a":1e400,"b":0.1,"b":2,"c":NaN}', b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"],
)  # fmt: skip
def test_every_line_is_read_as_the_standard_library_reads_it(line):
    assert repr(object_of(line)) == repr(json.loads(line))


@pytest.mark.parametrize(
    "line", [b'{"a":1,}', b'{"a":1} x', b'{"a":"\n"}', b'{"a":01}', b"[]", b""]
)
def test_a_line_that_is_no_json_object_is_refused(line):
    with pytest.raises(ValueError, match=r"."):
        object_of(line)
