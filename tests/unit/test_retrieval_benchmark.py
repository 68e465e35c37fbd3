"""A benchmark with retrieval: the load generator asks the client service, under gunicorn, as the
job script serves it. Ollama is the stand-in with known times, and the points are in a folder."""

import contextlib
import http.client
import json
from pathlib import Path

import pytest
from events import BUSY
from paced_server import Pace, running
from served import THREADS, gunicorn

import clientService
from client.self_benchmark import RESERVED_THREADS
from clientServiceHandler import SERVING_THREADS
from contracts.errors import UsageError
from contracts.generation import Generation
from engines.client_service import retrieval_line
from hpc.recipe.schema import Recipe
from hpc.recipe.sections import MAX_CLIENTS_WITH_RETRIEVAL
from hpc.recipe.words import validate
from loadgen import __main__ as command
from loadgen.load import servers
from loadgen.load.prompts import Texts
from loadgen.options import Options, parse_replica
from loadgen.outputs import html, results
from retrieval.settings import section

OWN_JOB = "40"
PACE = {"embed": 0.06, "ttft": 0.05, "itl": 0.01, "tokens": 5}
POINT = {"source": "a.md", "version": "1", "count": 1, "chunks": [{"position": 0, "text": "A."}]}


@pytest.fixture(scope="module")
def ollama():
    """The stand-in for Ollama, with the pace of all tests here."""
    with running(Pace(**PACE)) as server:
        yield server


@pytest.fixture(scope="module")
def kept(ollama, tmp_path_factory):
    """The service under gunicorn, with one point in its collection and its address published."""
    output = tmp_path_factory.mktemp("kept")
    ours = {"RETRIEVAL": section("c", "known:latest", 3), "QDRANT": str(output / "storage")}
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**ours, "JOB_ID": OWN_JOB}.items():
                patch.setenv(f"ORCH_{name}", value)
            process = stack.enter_context(gunicorn(ollama, output))
        (output / f"client_ip_{OWN_JOB}.txt").write_text(f"127.0.0.1:{process.port}\n")
        assert ask(process, "/points", POINT)[0] == 200
        yield process


