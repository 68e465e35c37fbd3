"""What a batch's lines may be: one that is wrong is named by its number, and nothing is sent."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_runs import check_file, content, made, prompts
from batch_server import Known, known_answers

from batch.__main__ import main
from batch.given.lines import unit_of_json, unit_of_text
from batch.given.reading import Input
from contracts.errors import UsageError


@pytest.fixture
def known() -> Iterator[Known]:
    with known_answers(slots={"total": 4, "interactive": 0, "batch": 0}) as server:
        yield server


def request_of(**what: object) -> dict[str, object]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body} | what


BROKEN = {
    "{": "is no JSON (EOF while parsing an object at column 1)",
    '{"prompt": "a", "seed": NaN}': "is no JSON (expected value at column",
    '{"prompt": "a", "seed": 1e400}': "is no JSON (1e400 is too large for a number)",
    '{"prompt": "\\ud800"}': "is no JSON (unexpected end of hex escape at column 19)",
    '["a"]': "is a list, but must be an object",
    "3": "is a number, but must be an object",
    '{"text": "a"}': 'has neither "prompt" nor "url" and "body"',
    '{"prompt": ""}': 'has an empty text as its "prompt"',
    '{"prompt": ["a"]}': 'has a list as its "prompt"',
    '{"prompt": "a", "sead": 0}': 'has the unknown key "sead": did you mean "seed"?',
    '{"prompt": "a", "system": 1}': 'has a number as its "system"',
    '{"prompt": "a", "model": ""}': 'has an empty text as its "model"',
    '{"prompt": "a", "custom_id": 7}': 'has a number as its "custom_id"',
    json.dumps({"prompt": "a", "custom_id": "x" * 513}): "has a text of 513 characters as its",
    json.dumps({k: v for k, v in request_of().items() if k != "custom_id"}): 'has no "custom_id"',
    json.dumps(request_of(method="GET")): 'has the method "GET", but only "POST" is asked',
    json.dumps(request_of(url="/api/pull")): 'has the url "/api/pull", but must have one of /v1/',
    json.dumps(request_of(url="http://elsewhere/v1/completions")): (
        'has the url "http://elsewhere/v1/completions", but must have one of /v1/chat'
    ),
    json.dumps(request_of(body="hi")): 'has a text of 2 characters as its "body"',
    json.dumps({k: v for k, v in request_of().items() if k != "body"}): 'has no "body"',
    json.dumps({k: v for k, v in request_of().items() if k != "url"}): 'has no "url"',
    json.dumps(request_of(body={"model": "m"})): 'has no "messages" in its body, which /v1/chat',
    json.dumps(request_of(url="/v1/embeddings")): 'has no "input" in its body, which /v1/embedd',
    json.dumps(request_of(body={"messages": [1], "stream": True})): "asks for a stream",
    json.dumps(request_of(body={"messages": [1], "model": 3})): 'has a number as its "model"',
    json.dumps(request_of(boby={})): 'has the unknown key "boby": did you mean "body"?',
    '"why?"': "is a text of 4 characters, but must be an object",
    "null": "is null, but must be an object",
    "{}": 'has neither "prompt" nor "url" and "body"',
    "{'prompt': 'a'}": "is no JSON (key must be a string at column 2)",
    '{"prompt": "a"} {"prompt": "b"}': "is no JSON (trailing characters at column 17)",
    '{"prompt": "a"},': "is no JSON (trailing characters at column 16)",
    '{"prompt": null}': 'has null as its "prompt"',
    '{"prompt": "a", "custom_id": ""}': 'has an empty text as its "custom_id"',
    '{"prompt": "a", "stream": true}': 'has the unknown key "stream"',
    json.dumps(request_of(url=None)): "has the url null, but must have one of /v1/chat",
    json.dumps(request_of(url="v1/completions")): 'has the url "v1/completions", but must have',
    json.dumps(request_of(body=[])): 'has a list as its "body"',
    json.dumps(request_of(body={"messages": []})): 'has no "messages" in its body',
    json.dumps(request_of(body={"messages": [1], "stream": "no"})): "asks for a stream",
    '{"prompt": "good", "custom_id": "good"}': "has the custom_id of line 1: give it another",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_named_and_nothing_is_sent(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    good = json.dumps({"prompt": "good", "custom_id": "good"})
    batch = made(tmp_path, known.url, [good, "", line])
    assert main(batch.words()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"batch: line 3 of {batch.given} {BROKEN[line]}")
    assert said.endswith("; nothing was sent.\n") and said.count("\n") == 1
    assert not known.asked
    assert batch.state().state == "failed" and f"line 3 of {batch.given}" in str(batch.state())


def test_of_many_broken_lines_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    lines = [*prompts(50), *prompts(50)[:30], "no JSON"]
    with pytest.raises(UsageError, match=r"31 lines of .* nothing was sent") as error:
        check_file(made(tmp_path, "", lines).given)
    assert error.value.details[0] == "line 51 has the custom_id of line 1: give it another"
    assert [text.split()[1] for text in error.value.details] == [str(51 + i) for i in range(20)]


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "is empty"),
        (b"\n \r\n\n", "is empty"),
        (b'{"prompt": "a"}\n\xff\xfe\n', "line 2 of .* is no JSON"),
        (b'{"prompt": "' + b"x" * 33_554_432 + b'"}\n{"prompt": "a"}', "line 1 .* than 32 MiB"),
    ],
)
def test_a_file_that_is_no_batch_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=why):
        check_file(path)


def test_a_file_that_is_removed_on_its_server_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Input(made(tmp_path, "", prompts(1)).given) as given:
        assert not given.changed

        def stale(_: int) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", stale)
            with pytest.raises(UsageError, match="cannot be read any further: Stale file handle;"):
                _ = given.changed


def test_text_that_is_not_utf_8_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"a\n\xe4rger\n")
    with pytest.raises(UsageError, match=r"line 2 of .*in\.txt is not UTF-8 \(byte 1\)"):
        check_file(tmp_path / "in.txt")


@pytest.mark.parametrize(
    "words, why",
    [
        (["none.jsonl", "--url", "http://h"], "none.jsonl cannot be read: No such file"),
        (["in.jsonl", "--url", "ftp://h"], "--url ftp://h is no address of a server"),
        (["in.jsonl", "--url", "unix:"], "--url unix: names no socket"),
        (["in.jsonl", "--url", "http://h", "--slots", "0"], "--slots is 0"),
        (["in.jsonl", "--url", "http://h", "--out", "in.jsonl"], "would overwrite the batch"),
        (["in.jsonl", "--url", "http://h", "--out", "."], "--out . is a folder"),
        (["in.jsonl", "--url", "http://h", "--out", ""], "--out . is a folder"),
        (["in.jsonl", "--url", "http://h", "--out", "no/out.jsonl"], "there is no folder no"),
        (["in.jsonl", "--url", "http://h", "--token-file", "no"], "--token-file no cannot be read"),
        (["in.jsonl", "--url", "http://h", "--conditions", "in.jsonl"], "must be a JSON object of"),
        ([".", "--url", "http://h"], "the batch . is no file"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"prompt": "a", "model": "m", "seed": 1}\n')
    assert main(words) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1


def test_each_kind_of_line_is_asked_as_it_says(tmp_path: Path, known: Known) -> None:
    lines = [
        {"prompt": "one", "system": "be brief", "model": "m", "max_tokens": 5, "temperature": 0},
        request_of(url="/api/generate", body={"model": "n", "prompt": "two"}),
        request_of(custom_id="e", url="/v1/embeddings", body={"model": "m", "input": "three"}),
    ]
    batch = made(tmp_path, known.url, lines)
    assert main(batch.words()) == 0
    seen = {json.dumps(body, sort_keys=True) for body in known.bodies}
    assert seen == {
        json.dumps(body, sort_keys=True)
        for body in (
            {
                "model": "m",
                "max_tokens": 5,
                "temperature": 0,
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": "one"},
                ],
                "stream": False,
            },
            {"model": "n", "prompt": "two", "stream": False},
            {"model": "m", "input": "three"},
        )
    }
    assert {answer["custom_id"] for answer in batch.answers()} == {"line-1", "x", "e"}
    assert known.priorities == {"batch"}


@pytest.mark.parametrize("name", ["in.txt", "prompts"])
def test_lines_of_text_are_asked_with_the_model_that_is_given(
    tmp_path: Path, known: Known, name: str
) -> None:
    batch = made(tmp_path, known.url, ["\ufeffwhat?", "", "wär es {so}?\r"], name)
    assert main(batch.words("--model", "m")) == 0
    assert {answer["custom_id"]: content(answer) for answer in batch.answers()} == {
        "line-1": "WHAT?",
        "line-3": "WÄR ES {SO}?",
    }
    assert {body["model"] for body in known.bodies} == {"m"}


def test_a_line_without_a_model_gets_the_deployments(tmp_path: Path) -> None:
    health = {"model": "deployed", "ollama": [{"version": "1.2", "digest": "abc"}]}
    with known_answers(health=health) as known:
        batch = made(tmp_path, known.url, [{"prompt": "a"}])
        assert main(batch.words()) == 0
    assert known.bodies[0]["model"] == "deployed"
    begin = json.loads(batch.files.ledger.read_text().splitlines()[0])
    assert begin["conditions"] == {
        "model": "deployed",
        "model digest": "abc",
        "engine version": "1.2",
    }


def test_a_line_without_a_model_is_named_if_nobody_knows_one(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = made(tmp_path, known.url, [*prompts(2), {"prompt": "a"}])
    assert main(batch.words()) == 2
    assert "line 3 of" in (said := capsys.readouterr().err) and "names no model" in said
    assert not known.asked


def test_a_key_is_of_all_that_a_line_says() -> None:
    def key(**more: object) -> str:
        return unit_of_json(1, json.dumps({"prompt": "a", **more}).encode()).key

    assert key(seed=1, top_p=0.5) == key(top_p=0.5, seed=1) == key(top_p=0.5, seed=1)
    assert len({key(), key(seed=1), key(seed=2), key(custom_id="b"), key(system="c")}) == 5
    assert unit_of_text(1, b"a").key == key()
