"""A deployment whose engine is vLLM: a stand-in of it (tests/standin_vllm.py), with a tiny model's
folder that a real one takes, too."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import openai
import pytest
from door_requests import send
from doors import Door
from events import PATIENCE_S, until
from place import PROJECT, Place, http, wait_for
from test_failures import assert_failed

CONTEXT = 256
HELLO = [{"role": "user", "content": "Hi"}]
STORY = {"messages": HELLO, "max_tokens": 200}
LONG = "x" * 300
#: Of what its token's owner may not ask for, either.
MANAGEMENT = (("POST", "/sleep"), ("POST", "/v1/load_lora_adapter"),
              ("POST", "/reset_prefix_cache"), ("GET", "/docs"))  # fmt: skip


def with_vllm(place):
    """The stand-in on the PATH of a place, and a model's folder; returns that."""
    place.on_path("vllm", "standin_vllm.py")
    # Of 200 tokens ten seconds: an answer is under way still when somebody has seen it, and leaves.
    place.environment["STANDIN_PACE_S"] = "0.05"
    folder = place.folder / "tiny"
    script = PROJECT / "scripts" / "make_tiny_folder.py"
    subprocess.run([sys.executable, script, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("a place with $(touch pwned) 'in' it"))
    recipe = place.recipe(
        engine="vllm", model=str(with_vllm(place)), context_length=CONTEXT, num_parallel=2,
        n_clients=2, n_requests_per_client=2, question="Who are you?", precision="bf16",
        num_batch=64, use_mmap=False, kv_cache_type="f16", sampling={"temperature": 0.5},
    )  # fmt: skip
    yield place, place.deploy(recipe)
    place.orch("--stop", "all")


@pytest.fixture
def engine(served):
    return served[1]["endpoints"]["vllm"][0]


def test_it_is_ready_with_the_model_that_was_asked_for(served):
    _, record = served
    loaded = record["loaded_model"]
    assert loaded["name"].startswith("tiny:") and loaded["name"] == record["model"]
    assert (loaded["quantization"], loaded["where"], loaded["version"]) == ("BF16", "cpu", "0.32.0")
    assert loaded["context_length"] == CONTEXT and loaded["size"] > 400_000
    assert list(record["jobs"]) == ["vllm", "client"]
    assert record["benchmark"]["requests"]["succeeded"] == 4
    assert record["warnings"] == []


def test_it_is_sealed(served, engine):
    assert http("GET", f"{engine}/version", token="wrong")[0] == 401
    assert http("GET", f"{engine}/version") == (200, {"version": "0.32.0"})
    assert http("POST", f"{engine}/tokenize", {"prompt": "Hi"})[1]["count"] == 2
    for method, path in MANAGEMENT:
        assert http(method, f"{engine}{path}", {})[0] == 403, path


def test_a_question_by_query(served):
    url = served[1]["endpoints"]["client"]
    few = {"num_predict": 5, "temperature": 0, "repeat_penalty": 1.1}
    status, answer = http("POST", f"{url}/query", {"prompt": "Hi", "options": few})
    assert (status, answer["response"], answer["eval_count"]) == (200, "abcde", 5)
    status, refused = http("POST", f"{url}/query", {"prompt": "Hi", "options": {"num_ctx": 9}})
    assert (
        status == 400 and "num_ctx, which vLLM takes with no query" in refused["error"]["message"]
    )
    status, refused = http("POST", f"{url}/query", {"prompt": LONG})
    assert (status, refused["error"]["type"]) == (400, "prompt_too_long")
    assert "at least 257 tokens" in refused["error"]["message"]
    assert http("GET", f"{url}/health")[1]["status"] == "healthy"


@pytest.fixture(scope="module")
def client(served):
    place, record = served
    token = place.token_file(record).with_name("user.token").read_text().strip()
    url = f"{record['endpoints']['client']}/v1"
    return openai.OpenAI(base_url=url, api_key=token, max_retries=0)


def test_openais_client(served, client):
    model = served[1]["model"]
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=6)
    assert answer.choices[0].message.content == "abcdef" and answer.usage.completion_tokens == 6
    stream = client.chat.completions.create(model=model, messages=HELLO, max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "abcd"
    assert (
        client.completions.create(model=model, prompt="Hi", max_tokens=3).choices[0].text == "abc"
    )


def test_errors_of_openais_client(served, client):
    ask = client.chat.completions.create
    for long, told in ((LONG, "came with at least 257 tokens"), (LONG * 9, "2718 characters")):
        asked = [{"role": "user", "content": long}]
        with pytest.raises(openai.BadRequestError, match=told) as refused:
            ask(model=served[1]["model"], messages=asked)
        assert refused.value.code == "context_length_exceeded"
        assert f"maximum context length is {CONTEXT} tokens" in str(refused.value)
    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="another", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as unknown:
        client.embeddings.create(model=served[1]["model"], input="Hi")
    assert unknown.value.code == "not_offered"


@pytest.fixture
def counted(served, engine):
    """Asks for one of its own metrics."""
    word = served[0].token_file(served[1]).read_text().strip()

    def ask(name):
        request = urllib.request.Request(
            f"{engine}/metrics", headers={"Authorization": f"Bearer {word}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            lines = answer.read().decode().splitlines()
        (line,) = (line for line in lines if line.startswith(f"vllm:{name}{{"))
        return float(line.rpartition(" ")[2])

    return ask


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", ["/query", "/v1/chat/completions"])
def test_who_leaves_frees_the_slot(served, counted, way, stream):
    place, record = served
    url = record["endpoints"]["client"].removeprefix("http://")
    before = counted("request_success_total")
    asked = {"prompt": "Hi", "options": {"num_predict": 200}} if way == "/query" else STORY
    sock = send(Door(url, place.output, record["id"], 0), way, {**asked, "stream": stream})
    until(lambda: counted("num_requests_running") == 1)
    sock.close()
    until(lambda: counted("request_success_total") > before)
    until(lambda: counted("num_requests_running") == 0)


@pytest.mark.parametrize("way", ["engines", "door"])
def test_a_benchmark_asks_it_by_openais_api(served, way):
    load = {"n_clients": 2, "n_requests_per_client": 2, "num_predict": 6, "through": way}
    status, found = http("POST", f"{served[1]['endpoints']['client']}/benchmark", load)
    assert (status, found["successful"], found["failed"]) == (200, 4, 0)
    assert {one["tokens"] for one in found["results"]} == {6}


def test_one_whose_core_dies_is_told_of_and_leaves_nothing(served):
    place, record = served
    (core,) = (
        path for path in Path("/proc").glob("[0-9]*")
        if read(path / "cmdline") == "sleep\0infinity\0"
        and "standin" in read(parent(path) / "cmdline")
        and is_of(place, path)
    )  # fmt: skip
    os.kill(int(core.name), signal.SIGKILL)
    said = "stopped by itself with exit code 1: the part of it that computes has ended"
    wait_for(lambda: said in place.orch("--status", record["id"]).stdout, PATIENCE_S)
    place.stop_all()
    place.assert_nothing_left()


def parent(path):
    fields = read(path / "stat").rpartition(")")[2].split()
    return path.with_name(fields[1] if fields else "0")  # it has ended since


def is_of(place, path):
    """Whether a process comes from a job of this place: other tests have such processes, too."""
    while path.name not in ("0", "1"):
        if str(place.output) in read(path / "cmdline"):
            return True
        path = parent(path)
    return False


def read(path):
    try:
        return path.read_text(errors="replace")
    except (OSError, IndexError):
        return ""


# --- one that does not start ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context_length": 10_000}, "the model reads 8192 tokens, fewer than job.service.context"),
        ({"fails": "torch.OutOfMemoryError: CUDA out of memory."}, "it is out of memory: ask for"),
        ({"fails": "no template"}, "has no chat template, so that vLLM cannot answer questions"),
    ],
)
def test_why_it_does_not_start_is_said(place, changes, words):
    folder = with_vllm(place)
    if fails := changes.pop("fails", None):
        (folder / "fails").write_text(fails)
    result = place.orch(
        place.recipe(engine="vllm", model=str(folder), **changes), "--site", "local"
    )
    assert_failed(place, result, 4, words)