def ask(served, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def run(url, out, *more):
    """The load generator in this process: exit code and summary, None where it left none."""
    words = ["--retrieval", "--url", url, "--model", "known", "--out", str(out), "--no-report"]
    code = command.main([*words, *map(str, more)])
    path = out / "summary.json"
    return code, json.loads(path.read_text()) if path.exists() else None


@pytest.fixture(scope="module")
def measured(kept, tmp_path_factory):
    """A run of the command against the service: folder, summary, requests."""
    out = tmp_path_factory.mktemp("measured") / "out"
    code, summary = run(f"http://127.0.0.1:{kept.port}", out, "--clients", 2, "--requests", 12)
    assert code == 0 or set(summary["validity"]["codes"]) <= BUSY, summary["validity"]
    return out, summary, [json.loads(line) for line in (out / "requests.jsonl").open()]


# --- loadgen --retrieval ---


def test_the_steps_are_those_of_the_known_servers(measured):
    _, summary, requests = measured
    found = {**summary["server_seconds"], "e2e": summary["latency_seconds"]["e2e"]}
    assert found["embed"]["min"] >= 0.06 and found["embed"]["p50"] < found["e2e"]["p50"]
    assert 0 < found["search"]["p50"] < found["e2e"]["p50"]
    assert found["prefill"]["mean"] == pytest.approx(0.05)
    assert found["decode"]["mean"] == pytest.approx(5 * 0.01)
    assert {len(request["gaps"]) for request in requests} == {4}


def test_the_line_with_the_sources_is_no_first_token(measured):
    _, _, requests = measured
    for one in requests:
        before = one["server"]["embed"] + one["server"]["search"] + 0.05
        assert before <= one["ttft"] <= one["e2e"]  # read together on a busy machine


def test_a_requests_steps_add_up_to_its_e2e(measured):
    _, _, requests = measured
    steps = ("embed", "search", "load", "prefill", "decode", "queue")
    for one in requests:
        assert sum(one["server"][step] for step in steps) == pytest.approx(one["e2e"], abs=0.001)


def test_what_the_service_says_of_its_replicas_stands_in_the_provenance(measured, kept):
    (facts,) = measured[1]["provenance"]["server"]["before"]
    assert facts["url"] == f"http://127.0.0.1:{kept.port}"
    assert (facts["version"], facts["digest"]) == ("0.0.0-stand-in", "known:latest")
    assert (facts["size"], facts["size_vram"], facts["quantization"]) == (1000, 0, None)
    assert measured[1]["provenance"]["options"]["api"] == "retrieval"


def test_table_report_and_csv_show_the_steps(measured, capsys):
    out, summary, requests = measured
    from loadgen.outputs.run_files import table

    assert "mean ms: embed " in table(results.parse(summary))
    page = html.run_page(results.parse(summary), requests)
    assert "Steps of a request with retrieval [ms]" in page and "Steps of a request" in page
    head, first = (out / "requests.csv").read_text().splitlines()[:2]
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert float(row["server_embed"]) == requests[0]["server"]["embed"] >= 0.06


def test_without_retrieval_in_the_deployment_it_ends_with_4_and_says_so(ollama, tmp_path, capsys):
    with gunicorn(ollama, tmp_path) as plain:
        code, summary = run(f"http://127.0.0.1:{plain.port}", tmp_path / "out")
    assert (code, summary) == (4, None)
    assert "http_409: This deployment has no retrieval; give its recipe" in capsys.readouterr().err


def test_an_answer_that_breaks_off_has_the_services_words_and_what_it_does_not_say_is_unknown():
    answer = Generation()
    head = {"response": "", "done": False, "sources": [], "timings": {"embed": None, "search": 0.1}}
    error = {"error": {"type": "timeout", "message": "The answer took too long."}}
    for line in (head, {"response": "a", "done": False}, error):
        retrieval_line(answer, json.dumps(line).encode(), 1.0)
    assert (answer.embed, answer.search, len(answer.chunks)) == (None, 0.1, 1)
    assert answer.error == "The answer took too long."


# --- /benchmark ---


def test_benchmark_with_retrieval_measures_this_very_service(kept, ollama):
    ollama.forget()
    body = {"retrieval": True, "n_clients": 2, "n_requests_per_client": 6, "num_predict": 5}
    status, result = ask(kept, "/benchmark", {**body, "id": "rag"})
    assert status == 200, result
    assert (result["successful"], result["failed"]) == (12, 0)
    assert set(result["validity"]["codes"]) <= BUSY
    assert result["server_seconds"]["embed"]["n"] == 12
    assert [one["url"] for one in result["replicas"]] == [f"http://127.0.0.1:{kept.port}"]
    assert all("Sources:\n\n[1] A.\n" in one["prompt"] for one in ollama.seen.bodies)
    assert {one["options"]["num_predict"] for one in ollama.seen.bodies} == {5}


def test_more_clients_than_the_service_has_room_for_are_refused(kept):
    status, answer = ask(kept, "/benchmark", {"retrieval": True, "n_clients": 5})
    assert (status, answer["error"]["type"]) == (409, "no_room")
    assert "n_clients is 5, but with retrieval it must be at most 4" in answer["error"]["message"]
    assert f"answers {THREADS} requests at once" in answer["error"]["message"]
    assert ask(kept, "/benchmark", {"n_clients": 5})[0] == 200  # Ollama itself has room


def test_at_a_rate_what_finds_no_room_waits_and_that_counts(kept):
    body = {"retrieval": True, "rate": 100, "arrivals": "constant", "n_requests": 16}
    status, result = ask(kept, "/benchmark", {**body, "id": "crowd"})
    assert status == 200, result
    assert (result["successful"], result["concurrency"]["max"]) == (16, 4)
    assert any("--max-concurrency 4 was reached" in note for note in result["validity"]["notes"])
    # Four at once, each for 0.15 s and more: the last four wait for those before them.
    assert result["latency_seconds"]["e2e"]["mean"] > 1.5 * 0.15


@pytest.fixture
def service(ollama, tmp_path, monkeypatch, door):
    """The service in this process, with retrieval and an empty collection."""
    (tmp_path / "ollama_ip_41.txt").write_text(f"127.0.0.1:{ollama.port}\n")
    named = {"OUTPUT_DIR": str(tmp_path), "OLLAMA_JOB": "41", "MODEL": "known", "JOB_ID": OWN_JOB}
    named |= {"RETRIEVAL": section("c", "known:latest", 3), "QDRANT": str(tmp_path / "storage")}
    for name, value in named.items():
        monkeypatch.setenv(f"ORCH_{name}", value)
    return lambda: clientService.create_app().test_client()


def words_of(answer, status, kind):
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.get_json()["error"]["type"] == kind
    return answer.get_json()["error"]["message"]


def test_a_deployment_without_retrieval_says_so(service, monkeypatch):
    monkeypatch.delenv("ORCH_RETRIEVAL")
    answer = service().post("/benchmark", json={"retrieval": True})
    assert "has no retrieval; give its recipe" in words_of(answer, 409, "no_retrieval")


def test_before_anything_was_ingested_or_its_address_is_known_nothing_starts(service, tmp_path):
    client = service()
    answer = client.post("/benchmark", json={"retrieval": True})
    assert "The collection c has no points yet" in words_of(answer, 409, "no_retrieval")
    assert client.post("/points", json=POINT).status_code == 200
    answer = client.post("/benchmark", json={"retrieval": True}, headers={"Host": "evil:80"})
    words = words_of(answer, 409, "address_not_published")
    assert f"{tmp_path}/client_ip_{OWN_JOB}.txt cannot be read" in words
    assert not (tmp_path / "benchmarks").exists()


def test_a_recipe_asks_for_no_more_clients_than_there_is_room_for(recipe_data):
    assert MAX_CLIENTS_WITH_RETRIEVAL == SERVING_THREADS - RESERVED_THREADS
    service = recipe_data["job"]["service"]
    service |= {"n_clients": 60, "retrieval": {"benchmark": True}}
    validate(Recipe, recipe_data, "recipe")
    service["n_clients"] = 61
    with pytest.raises(UsageError) as raised:
        validate(Recipe, recipe_data, "recipe")
    assert "at most 60 clients, but job.service.n_clients is 61" in raised.value.details[0]
    service["retrieval"]["benchmark"] = False
    validate(Recipe, recipe_data, "recipe")


# --- what /health says, made by hand ---


def facts_of(monkeypatch, *replicas):
    monkeypatch.setattr(servers, "_get", lambda *_: {"ollama": list(replicas)})
    asked = Options(
        replicas=(parse_replica("http://h:1"),),
        model="m",
        out=Path(),
        prompts=Texts(),
        api="retrieval",
    )
    (facts,) = servers.probe(asked)
    return facts


def replica(**changes):
    plain = {"ok": True, "version": "1", "model": "m:latest", "loaded": True}
    return {**plain, "placement": {"size": 10, "size_vram": 10, "where": "gpu"}, **changes}


def test_several_replicas_are_told_as_one(monkeypatch):
    partly = replica(version="2", placement={"size": 10, "size_vram": 4})
    facts = facts_of(monkeypatch, replica(), partly, replica(ok=False, version=None))
    assert (facts.version, facts.digest) == ("1, 2", "m:latest")
    assert (facts.size, facts.size_vram) == (20, 14)


@pytest.mark.parametrize(
    "other",
    [replica(loaded=False, placement=None), replica(model="another:latest")],
    ids=["not loaded", "another model"],
)
def test_of_a_model_that_not_all_have_loaded_nothing_is_told(monkeypatch, other):
    facts = facts_of(monkeypatch, replica(), other)
    assert (facts.version, facts.digest, facts.size) == ("1", None, None)


def test_a_service_that_does_not_answer_tells_nothing(monkeypatch):
    facts = facts_of(monkeypatch)
    assert (facts.version, facts.digest, facts.size) == (None, None, None)
