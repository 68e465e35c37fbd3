"""No success that was none: errors anywhere in an answer, prompts that were cut, and thinking that
is no answer yet; in the load generator, and in /query."""

import json
from pathlib import Path

import pytest
from hand_made import URL, judged, measured_of, options_of, part, record, verdict_on
from scripted_server import scripted

import clientService
from client.api.bodies import Query
from client.ollama.whole_prompts import was_cut
from contracts.errors import UsageError
from contracts.generation import Generation
from engines.ollama import ollama_line
from engines.openai import openai_line
from loadgen.arguments import parse, points
from loadgen.load import runner
from loadgen.load.prompts import Texts, Varied
from loadgen.load.protocols import Requests
from loadgen.load.schedule import Planned
from loadgen.measurements import ServerFacts
from loadgen.options import Options, parse_replica

# --- streams ---


def token(text="a", finish=None, **delta):
    delta = {"content": text, **delta}
    return json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]})


USAGE = json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
DONE = "[DONE]"
DIED = "the engine died"
OPENAI_ERRORS = {
    "object with a message": json.dumps({"error": {"message": DIED, "code": 500}}),
    "text": json.dumps({"error": DIED}),
    "beside choices": json.dumps({"choices": [], "error": {"message": DIED}}),
    "vLLM's of old": json.dumps({"object": "error", "message": DIED, "code": 500}),
    "FastAPI's": json.dumps({"detail": DIED}),
}
PLACES = {
    "alone": (),
    "first": (token(), USAGE, DONE),
    "before usage": (token(), None, USAGE, DONE),
    "after usage": (token(), USAGE, None, DONE),
    "after [DONE]": (token(), USAGE, DONE, None),
}


def http(body, kind=b"text/event-stream"):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def events(*texts, before=""):
    return (before + "".join(f"data: {text}\n\n" for text in texts)).encode()


def measured(body, api="openai"):
    with scripted(http(body), spared=("/v1/models", "/version", "/api/version")) as server:
        replicas = (parse_replica(server.url, api),)
        options = Options(
            replicas=replicas, model="m", out=Path("unused"), prompts=Texts(), api=api, warmup=0
        )
        (found,) = runner.run(options, lambda _: None).records
    return found


def places(error):
    for place, texts in PLACES.items():
        yield place, [error if text is None else text for text in texts] or [error]


@pytest.mark.parametrize("kind", OPENAI_ERRORS)
def test_an_error_anywhere_in_a_stream_of_openais_makes_it_failed(kind):
    for place, texts in places(OPENAI_ERRORS[kind]):
        if OPENAI_ERRORS[kind] not in texts:
            texts.insert(0, OPENAI_ERRORS[kind])
        found = measured(events(*texts))
        assert (found.error, found.message) == ("server_error", DIED), place


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_choice_that_ends_as_failed_fails(reason):
    found = measured(events(token(), token("", reason), USAGE, DONE))
    assert found.error == "server_error" and reason in found.message


def test_data_after_an_event_that_is_an_error_is_one_whatever_it_holds():
    named = events(json.dumps({"message": DIED}), DONE, before="event: error\n")
    assert (found := measured(named)).error == "server_error" and found.message == DIED
    assert measured(events(token(), DONE) + b"event: error\n\n").error == "server_error"


def test_no_error_is_none():
    whole = events(json.dumps({"error": None, **json.loads(token())}), USAGE, DONE)
    assert measured(whole).error is None
    assert measured(events(token(), token("", "content_filter"), USAGE, DONE)).error is None


LINE = {"model": "m", "created_at": "2025-01-01T00:00:00Z"}
FINAL = {**LINE, "response": "", "done": True, "eval_count": 2, "prompt_eval_count": 5}


def lines(*objects):
    return b"".join(json.dumps(o, separators=(",", ":")).encode() + b"\n" for o in objects)


TEXT = {**LINE, "response": "a", "done": False}
OLLAMAS = {
    "alone": [{"error": DIED}],
    "in the midst": [TEXT, {"error": DIED}, TEXT, FINAL],
    "after the end": [TEXT, FINAL, {"error": DIED}],
    "in the final chunk": [TEXT, {**FINAL, "error": DIED}],
    "in a line like the others": [{"error": DIED, **TEXT}, FINAL],
}


@pytest.mark.parametrize("place", OLLAMAS)
def test_an_error_anywhere_in_a_stream_of_ollamas_makes_it_failed(place):
    found = measured(lines(*OLLAMAS[place]), "ollama")
    assert (found.error, found.message) == ("server_error", DIED)


