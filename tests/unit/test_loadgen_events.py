"""Server-sent events and lines of JSON, however a server writes them and the network cuts them."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from scripted_server import scripted

from contracts.errors import UsageError
from engines.openai import OPENAI
from loadgen import json_lines
from loadgen.load import runner
from loadgen.load.child_process import read_result
from loadgen.load.connection import Connection
from loadgen.load.prompts import Texts, read_prompts
from loadgen.measurements import RequestRecord
from loadgen.options import Options, parse_replica
from loadgen.outputs.results import read_requests


def token(text):
    return json.dumps({"choices": [{"delta": {"content": text}}]})


A, B = token("a"), token("b")
USAGE = json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
SPREAD = json.dumps(json.loads(B), indent=1).splitlines()  # a JSON text of many lines


def events(end="\n", blank=" ", mark="", first=(A,), second=(B,)):
    """A stream of two tokens: `end` ends its lines, the texts of an event are its data lines."""
    texts = [*(first, second), (USAGE,), ("[DONE]",)]
    lines = [line for event in texts for line in (*(f"data:{blank}{t}" for t in event), "")]
    return (mark + "".join(line + end for line in lines)).encode()


STREAMS = {
    "line feeds": events(),
    "carriage returns and line feeds": events("\r\n"),
    "carriage returns": events("\r"),
    "no blank after data:": events(blank=""),
    "a byte-order mark": events(mark="\ufeff"),
    "comments first": events(mark=": hello\n\n:\n\n"),
    "other fields": events(mark="retry: 3000\nid: 1\nevent: x\nunknown\n\ndata\n\ndata:\n\n"),
    "data in several lines": events(second=SPREAD),
    "data in several lines that end alike": events("\r\n", second=SPREAD),
    "data in several lines after carriage returns": events("\r", mark="\ufeff", second=SPREAD),
    "no empty lines between": events().replace(b"\n\n", b"\n"),
    "no end of the last line": events().rstrip(b"\n"),
    "ends of lines of Unicode in the text": events(
        first=('{"choices": [{"delta": {"content": "a\u2028b\u0085c\u2029"}}]}',)
    ),
}


def measured(stream, pieces=None):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(stream)
    with scripted([head, *(pieces or [stream])], spared=("/v1/models", "/version")) as server:
        options = Options(
            replicas=(parse_replica(server.url),),
            model="m",
            out=Path("unused"),
            prompts=Texts(),
            api="openai",
            warmup=0,
        )
        return runner.run(options, lambda team: None).records[0]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_events_is_understood(name, apart):
    stream = STREAMS[name]
    pieces = [stream[i : i + 1] for i in range(len(stream))] if apart else [stream]
    record = measured(stream, pieces)
    assert (record.error, record.message) == (None, None)
    assert len(record.answer.chunks) == record.answer.output_tokens == 2


def test_an_event_of_carriage_returns_is_taken_as_it_comes():
    """It does not wait for a line feed, which comes never."""
    stream = events("\r")
    half = stream.index(b"data", 1)

    async def taken():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(ours, OPENAI, ("127.0.0.1", 0))
        record = RequestRecord(0, 0, 0.0)
        exchange = asyncio.ensure_future(connection.exchange(b"?", record, 30.0))
        theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + stream[:half])
        while not record.answer.chunks and not exchange.done():
            await asyncio.sleep(0.001)
        before = len(record.answer.chunks)
        theirs.sendall(stream[half:])
        theirs.close()
        await exchange
        return before, len(record.answer.chunks), record.error

    assert asyncio.run(taken()) == (1, 2, None)


@pytest.mark.parametrize("data", ['{"choices": [', "nonsense", "[1]"])
def test_an_event_that_is_no_json_is_named(data):
    record = measured(events(second=(data,)))
    assert record.error == "bad_json"


def test_many_lines_of_one_event_take_linear_time():
    record = measured(events(second=(*SPREAD[:1], *[""] * 100_000, *SPREAD[1:])))
    assert (record.error, len(record.answer.chunks)) == (None, 2)


# --- JSON Lines ---

PROMPTS = ["a\u2028b\u2029c", "d\u0085e", "f", "ü"]
FILE = "\n".join(json.dumps(prompt, ensure_ascii=False) for prompt in PROMPTS)


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        FILE + "\n",
        "\ufeff" + FILE,
        FILE.replace("\n", "\r\n"),
        FILE.replace("\n", "\n\n  \r\n"),
        "\ufeff\n" + FILE,
        FILE.replace('"f"', '{"prompt":\r"f"}'),  # between its parts it is a blank of JSON's
    ],
)
def test_prompts_end_at_line_feeds_and_nowhere_else(tmp_path, text):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(text.encode())
    assert list(read_prompts(path)) == PROMPTS


@pytest.mark.parametrize("control", ["\v", "\f", "\x1c", "\x1e"])
def test_what_only_python_takes_for_the_end_of_a_line_is_a_part_of_it(tmp_path, control):
    """It must be escaped in a JSON text; so it is an error of line 2, not of line 3."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'"a"\n"b{control}c"\n')
    with pytest.raises(UsageError, match="line 2 is not JSON: Invalid control character"):
        read_prompts(path)


def test_what_is_no_text_is_said_with_its_line(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'"a"\n"\xff"\n')
    with pytest.raises(UsageError, match=r"prompts\.jsonl, line 2 is not JSON: 'utf-8' codec"):
        read_prompts(path)


def test_requests_are_read_back_whatever_their_messages_hold(tmp_path):
    rows = [{"message": text} for text in PROMPTS]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "requests.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert read_requests(tmp_path) == rows == list(json_lines.requests(tmp_path))
    assert read_result(tmp_path) is None
