"""Conversations of a file: read, sent as each API has them, and their answers counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from paced_server import Pace, running
from scripted_server import scripted

from contracts.conversations import Conversation
from contracts.errors import UsageError
from contracts.generation import Generation
from engines.ollama import OLLAMA
from loadgen import __main__ as command
from loadgen.load.prompts import read_prompts

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What colour is the sky?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "blue"},
]
LINE = {"messages": TURNS, "tools": [TOOL], "id": 7}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(url: str, file: Path, *more: str) -> int:
    words = [f"--url={url}", "--model=known", f"--prompts={file}", f"--out={file.parent / 'run'}"]
    return command.main([*words, "--warmup=0", "--quiet", "--no-report", *more])


def test_openai_is_asked_with_the_conversation_as_it_is(tmp_path: Path) -> None:
    with running(Pace(tokens=3)) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert run(url, written(tmp_path, LINE, "Hi"), "--api=openai", "--requests=2") == 0
    first, second = server.seen.bodies
    assert (first["messages"], first["tools"]) == (TURNS, [TOOL])
    assert second["messages"] == [{"role": "user", "content": "Hi"}] and "tools" not in second


def test_ollama_is_asked_in_its_own_words_at_its_chat_route(tmp_path: Path) -> None:
    with running(Pace(tokens=3)) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert run(url, written(tmp_path, LINE), "--requests=2", "--num-predict=3") == 0
    body = server.seen.bodies[0]
    assert body["messages"][2]["tool_calls"] == [
        {"function": {"name": "look", "arguments": {"at": "sky"}}}
    ]
    assert body["messages"][3] == {"role": "tool", "content": "blue", "tool_name": "look"}
    assert (body["tools"], body["truncate"], body["options"]["num_predict"]) == ([TOOL], False, 3)
    assert "prompt" not in body
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["prompts"]["source"] == "messages"
    assert summary["provenance"]["options"]["prompts"] == [
        "Be short.\nWhat colour is the sky?\nblue"
    ]
    assert summary["latency_seconds"]["ttft"]["n"] == summary["requests"]["counted"] == 2


def test_a_conversation_goes_to_the_route_for_chats(tmp_path: Path) -> None:
    end = b'{"model":"known","message":{"content":""},"done":true,"eval_count":1}\n'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(end), end)
    with scripted(answer, spared=("/api/version", "/api/ps", "/api/tags")) as server:
        run(server.url, written(tmp_path, LINE))
    assert server.heads[0].startswith(b"POST /api/chat HTTP/1.1")


def line(**message: object) -> bytes:
    said = {"role": "assistant", "content": "", **message}
    return json.dumps(
        {"model": "m", "message": said, "done": False}, separators=(",", ":")
    ).encode()


def test_a_call_of_a_tool_is_output_and_thinking_before_it_is_not() -> None:
    answer = Generation()
    calls = [{"function": {"name": "look", "arguments": {"response": "", "error": "x"}}}]
    OLLAMA.parse_line(answer, line(thinking="Hm."), 1.0)
    OLLAMA.parse_line(answer, line(tool_calls=calls), 2.0)
    OLLAMA.parse_line(answer, line(content="Blue."), 3.0)
    OLLAMA.parse_line(answer, line(), 4.0)
    assert (list(answer.chunks), answer.thoughts, answer.spoke) == ([1.0, 2.0, 3.0], 1, 2.0)
    assert answer.error is None


def changed(turn: int, **keys: object) -> dict[str, object]:
    turns = [dict(one) for one in TURNS]
    turns[turn].update(keys)
    return {"messages": turns}


WRONG: dict[str, tuple[object, str]] = {
    "no messages": ({"messages": []}, "messages: List should have at least 1 item"),
    "no list": ({"messages": "Hi"}, "messages: Input should be a valid list"),
    "a role": (changed(0, role="narrator"), "messages.0.role: Input should be 'system'"),
    "a key": (changed(1, mood="glad"), "messages.1.mood: Extra inputs are not permitted"),
    "parts": (
        changed(1, content=[{"type": "text"}]),
        "messages.1.content: Input should be a valid",
    ),
    "nothing said": (changed(1, content=None), "messages.1: .*neither content nor tool_calls"),
    "a user's call": (
        changed(1, tool_calls=[CALL]),
        "messages.1: .*tool_calls are the assistant's",
    ),
    "no id": (changed(3, tool_call_id=None), "messages.3: .*tool_call_id goes with the role tool"),
    "arguments": (
        changed(2, tool_calls=[{**CALL, "function": {"name": "look", "arguments": "[]"}}]),
        "messages.2.tool_calls.0.function.arguments: .*must be a JSON object",
    ),
    "no JSON": (
        changed(2, tool_calls=[{**CALL, "function": {"name": "look", "arguments": "{"}}]),
        "messages.2.tool_calls.0.function.arguments: ",
    ),
    "a tool": ({**LINE, "tools": [{"type": "search"}]}, "tools.0.type: Input should be 'function'"),
    "both": ({**LINE, "prompt": "Hi"}, 'has both "prompt" and "messages"'),
    "too long": (changed(1, content="a" * 1_000_000), "but must have at most 1000000"),
}


@pytest.mark.parametrize(("wrong", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_conversation_is_named_by_file_and_line(
    tmp_path: Path, wrong: object, words: str
) -> None:
    with pytest.raises(UsageError, match=rf"asked\.jsonl, line 2 .*{words}"):
        read_prompts(written(tmp_path, "Hi", wrong))


def test_a_file_may_hold_prompts_and_conversations(tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path, "Hi", LINE)) == ("Hi", Conversation.read(LINE))


def test_what_takes_texts_alone_is_given_no_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("http://127.0.0.1:1", written(tmp_path, LINE), "--retrieval") == 2
    assert "holds messages; --retrieval takes texts alone" in capsys.readouterr().err
