"""/benchmark in this process; the load generator is a real child process."""

import json
import threading

import pytest
from events import PATIENCE_S, undisturbed, until
from paced_server import Pace

import clientService
from loadgen.load import child_process

QUICK = {"n_clients": 2, "n_requests_per_client": 3}
LONG = {"n_clients": 2, "n_requests_per_client": 5000, "id": "long"}


@pytest.fixture
def output(tmp_path, server, monkeypatch, door):
    """An output directory with the address of the stand-in, and the environment that names it."""
    (tmp_path / "ollama_ip_41.txt").write_text(f"127.0.0.1:{server.port}\n")
    for name, value in {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": "41", "MODEL": "known"}.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    return tmp_path


@pytest.fixture
def client(output):
    """The service; a run that a test leaves behind is cancelled."""
    client = clientService.create_app().test_client()
    yield client
    client.delete("/benchmark/long")


def post(client, **body):
    return client.post("/benchmark", json=body)


def error(response, status, kind):
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.get_json()["error"]["type"] == kind
    return response.get_json()["error"]["message"]


def state_of(client, run_id):
    return client.get(f"/benchmark/{run_id}").get_json()["state"]


@undisturbed
def test_all_clients_are_in_flight_at_once_as_the_server_counts(client, server):
    server.pace.ttft = 0.2
    result = post(client, n_clients=40, n_requests_per_client=2, num_predict=4, seed=5).get_json()
    assert server.seen.most_in_flight == 40
    assert (result["total_queries"], result["successful"], result["failed"]) == (80, 80, 0)
    assert (result["n_clients"], result["n_requests_per_client"]) == (40, 2)
    assert server.seen.bodies[-1]["options"]["num_predict"] == 4
    assert server.seen.requests == 81  # with one to warm up


def test_thinking_format_and_keep_alive_are_asked_of_ollama_and_told(client, server):
    wanted = {"think": "low", "format": {"type": "object"}, "keep_alive": "-1m"}
    result = post(client, **QUICK, **wanted).get_json()
    assert {key: server.seen.bodies[-1][key] for key in wanted} == wanted
    assert {key: result["load"][key] for key in wanted} == wanted
    assert {"think", "format", "keep_alive"}.isdisjoint(post(client, **QUICK).get_json()["load"])


@undisturbed
def test_the_result_has_the_figures_and_every_request(client, server):
    server.pace = Pace(ttft=0.05, itl=0.01, tokens=4)
    result = post(client, **QUICK).get_json()
    assert result["state"] == "done" and result["validity"]["valid"]
    assert result["avg_request_time"] == pytest.approx(0.09, abs=0.04)
    assert result["queries_per_second"] == pytest.approx(6 / result["total_time"])
    assert result["latency_seconds"]["ttft"]["mean"] == pytest.approx(0.05, abs=0.03)
    assert len(result["results"]) == 6
    first = result["results"][0]
    assert (first["client"], first["status"], first["tokens"]) == (0, "ok", 4)
    assert first["error"] is None and 0.05 <= first["ttft"] < first["request_time"]


def test_averages_are_over_what_succeeded(client, server):
    server.pace = Pace(failure="cut", fail_from=1, fail_every=2)
    result = post(client, **QUICK).get_json()
    assert (result["successful"], result["failed"]) == (3, 3)
    assert {r["error"] for r in result["results"] if r["status"] == "failed"} == {"cut"}
    assert not result["validity"]["valid"]
    assert result["latency_seconds"]["e2e"]["n"] == result["requests"]["counted"] <= 3


def test_where_nothing_succeeds_there_is_no_average(client, server):
    server.pace = Pace(failure="http_500")
    result = post(client, warmup=0, **QUICK).get_json()
    assert (result["successful"], result["avg_request_time"]) == (0, None)
    assert result["queries_per_second"] is None
    assert result["latency_seconds"]["ttft"]["p50"] is None


def test_an_empty_request_is_one_request_of_one_client(client, server):
    result = post(client).get_json()
    assert (result["n_clients"], result["total_queries"]) == (1, 1)
    assert server.seen.requests == 2
    assert server.seen.bodies[0]["model"] == "known"


def test_results_land_in_the_folder_of_the_run(client, output):
    post(client, id="mine", **QUICK)
    folder = output / "benchmarks" / "mine"
    assert json.loads((folder / "summary.json").read_text())["requests"]["succeeded"] == 6
    assert len((folder / "requests.jsonl").read_text().splitlines()) == 6


def test_any_prompt_reaches_ollama_as_it_is(client, server):
    prompt = "$(touch x) 'q' \"q\" \n --out /tmp\0 \ud800 " + "ü" * 200_000
    assert post(client, prompt=prompt).get_json()["successful"] == 1
    assert {body["prompt"] for body in server.seen.bodies} == {prompt}


def test_prompts_and_conversations_are_asked_in_turn_and_kept(client, server, output):
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    asked = ["Hi", {"messages": turns}]
    result = post(client, prompts=asked, n_requests_per_client=2, warmup=0, id="turns").get_json()
    assert result["successful"] == 2
    assert [body["messages"] for body in server.seen.bodies] == [
        [{"role": "user", "content": "Hi"}],
        turns,
    ]
    request = json.loads((output / "benchmarks" / "turns" / "request.json").read_text())
    assert request["prompts"] == asked


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompts": ["Hi"], "prompt": "Ho"}, "prompts does not go with prompt"),
        ({"prompts": ["Hi", {"messages": []}]}, "number 2 of prompts is no conversation: messages"),
        ({"prompts": ["Hi", {"prompt": "{}"}]}, "number 2 of prompts is no conversation: messages"),
        ({"prompts": []}, "prompts is [], but must be a list of 1 to 1000 texts, or objects"),
        ({"prompts": 600 * ["x" * 2000]}, "prompts have 1202400 bytes, but must have at most"),
        (
            {"prompts": [{"messages": [{"role": "user", "content": "Hi"}]}], "retrieval": True},
            "messages in prompts do not go with retrieval",
        ),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_by_name(client, server, body, words):
    assert words in error(post(client, **body), 400, "bad_request")
    assert server.seen.requests == 0


def test_an_unknown_model_is_said_in_ollamas_words(client):
    message = error(post(client, id="bad", model="--nope"), 502, "benchmark_failed")
    assert "model '--nope' not found" in message
    found = client.get("/benchmark/bad").get_json()
    assert found["state"] == "failed"
    assert "not found" in found["error"]["message"]


def test_a_failed_run_may_be_begun_again(client, server):
    server.pace.models = ()
    error(post(client, id="again"), 502, "benchmark_failed")
    server.pace.models = ("known",)
    assert post(client, id="again").get_json()["state"] == "done"


def test_without_an_address_nothing_starts(client, output):
    (output / "ollama_ip_41.txt").unlink()
    error(post(client), 503, "ollama_not_ready")
    assert not (output / "benchmarks").exists()


def test_not_waiting_it_answers_at_once_and_shows_progress(client, server):
    server.pace = Pace(ttft=0.2)  # so that its progress is told some times before it ends
    answer = post(client, wait=False, id="later", n_requests_per_client=10)
    assert (answer.status_code, answer.get_json()) == (202, {"id": "later", "state": "running"})

    def so_far():
        found = client.get("/benchmark/later").get_json()
        return found if found["progress"]["done"] else None

    found = until(so_far)
    assert set(found) == {"id", "state", "progress"}
    assert found["progress"]["planned"] == 10 and found["progress"]["elapsed_seconds"] > 0
    until(lambda: state_of(client, "later") == "done")
    assert client.get("/benchmark/later").get_json()["successful"] == 10


def test_progress_has_the_figures_so_far_and_at_the_end_the_last_ones(client, server):
    server.pace = Pace(ttft=0.05, itl=0.01, tokens=4)
    post(client, wait=False, id="later", n_clients=2, n_requests_per_client=20)

    def so_far():
        found = client.get("/benchmark/later").get_json()
        return found if found["progress"]["ttft_p50"] else None

    found = until(so_far)
    assert found["state"] == "running"
    seen = found["progress"]
    assert 0.05 <= seen["ttft_p50"] < seen["elapsed_seconds"]
    assert 0 < seen["requests_per_second"] <= 2 / 0.08
    per_request = seen["output_tokens_per_second"] / seen["requests_per_second"]
    assert per_request == pytest.approx(4, rel=0.01)
    until(lambda: state_of(client, "later") == "done")
    result = client.get("/benchmark/later").get_json()
    assert result["progress"]["done"] == 40
    assert result["progress"]["ttft_p50"] == result["latency_seconds"]["ttft"]["p50"]
    assert result["progress"]["requests_per_second"] == result["queries_per_second"]


def test_one_at_a_time(client, server):
    server.pace.itl = 0.02
    post(client, wait=False, **LONG)
    message = error(post(client), 409, "conflict")
    assert "long is running" in message
    text = client.get("/metrics").get_data(as_text=True)
    assert "orch_client_benchmark_running 1.0" in text


def test_the_same_id_joins_the_run_that_goes_on(client, server):
    server.pace.ttft = 0.1
    post(client, id="one", wait=False, **QUICK)
    joined = []
    threads = [
        threading.Thread(target=lambda: joined.append(post(client, id="one", **QUICK).get_json()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["successful"] for result in joined] == [6, 6, 6]
    assert server.seen.requests == 7


def test_the_same_id_later_returns_the_result_also_from_a_dead_predecessor(client, server):
    first = post(client, id="one", **QUICK).get_json()
    again = post(client, id="one", **QUICK).get_json()
    successor = clientService.create_app().test_client()
    found = post(successor, id="one", wait=False, **QUICK)
    shown = successor.get("/benchmark/one").get_json()
    assert first == again == found.get_json() == shown
    assert server.seen.requests == 7


def test_the_same_id_with_other_parameters_is_a_conflict(client):
    post(client, id="one", **QUICK)
    message = error(post(client, id="one", n_clients=3), 409, "conflict")
    assert "one exists with other parameters" in message


def test_a_run_is_cancelled_and_keeps_what_it_measured(client, server, output):
    server.pace.itl = 0.01
    post(client, wait=False, **LONG)
    until(lambda: server.seen.requests > 5)
    answer = client.delete("/benchmark/long")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
    until(lambda: server.seen.in_flight == 0)
    found = client.get("/benchmark/long").get_json()
    assert found["state"] == "cancelled" and found["partial"] and found["successful"] >= 1
    assert {r["status"] for r in found["results"]} <= {"ok", "interrupted"}
    assert client.delete("/benchmark/long").status_code == 200
    assert "was stopped after" in error(post(client, **LONG), 409, "conflict")
    assert post(client).status_code == 200  # the way is free again


def test_cancelled_before_it_began_it_is_cancelled_all_the_same(client):
    post(client, wait=False, **LONG)
    assert client.delete("/benchmark/long").get_json()["state"] == "cancelled"
    assert state_of(client, "long") == "cancelled"


def test_who_waits_for_a_run_that_is_cancelled_is_told(client, server):
    server.pace.itl = 0.01
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(post(client, **LONG)))
    waiting.start()
    until(lambda: server.seen.requests > 5)
    client.delete("/benchmark/long")
    waiting.join(PATIENCE_S)
    assert "was stopped after" in error(answers[0], 409, "conflict")


def test_a_finished_run_cannot_be_cancelled(client):
    post(client, id="one", **QUICK)
    assert "has ended already: done" in error(client.delete("/benchmark/one"), 409, "conflict")


def test_a_load_generator_that_is_killed_is_a_failure_in_words(client, server, monkeypatch):
    server.pace.itl = 0.01
    started = []
    begin = child_process.ChildRun._start
    monkeypatch.setattr(
        child_process.ChildRun, "_start", lambda *a: started.append(begin(*a)) or started[0]
    )
    post(client, wait=False, **LONG)
    until(lambda: server.seen.requests > 3)
    started[0].kill()
    until(lambda: state_of(client, "long") == "failed")
    message = client.get("/benchmark/long").get_json()["error"]["message"]
    assert message == "the load generator ended with exit code -9"


def test_a_folder_of_a_run_that_left_nothing_is_a_failure(client, output):
    (output / "benchmarks" / "dead").mkdir(parents=True)
    found = client.get("/benchmark/dead").get_json()
    assert (found["state"], found["error"]["type"]) == ("failed", "benchmark_failed")
    assert post(client, id="dead").get_json()["state"] == "done"


def test_an_output_directory_that_cannot_be_written_is_a_sentence(client, output):
    (output / "benchmarks").write_text("in the way")
    message = error(post(client), 500, "output_not_writable")
    assert str(output / "benchmarks") in message


# --- through the door ---


@pytest.mark.parametrize(("through", "told"), [("door", "door"), (None, "engines")])
def test_the_way_that_was_asked_for_is_measured_and_told(
    output, server, monkeypatch, through, told
):
    """The published address stands for the door; no engine is where the engines are said to be."""
    if through == "door":
        (output / "ollama_ip_41.txt").write_text("127.0.0.1:1\n")
    (output / "client_ip_40.txt").write_text(f"127.0.0.1:{server.port}\n")
    for name, value in {"JOB_ID": "40", "DOOR": str(output / "door")}.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    client = clientService.create_app().test_client()
    result = post(client, **QUICK, through=through).get_json()
    assert (result["successful"], result["load"]["through"]) == (6, told)
    assert [one["url"] for one in result["replicas"]] == [f"http://127.0.0.1:{server.port}"]
    said = [note for note in result["validity"]["notes"] if "through the deployment's door" in note]
    assert len(said) == (told == "door")


def test_the_api_that_was_asked_for_is_measured(client, server):
    server.pace = Pace(tokens=3)
    assert post(client, **QUICK, api="openai").get_json()["successful"] == 6
    assert "messages" in server.seen.bodies[-1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"api": "openai", "think": True}, "think true or false does not go with api openai"),
        ({"api": "openai", "keep_alive": "5m"}, "keep_alive does not go with api openai"),
        ({"retrieval": True, "through": "door"}, "through does not go with retrieval true"),
        ({"retrieval": True, "api": "openai"}, "api does not go with retrieval true"),
    ],
)
def test_what_the_asked_way_does_not_have_is_refused(client, body, words):
    assert words in error(post(client, **body), 400, "bad_request")