def test_the_word_error_in_a_text_is_none():
    said = {**TEXT, "response": 'he said "error": {"error": "x"}'}
    assert measured(lines(said, FINAL), "ollama").error is None


NO_STREAMS = (b"", b"<html>Log in</html>", b"{}", b'{"text": "a"}\n', b"[]\n", b'{\n "error": 1}')


@pytest.mark.parametrize("api", ["openai", "ollama"])
@pytest.mark.parametrize("body", NO_STREAMS)
def test_what_is_no_stream_is_no_success(body, api):
    assert measured(body, api).error in ("cut", "bad_json")


# --- prompts that were cut ---

LONG = "word " * 1000


def cut(read, prompts=None, context=None, count=20):
    records = [record(i, 10.0 + i, 10.2 + i, 11.0 + i) for i in range(count)]
    for index, each in enumerate(records):
        each.answer.input_tokens = read[index % len(read)]
    options = options_of(requests=count, clients=1, prompts=prompts or Texts((LONG,)))
    facts = ServerFacts(URL, "1.0", "sha:1", context_length=context)
    found = measured_of(part(records), servers_before=[facts], servers_after=[facts])
    return verdict_on(found, options)


def test_a_prompt_that_fills_the_context_was_cut():
    verdict = cut([512], context=512)
    assert verdict["codes"] == ["prompt_cut"]
    assert "1000 words" in verdict["reasons"][0] and "512 tokens" in verdict["reasons"][0]


@pytest.mark.parametrize(
    ("read", "prompts"),
    [([100], None), ([1], None), ([499], Varied(1000, 0)), ([300, 700], Varied(1000, 0))],
)
def test_fewer_tokens_than_words_can_have_were_cut(read, prompts):
    assert cut(read, prompts)["codes"] == ["prompt_cut"]


@pytest.mark.parametrize(
    ("read", "prompts", "context"),
    [
        ([1007], None, 4096),
        ([700], None, 4096),  # a tokenizer with long words
        ([1007, 3], None, 4096),  # an old Ollama tells what its cache had not
        ([5], Texts(("a short prompt",)), 4096),
        ([None], None, 512),  # who says nothing says nothing of this
    ],
)
def test_what_was_read_whole_is_valid(read, prompts, context):
    assert "prompt_cut" not in cut(read, prompts, context)["codes"]


def test_prompts_that_were_refused_for_their_length_are_named():
    records = [record(i, 10.0 + i, 10.2 + i, 11.0 + i) for i in range(20)]
    for each in records[:1]:
        each.error, each.http_status = "http_400", 400
        each.message = "This model's maximum context length is 512 tokens."
    options = options_of(requests=20, clients=1)
    found = measured_of(part(records))
    assert "prompt_cut" in verdict_on(found, options)["codes"]


# --- thinking ---


def taken(take, *texts):
    answer = Generation()
    for at, text in enumerate(texts):
        take(answer, text, float(at))
    return answer


def test_thinking_comes_first_and_is_no_answer_yet():
    thought = {**LINE, "response": "", "thinking": "hm", "done": False}
    ollama = taken(ollama_line, *lines(thought, thought, TEXT, FINAL).splitlines())
    openai = taken(
        openai_line,
        *(f"data: {t}".encode() for t in (
            token("", reasoning_content="hm"), token("", reasoning="hm"), token(), DONE)),
    )  # fmt: skip
    for answer in (ollama, openai):
        assert (list(answer.chunks), answer.spoke, answer.end) == ([0.0, 1.0, 2.0], 2.0, 3.0)


@pytest.mark.parametrize("delta", [{"tool_calls": [{}]}, {"refusal": "no"}])
def test_calls_and_refusals_are_answers(delta):
    assert taken(openai_line, f"data: {token('', **delta)}".encode()).spoke == 0.0


def test_both_figures_stand_in_the_summary_and_thinking_alone_is_noted():
    records = [record(i, 10.0 + i, 10.2 + i, 11.0 + i) for i in range(20)]
    records[0].answer.thoughts = 3  # of three chunks
    for each in records[1:]:
        each.answer.thoughts = 2  # the third comes after 0.5 s
    found, options = measured_of(part(records)), options_of(requests=20, clients=1)
    summary = judged(found, options)
    assert summary.latency("ttft").mean == pytest.approx(0.2)
    assert summary.latency("ttfo").mean == pytest.approx(0.5)
    assert (summary.requests.thinking, summary.requests.thinking_alone) == (20, 1)
    assert any("thinking alone" in note for note in summary.validity.notes)


# --- what can be asked for ---


