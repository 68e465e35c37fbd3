"""No success that was none: errors wherever they stand, prompts that were cut, thinking apart."""

import json
from array import array
from pathlib import Path

import pytest
from hand_made import URL, judged, measured_of, options_of, part, record, run_of, verdict_on
from scripted_server import scripted

from contracts.errors import UsageError
from contracts.generation import Generation
from engines.ollama import ollama_line
from engines.openai import openai_line
from loadgen.__main__ import main
from loadgen.load import runner
from loadgen.load.prompts import Texts, Varied
from loadgen.load.protocols import Requests
from loadgen.load.schedule import Planned
from loadgen.load.servers import probe
from loadgen.measurements import ServerFacts
from loadgen.options import Options, parse_replica
from loadgen.outputs.run_files import as_dict, table

LISTS = ("/v1/models", "/version", "/api/version", "/api/ps", "/api/tags")

# --- errors, of OpenAI's API ---


def sse(*events):
    return "".join(f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n" for e in events)


def delta(finish=None, **said):
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


A = delta(content="a")
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
DONE = "[DONE]"
ERROR = {"error": {"message": "EngineCore died", "code": 500}}
EVENT = "event: error\n"
PRETTY = json.dumps(ERROR, indent=2)
#: By what they show: a stream, and the words that the failure has.
OPENAI = {
    "before any text": (sse(ERROR, DONE), "EngineCore died"),
    "after some text": (sse(A, ERROR, DONE), "EngineCore died"),
    "before usage": (sse(A, ERROR, USAGE, DONE), "EngineCore died"),
    "after usage": (sse(A, USAGE, ERROR, DONE), "EngineCore died"),
    "after the end": (sse(A, USAGE, DONE, ERROR), "EngineCore died"),
    "without an end": (sse(A, ERROR), "EngineCore died"),
    "beside usage": (sse(A, USAGE | ERROR, DONE), "EngineCore died"),
    "a text": (sse(A, {"error": "out of memory"}, USAGE, DONE), "out of memory"),
    "without words": (sse(A, {"error": {}}, USAGE, DONE), "{}"),
    "a message that is null": (sse(A, {"error": {"message": None, "code": 7}}, DONE), "7"),
    "of vLLM": (sse(A, {"object": "error", "message": "too long", "code": 400}, DONE), "too long"),
    "of vLLM, no message": (sse(A, {"object": "error", "code": 500}, USAGE, DONE), "an error"),
    "of FastAPI": (sse(A, {"detail": "gone"}, USAGE, DONE), "gone"),
    "an event with an error": (sse(A) + EVENT + sse(ERROR, USAGE, DONE), "EngineCore died"),
    "an event with a message": (sse(A) + EVENT + sse({"message": "no"}, USAGE, DONE), "no"),
    "an event with odd keys": (sse(A) + EVENT + sse({"code": 7}, USAGE, DONE), "an error"),
    "an event with a text": (sse(A) + EVENT + sse("it broke", USAGE, DONE), "it broke"),
    "an event without blank": (sse(A) + "event:error\n" + sse({}, USAGE, DONE), "an error"),
    "finish_reason error": (sse(A, delta("error"), USAGE, DONE), "'error'"),
    "finish_reason abort": (sse(A, delta("abort"), USAGE, DONE), "'abort'"),
    "no answer at all": (sse(DONE), "no answer"),
    "a role and no answer": (sse(delta(role="assistant"), DONE), "no answer"),
    "usage of nothing": (
        sse({"choices": [], "usage": {"completion_tokens": 0}}, DONE),
        "no answer",
    ),
    "an error in place of a stream": (json.dumps(ERROR), "EngineCore died"),
    "vLLM's in place of a stream": ('{"object":"error","message":"no such model"}', "no such"),
    "FastAPI's in place of a stream": ('{"detail":"Not Found"}', "Not Found"),
}
OLLAMA_TEXT = '{"model":"m","created_at":"t","response":"a","done":false}\n'
OLLAMA_END = '{"model":"m","response":"","done":true,"done_reason":"stop","eval_count":2}\n'
BROKEN = '{"error":"runner terminated"}\n'
OLLAMA = {
    "before any text": (BROKEN, "runner terminated"),
    "after some text": (OLLAMA_TEXT + BROKEN, "runner terminated"),
    "before the end": (OLLAMA_TEXT + BROKEN + OLLAMA_END, "runner terminated"),
    "after the end": (OLLAMA_TEXT + OLLAMA_END + BROKEN, "runner terminated"),
    "in the end": (OLLAMA_TEXT + OLLAMA_END.replace("{", '{"error":"x y",', 1), "x y"),
    "in an unfinished line": (
        OLLAMA_TEXT + '{"model":"m","response":"","error":"x y","done":false}\n' + OLLAMA_END,
        "x y",
    ),
    "in an unfinished line, first": (
        OLLAMA_TEXT + '{"error":"x y","response":"","done":false}\n' + OLLAMA_END,
        "x y",
    ),
    "in an unfinished line alone": (
        OLLAMA_TEXT + '{"error":"x y","done":false}\n' + OLLAMA_END,
        "x y",
    ),
    "beside text": (
        '{"model":"m","response":"a","error":"x y","done":false}\n' + OLLAMA_END,
        "x y",
    ),
    "as an object": ('{"error":{"type":"timeout","message":"too slow"}}\n', "too slow"),
    "only loaded": ('{"model":"m","response":"","done":true,"done_reason":"load"}\n', "load"),
    "only unloaded": ('{"model":"m","response":"","done":true,"done_reason":"unload"}\n', "unload"),
}
CASES = [("openai", name, *case) for name, case in OPENAI.items()]
CASES += [("ollama", name, *case) for name, case in OLLAMA.items()]
CASES += [("retrieval", name, *case) for name, case in OLLAMA.items()]


def measured(api, body, kind="", **more):
    """The one request of a run that is answered so, with status 200."""
    data = body.encode()
    fields = f"Content-Type: {kind}\r\n" if kind else ""
    head = f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(data)}\r\n\r\n".encode()
    with scripted(head + data, spared=(*LISTS, "/health")) as server:
        plain = {"api": api, "prompts": Texts(), "warmup": 0}
        options = Options(
            replicas=(parse_replica(server.url),), model="m", out=Path(), **{**plain, **more}
        )
        return runner.run(options, lambda team: None).records[0]


