"""Programs that speak OpenAI's or Ollama's API, at the one address of a deployment."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from events import PATIENCE_S
from place import SMALL, http, wait_for
from test_seal import MANAGEMENT, in_the_job, status

from contracts.files import PROJECT

ANSWERED = (("GET", "/"), ("HEAD", "/"), ("GET", "/api/version"), ("GET", "/api/tags"),
            ("GET", "/api/ps"), ("GET", "/v1/models"))  # fmt: skip
ASKED = ("/api/generate", "/api/chat", "/api/show", "/api/embed", "/v1/chat/completions",
         "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")  # fmt: skip


@pytest.fixture(scope="module")
def deployed(shared_place):
    recipe = shared_place.recipe(model=str(SMALL), num_parallel=2)
    result = shared_place.orch(recipe, "--site", "local")
    assert result.returncode == 0, result.stderr
    (record,) = shared_place.records()
    return shared_place, record, result.stdout


def token_of(place, record):
    return "Bearer " + place.token_file(record).with_name("user.token").read_text().strip()


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Basic YTpi"])
def test_without_a_token_neither_api_is_answered(deployed, token):
    _, record, _ = deployed
    url = record["endpoints"]["client"]
    routes = [*ANSWERED, *(("POST", path) for path in ASKED), *MANAGEMENT]
    found = {(method, path): status(method, url + path, token) for method, path in routes}
    assert found == dict.fromkeys(routes, 401)


def test_the_token_may_be_in_the_path(deployed):
    """As Ollama's command line has it, which sends no key."""
    place, record, _ = deployed
    url = record["endpoints"]["client"]
    inside = f"{url}/{token_of(place, record).removeprefix('Bearer ')}"
    assert status("HEAD", inside + "/", "") == status("GET", inside + "/api/tags", "") == 200
    assert status("DELETE", inside + "/api/delete", "") == 403
    assert status("GET", url + "/wrong/api/tags", "") == 401


def test_a_refusal_has_the_form_of_its_api(deployed):
    _, record, _ = deployed
    url = record["endpoints"]["client"]
    _, openai = http("POST", url + "/v1/chat/completions", {}, token="wrong")
    assert openai["error"]["code"] == "invalid_api_key"
    _, anthropic = http("POST", url + "/v1/messages", {}, token="wrong")
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "authentication_error")
    _, ollama = http("POST", url + "/api/chat", {}, token="wrong")
    assert "unauthorized" in ollama["error"]


def test_management_is_refused_with_a_token_too(deployed):
    place, record, _ = deployed
    url, token = record["endpoints"]["client"], token_of(place, record)
    same = "/api//generate"  # the door takes it for what is asked; the seal sees /api/generate
    routes = [(m, path) for m, path in MANAGEMENT if path.startswith("/api/") and path != same]
    found = {(method, path): status(method, url + path, token) for method, path in routes}
    assert found == dict.fromkeys(routes, 403)
    assert http("POST", url + same, {"model": record["model"], "stream": False})[1]["done"]
    assert http("GET", url + "/api/tags")[1]["models"], "the model is still there"


def exported(out, name):
    """The environment of the line that orch prints under a name."""
    (line,) = re.findall(rf"^  {name} +(export .*)$", out, re.MULTILINE)
    shown = subprocess.run(
        ["bash", "-c", f"{line}; env -0"], capture_output=True, text=True, check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout  # fmt: skip
    return dict(pair.split("=", 1) for pair in shown.split("\0") if "=" in pair)


def test_openais_own_client_works_with_the_line_that_orch_prints(deployed):
    _, record, out = deployed
    said = exported(out, "openai")
    client = openai.OpenAI(
        base_url=said["OPENAI_BASE_URL"],
        api_key=said["OPENAI_API_KEY"],
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    assert [model.id for model in client.models.list()] == [record["model"]]
    ask = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    answer = client.chat.completions.create(
        model=record["model"], messages=ask, max_completion_tokens=20, temperature=0
    )
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 20
    stream = client.chat.completions.create(
        model=record["model"], messages=ask, max_completion_tokens=20, temperature=0, stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 5 and "".join(pieces) == answer.choices[0].message.content
    wrong = client.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    with pytest.raises(openai.BadRequestError, match="maximum context length is 4096") as refused:
        client.chat.completions.create(
            model=record["model"], messages=[{"role": "user", "content": "word " * 6000}]
        )
    assert refused.value.code == "context_length_exceeded"


def test_ollamas_own_api_streams_through_the_door(deployed):
    place, record, out = deployed
    said = exported(out, "ollama")
    listed = subprocess.run(  # its command line
        [PROJECT / ".tools/bin/ollama", "list"], env={**os.environ, **said}, capture_output=True,
        text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert record["model"] in listed.stdout, listed.stderr
    # Whatever it draws by chance may end at once; this goes on.
    options = {"num_predict": 5, "temperature": 0}
    story = "Write a very long story about a river, with many chapters."
    body = {"model": record["model"], "prompt": story, "options": options}
    header = f"@{place.token_file(record).with_name('user.header')}"
    curl = ["curl", "-sN", "--noproxy", "*", "-H", header, "-d", json.dumps(body)]
    curl += [f"{record['endpoints']['client']}/api/generate"]
    lines = subprocess.run(curl, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 2 and json.loads(lines[-1])["eval_count"] == 5


def listens(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


# --- several replicas ----------------------------------------------------------------------------


def test_a_replica_that_dies_is_left_out_and_requests_go_on(place):
    """From the moment on that nobody listens at its port; the door has not been told of it."""
    record = place.deploy(place.recipe(nodes=2))
    url = record["endpoints"]["client"]
    body = {"model": record["model"], "prompt": "Hi", "stream": False,
            "options": {"num_predict": 2}}  # fmt: skip

    def ask(_):
        return http("POST", url + "/api/generate", body)[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {200}

    def logged():
        logs = place.output.glob("logs/ollama_*.out")
        return sum(log.read_text().count('POST     "/api/generate"') for log in logs)

    wait_for(lambda: logged() >= 40, PATIENCE_S, lambda: f"logged: {logged()}")
    victim = min(in_the_job(record, place, "ollama"))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not all(map(listens, record["endpoints"]["ollama"])), PATIENCE_S)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(20))) == {200}


def test_without_an_engine_the_answer_says_so_at_once(deployed):
    """The last test on this deployment."""
    place, record, _ = deployed
    url = record["endpoints"]["client"]
    for pid in in_the_job(record, place, "haproxy"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: status("GET", url + "/api/version", token_of(place, record)) == 503,
             PATIENCE_S)  # fmt: skip
    began = time.monotonic()
    body = {"model": record["model"], "messages": [{"role": "user", "content": "Hi"}]}
    refused, answer = http("POST", url + "/v1/chat/completions", body)
    assert refused in (502, 503) and answer["error"]["message"]
    assert time.monotonic() - began < PATIENCE_S / 2