def run_of(api="ollama", **given):
    """The run that a command line with these options asks for."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    target = ["--url=http://h:1", "--model=m", f"--api={api}", "--out=unused", "--prompt=hi"]
    (options,) = points(parse([*target, *words]))
    return options


def body_of(api="ollama", **given):
    options = run_of(api, **given)
    return json.loads(Requests(options).bytes_of(Planned(0, 0.0, 7), 0).partition(b"\r\n\r\n")[2])


def test_thinking_format_and_keep_alive_are_asked_for():
    body = body_of(think="low", format='{"type": "object"}', keep_alive="10m")
    assert (body["think"], body["format"]) == ("low", {"type": "object"})
    assert body["keep_alive"] == "10m" and body["options"] == {"seed": 7}
    assert body_of(think="false", format="json", keep_alive="-1")["keep_alive"] == -1
    assert "think" not in body_of()


def test_openais_names_for_the_same():
    body = body_of("openai", think="high", format="json")
    assert (body["reasoning_effort"], body["response_format"]) == ("high", {"type": "json_object"})
    kwargs = body_of("openai", think="false")["chat_template_kwargs"]
    assert kwargs == {"enable_thinking": False}
    schema = body_of("openai", format='{"type": "object"}')["response_format"]
    assert schema["json_schema"]["schema"] == {"type": "object"}


def test_how_tokens_are_chosen_is_among_ollamas_options_and_openais_keys():
    assert body_of(temperature="0.5")["options"] == {"temperature": 0.5, "seed": 7}
    assert body_of("openai", temperature="0")["temperature"] == 0


@pytest.mark.parametrize(
    ("option", "api"),
    [
        ({"think": "much"}, "ollama"),
        ({"think": "1"}, "ollama"),
        ({"format": "xml"}, "ollama"),
        ({"format": "{}"}, "ollama"),
        ({"keep_alive": "soon"}, "ollama"),
        ({"keep_alive": "10m"}, "openai"),
    ],
)
def test_what_cannot_be_asked_for_is_named(option, api):
    with pytest.raises(UsageError, match=f"--{next(iter(option)).replace('_', '-')}"):
        run_of(api, **option)


# --- /query ---


def query(tmp_path, monkeypatch, door, answer, **given):
    """The answer of a client service whose Ollama answers so."""
    for name, value in {"OUTPUT_DIR": tmp_path, "OLLAMA_JOB": 1, "MODEL": "m", "JOB_ID": 2}.items():
        monkeypatch.setenv(f"ORCH_{name}", str(value))
    ps = json.dumps({"models": [{"name": "m:latest", "context_length": 512}]}).encode()
    with scripted(answer, http(ps)) as server:
        (tmp_path / "ollama_ip_1.txt").write_text(f"127.0.0.1:{server.port}\n")
        monkeypatch.setattr("client.ollama.whole_prompts.Contexts._lookup", lambda *_: 512)
        client = clientService.create_app().test_client()
        return client.post("/query", json={"prompt": "hi", **given})


@pytest.mark.parametrize(
    "body", [{"error": DIED}, {**FINAL, "error": DIED}, {}, {**TEXT}], ids=json.dumps
)
def test_an_error_with_status_200_is_an_error(tmp_path, monkeypatch, door, body):
    answer = query(tmp_path, monkeypatch, door, http(json.dumps(body).encode()))
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (502, "ollama_error")


@pytest.mark.parametrize("place", OLLAMAS)
def test_a_stream_with_an_error_ends_with_one(tmp_path, monkeypatch, door, place):
    answer = query(tmp_path, monkeypatch, door, http(lines(*OLLAMAS[place])), stream=True)
    last = json.loads(answer.get_data().splitlines()[-1])
    assert last["error"]["type"] == "ollama_error" and DIED in last["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(
    tmp_path, monkeypatch, door, stream
):
    words = b'{"error": "the input length exceeds the context length"}'
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(words), words)
    answer = query(tmp_path, monkeypatch, door, refusal, prompt="x" * 8000, stream=stream)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["type"]) == (400, "prompt_too_long")
    assert "about 2000 tokens" in error["message"] and "holds 512" in error["message"]


def test_a_prompt_that_an_old_ollama_cut_is_flagged(tmp_path, monkeypatch, door):
    short = http(json.dumps({**FINAL, "response": "a"}).encode())
    assert "truncated" not in query(tmp_path, monkeypatch, door, short).get_json()
    filled = http(json.dumps({**FINAL, "response": "a", "prompt_eval_count": 512}).encode())
    assert query(tmp_path, monkeypatch, door, filled).get_json()["truncated"] is True
    assert was_cut(Query(prompt=LONG), {"prompt_eval_count": 100}, None)
    assert not was_cut(Query(prompt=LONG), {"prompt_eval_count": 1007}, None)