@pytest.mark.parametrize(("api", "name", "body", "words"), CASES)
def test_an_error_anywhere_makes_a_request_failed(api, name, body, words):
    found = measured(api, body)
    assert found.error == "server_error"
    assert words in found.message


#: In place of a stream, with status 200: class of the failure by body and its type.
NO_STREAMS = {
    "a page": ("<html>\n<p>Log in</p>\n</html>", "text/html"),
    "nothing": ("", "text/event-stream"),
    "an error of many lines": (PRETTY, "application/json"),
    "an answer in one piece": ('{"choices":[{"message":{"content":"a"}}]}', "application/json"),
    "a list": ("[]", "application/json"),
    "a text": ("busy", "text/plain"),
}


@pytest.mark.parametrize("name", NO_STREAMS)
@pytest.mark.parametrize("api", ["ollama", "openai", "retrieval"])
def test_what_is_no_stream_is_no_success(api, name):
    found = measured(api, *NO_STREAMS[name])
    assert found.error in ("cut", "bad_json") and found.answer.output_tokens is None


def test_it_is_said_what_came_in_place_of_a_stream():
    assert "(it is text/html)" in measured("openai", *NO_STREAMS["a page"]).message


WHOLE = '{"model":"m","response":"all of it","done":true,"done_reason":"stop","eval_count":9}'


def test_an_answer_in_one_piece_is_no_stream_of_ollamas():
    found = measured("ollama", WHOLE, "application/json; charset=utf-8")
    assert (found.error, "one piece" in found.message) == ("server_error", True)


RIGHT = {
    "a text in the last line": ("ollama", WHOLE, "application/x-ndjson"),
    "json by its type": ("ollama", OLLAMA_TEXT + OLLAMA_END, "application/json"),
    "no end mark but [DONE]": ("openai", sse(A, USAGE, DONE), "text/event-stream"),
    "an error that is null": ("openai", sse(A | {"error": None}, USAGE, DONE), ""),
    "ollama's that is null": ("ollama", '{"response":"a","error":null,"done":false}\n', ""),
    "the word in its text": ("ollama", OLLAMA_TEXT.replace('"a"', r'"\"error\":"'), ""),
    "tools": ("openai", sse(delta(tool_calls=[{"index": 0}]), USAGE, DONE), ""),
    "a refusal": ("openai", sse(delta(refusal="No."), USAGE, DONE), ""),
    "nothing but its reason": ("openai", sse(delta("stop"), USAGE, DONE), ""),
    "usage in each chunk": ("openai", sse(A | {"usage": None}, A | USAGE | A, USAGE, DONE), ""),
    "other events": ("openai", "event: ping\n" + sse({}) + sse(A, USAGE, DONE), ""),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_only_looks_like_a_failure_is_none(name):
    api, body, kind = RIGHT[name]
    if api == "ollama" and "true" not in body:
        body += OLLAMA_END
    found = measured(api, body, kind)
    assert (found.error, found.message) == (None, None)


# --- shapes that nobody expects ---

ODD = [
    {"choices": "x"},
    {"choices": [1]},
    {"choices": [{"delta": "x"}]},
    {"choices": [{"delta": ["x"]}]},
    {"choices": 5},
]


@pytest.mark.parametrize("chunk", ODD, ids=json.dumps)
def test_a_chunk_that_is_not_of_the_api_fails_its_request_alone(chunk):
    assert measured("openai", sse(chunk, USAGE, DONE)).error == "bad_json"


@pytest.mark.parametrize("count", ["NaN", "-1", "1e999", "1" * 400, '"5"', "[]", "1.5"])
def test_a_count_that_is_none_is_not_known(count):
    line = f'{{"done":true,"response":"","eval_count":{count},"eval_duration":{count}}}'
    answer = Generation()
    ollama_line(answer, line.encode(), 1.0)
    assert answer.end == 1.0 and answer.output_tokens is None
    assert answer.decode in (None, pytest.approx(1.5e-9))  # a duration need not be whole
    found = record(0, 10.0, 10.2, 11.0)
    found.answer.output_tokens, found.answer.decode = answer.output_tokens, answer.decode
    json.dumps(run_of(found), allow_nan=False)


# --- thinking ---


def thinking(text="", thought="", end=False):
    keys = {"model": "m", "response": text} | ({"thinking": thought} if thought else {})
    return json.dumps({**keys, "done": end}, separators=(",", ":"))


STREAMS = {
    "ollama": (ollama_line, [thinking(thought="h"), thinking(thought="m"), thinking("yes")]),
    "ollama, by another encoder": (
        ollama_line,
        ['{"response": "", "thinking": "h", "done": false}'] * 2
        + ['{"response": "yes", "done": false}'],
    ),
    "reasoning_content": (
        openai_line,
        [f"data: {json.dumps(delta(reasoning_content='h', content=''))}"] * 2
        + [f"data: {json.dumps(delta(content='yes'))}"],
    ),
    "reasoning, then a tool": (
        openai_line,
        [f"data: {json.dumps(delta(reasoning='h', content=None))}"] * 2
        + [f"data: {json.dumps(delta(tool_calls=[{'index': 0}]))}"],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one read"])
def test_what_a_model_thinks_is_told_from_what_it_answers(name, together):
    take, lines = STREAMS[name]
    answer = Generation()
    for at, line in enumerate(lines, 1):
        take(answer, line.encode(), 3.0 if together else float(at))
    assert (len(answer.chunks), answer.thoughts, answer.spoke) == (3, 2, 3.0)


def thought(index, thoughts):
    """A request of which so many of the three chunks are thinking; they come 0.2, 0.3, 0.5 s on."""
    found = record(index, t := 10.0 + index, t + 0.2, t + 1.0)
    found.answer.thoughts = thoughts
    return found


def summary_of(*records, **asked):
    options = options_of(clients=1, requests=len(records), **asked)
    return judged(measured_of(part(records)), options)


def test_there_is_a_time_to_the_first_text_and_one_to_the_answers():
    summary = summary_of(thought(0, 2), thought(1, 0), thought(2, 3))
    assert summary.latency("ttft").mean == pytest.approx(0.2)
    assert summary.latency("ttfo").n == 2
    assert summary.latency("ttfo").max == pytest.approx(0.5)
    counts = summary.requests
    assert (counts.succeeded, counts.thinking, counts.thinking_alone) == (3, 2, 1)
    assert any("1 of 3 answers hold thinking alone" in note for note in summary.validity.notes)
    assert "\nTTFO" in table(summary)


def test_where_no_model_thinks_nothing_is_said_of_it():
    summary = summary_of(thought(0, 0))
    assert "TTFO" not in table(summary)
    assert summary.latency("ttfo") == summary.latency("ttft")


def test_it_is_in_the_files_of_a_run(tmp_path):
    with scripted(ollama(thinking(thought="h"), thinking("yes"))) as server:
        arguments = ["--url", server.url, "--model", "m", "--requests", "2", "--warmup", "0"]
        main([*arguments, "--out", str(tmp_path / "run"), "--quiet"])
    lines = (tmp_path / "run" / "requests.jsonl").read_text().splitlines()
    assert all(json.loads(line)["ttfo"] >= json.loads(line)["ttft"] for line in lines)
    head, row, *_ = (tmp_path / "run" / "requests.csv").read_text().splitlines()
    cells = dict(zip(head.split(","), row.split(","), strict=True))
    assert float(cells["ttfo"]) >= float(cells["ttft"]) and cells["finish"] == "stop"
    assert "TTFO" in (tmp_path / "run" / "report.html").read_text()


def ollama(*lines):
    """These lines and the last one, as an answer of HTTP."""
    body = "".join(f"{line}\n" for line in lines) + OLLAMA_END
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


# --- prompts that were cut ---

FACTS = ServerFacts(URL, "1.0", "sha:1", "Q4_0", 100, 100, 512)
UNKNOWN = ServerFacts(URL, "1.0", "sha:1")
WORDS = Texts(("word " * 300,), source="file")
BUILT_IN = Varied(300, 0)


def cut(prompts, *read, facts=FACTS, **asked):
    """The verdict on a run whose prompts were read so far, by the server's count."""
    records = [record(i, t := 10.0 + i, t + 0.2, t + 1.0) for i in range(len(read))]
    for each, tokens in zip(records, read, strict=True):
        each.answer.input_tokens = tokens
    measured = measured_of(part(records), servers_before=[facts], servers_after=[facts])
    options = options_of(clients=1, requests=len(records), prompts=prompts, **asked)
    return verdict_on(measured, options)


#: Prompts of 300 words: how far they were read, by a server that says its context or not.
CUT = {
    "all of the context": (BUILT_IN, (512, 512), FACTS),
    "a file's, all of the context": (WORDS, (512, 512), FACTS),
    "fewer than words": (BUILT_IN, (256, 256), UNKNOWN),
    "far fewer than words": (WORDS, (100, 100), UNKNOWN),
    "2 of 100": (BUILT_IN, (512,) * 2 + (330,) * 98, FACTS),
}
READ = {
    "whole": (BUILT_IN, (330, 310), FACTS),
    "with a long template": (WORDS, (500, 500), FACTS),
    "a context that nobody knows": (BUILT_IN, (512, 512), UNKNOWN),
    "tokens that reach over blanks": (WORDS, (200, 200), UNKNOWN),
    "a cache that is not counted": (WORDS, (310, 12, 1, 12), UNKNOWN),
    "no count": (BUILT_IN, (None, None), FACTS),
    "1 of 200": (BUILT_IN, (512,) + (330,) * 199, FACTS),
}


@pytest.mark.parametrize("name", CUT)
def test_prompts_that_were_cut_make_a_run_invalid(name):
    prompts, read, facts = CUT[name]
    found = cut(prompts, *read, facts=facts)
    assert "prompt_cut" in found["codes"]
    reason = found["reasons"][found["codes"].index("prompt_cut")]
    assert f"read {read[0]} tokens" in reason and "300 words" in reason


@pytest.mark.parametrize("name", READ)
def test_prompts_that_were_read_whole_do_not(name):
    prompts, read, facts = READ[name]
    assert "prompt_cut" not in cut(prompts, *read, facts=facts)["codes"]


REFUSALS = [
    "the input length exceeds the context length",
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "the request exceeds the available context size, try increasing it",
    "The question and its 4 sources are longer than the model reads; ask for a smaller top_k.",
]


@pytest.mark.parametrize("words", REFUSALS)
def test_prompts_that_were_refused_for_their_length_are_told_as_such(words):
    records = [record(i, t := 10.0 + i, t + 0.2, t + 1.0) for i in range(2)]
    records[1].error, records[1].http_status, records[1].message = "http_400", 400, words
    measured = measured_of(part(records))
    options = options_of(clients=1)
    found = verdict_on(measured, options)
    assert "prompt_cut" in found["codes"] and words in " ".join(found["reasons"])


def test_an_answer_that_meets_the_end_of_the_context_is_noted():
    notes = " ".join(cut(BUILT_IN, 511, 511)["notes"])
    assert "2 of 2 answers met the end of the model's context" in notes
    assert not any("context" in note for note in cut(BUILT_IN, 330, 330)["notes"])


@pytest.mark.parametrize(("asked", "met"), [(None, 1), (8, 1), (3, 0)])
def test_so_is_one_that_is_cut_short_before_its_tokens_are_there(asked, met):
    found = record(0, 10.0, 10.2, 11.0)  # three tokens
    found.answer.finish = "length"
    assert summary_of(found, num_predict=asked).requests.out_of_room == met


def test_why_answers_ended_is_counted_and_a_filter_noted():
    records = [record(i, t := 10.0 + i, t + 0.2, t + 1.0) for i in range(3)]
    for each, finish in zip(records, ("stop", "content_filter", "stop"), strict=True):
        each.answer.finish = finish
    summary = summary_of(*records)
    assert summary.requests.finished == {"content_filter": 1, "stop": 2}
    assert any("content filter" in note for note in summary.validity.notes)
    assert as_dict(records[1], 10.0, True)["finish"] == "content_filter"


def test_tokens_without_text_make_a_run_invalid():
    records = [record(i, t := 10.0 + i, t + 0.2, t + 1.0) for i in range(2)]
    records[0].answer.chunks = array("d")
    assert "no_text" in summary_of(*records).validity.codes
    records[0].answer.output_tokens = 1  # the mark of the end
    assert "no_text" not in summary_of(*records).validity.codes


def reply(value):
    body = json.dumps(value)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def probed(server):
    """What a server of OpenAI's API says of itself and its model."""
    where = (parse_replica(server.url, "openai"),)
    asked = Options(replicas=where, model="m", out=Path(), prompts=Texts(), api="openai")
    (facts,) = probe(asked)
    return facts


def test_the_context_is_known_of_openais_api_too():
    vllm = reply({"data": [{"id": "m", "max_model_len": 512}]})
    with scripted(vllm, reply({"version": "0.11"}), spared=()) as server:
        facts = probed(server)
    assert (facts.version, facts.digest, facts.context_length) == ("0.11", "m", 512)


def test_ollama_is_known_by_its_list_of_models_and_asked_in_its_own_api():
    listed = reply({"data": [{"id": "m:latest", "owned_by": "library"}]})
    running = {"name": "m:latest", "digest": "sha", "context_length": 512}
    answers = [listed, reply({"version": "0.17.4"}), reply({"models": [running]})]
    with scripted(*answers, spared=()) as server:
        facts = probed(server)
    assert [head.split()[1] for head in server.heads] == [
        b"/v1/models",
        b"/api/version",
        b"/api/ps",
    ]
    assert (facts.version, facts.digest, facts.context_length) == ("0.17.4", "sha", 512)


# --- what requests ask for beside ---


def asked(*words, api="ollama"):
    """The body of a request of a command line, or the words of its refusal."""
    from loadgen.arguments import parse, points

    given = ["--url", "http://h:1", "--model", "m", "--out", "x", "--api", api, *words]
    (options,) = points(parse(given))
    request = Requests(options).bytes_of(Planned(0, 0, 7), 0)
    return json.loads(request.partition(b"\r\n\r\n")[2])


SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
KEYS = [
    (["--think", "true"], {"think": True}),
    (["--think=false"], {"think": False}),
    (["--think", "high"], {"think": "high"}),
    (["--format", "json"], {"format": "json"}),
    (["--format", SCHEMA], {"format": json.loads(SCHEMA)}),
    (["--keep-alive", "10m"], {"keep_alive": "10m"}),
    (["--keep-alive", "-1"], {"keep_alive": -1}),
    (["--keep-alive=-1h30m"], {"keep_alive": "-1h30m"}),
    (["--keep-alive", "0"], {"keep_alive": 0}),
]


@pytest.mark.parametrize(("words", "keys"), KEYS)
def test_thinking_format_and_keep_alive_can_be_asked_for(words, keys):
    body = asked(*words)
    assert {key: body.get(key) for key in keys} == keys
    assert body["options"] == {"seed": 7}


def test_in_openais_words_too():
    assert asked("--think", "low", api="openai")["reasoning_effort"] == "low"
    thinks = asked("--think", "false", api="openai")["chat_template_kwargs"]
    assert thinks == {"enable_thinking": False}
    assert asked("--format", "json", api="openai")["response_format"] == {"type": "json_object"}
    made = asked("--format", SCHEMA, api="openai")["response_format"]["json_schema"]
    assert made["schema"] == json.loads(SCHEMA)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--think", "much"], '--think is "much", but must be true, false, low'),
        (["--think", "1"], "--think"),
        (["--format", "yaml"], "--format"),
        (["--format", "{}"], "--format"),
        (["--keep-alive", "10 minutes"], "--keep-alive"),
        (["--keep-alive", "NaN"], "--keep-alive"),
        (["--keep-alive", "5"], "openai"),
    ],
)
def test_what_they_cannot_be_is_refused(words, why):
    with pytest.raises(UsageError, match=why):
        asked(*words, api="openai" if why == "openai" else "ollama")
