"""The layer as a process: where it listens, whom it asks and with what token, how it ends."""

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from compatible_layer import END, HELLO, whole
from events import PATIENCE_S
from scripted_server import scripted

ROOT = Path(__file__).resolve().parents[2]
ANSWER = whole({"message": {"role": "assistant", "content": "Hi"}, **END})
COMMAND = [sys.executable, "-m", "client.compatible", "--model", "known"]


@contextlib.contextmanager
def running(*arguments):
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(sock):
    body = json.dumps({"messages": HELLO}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    sock.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


def test_it_listens_on_a_socket_that_is_nobody_elses(tmp_path):
    path = tmp_path / "a b.sock"
    with (
        scripted(ANSWER) as engine,
        running("--listen", f"unix:{path}", "--engine", f"127.0.0.1:{engine.port}") as process,
    ):
        assert process.stdout.readline() == f"listening on unix:{path}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(path))
            assert ask(sock).startswith(b"HTTP/1.1 200 OK")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert not path.exists()


def test_a_socket_that_was_left_behind_is_taken_over(tmp_path):
    path = tmp_path / "s"
    for _ in range(2):
        with running("--listen", f"unix:{path}", "--engine", "127.0.0.1:9") as process:
            assert process.stdout.readline() == f"listening on unix:{path}\n"
        assert path.exists(), "it was killed"


def test_it_asks_an_engine_at_a_socket_with_the_token(tmp_path):
    """Which stands in a file, and in no list of arguments."""
    token, path = tmp_path / "token", tmp_path / "engine"
    token.write_text("s3cret-token\n")
    token.chmod(0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        arguments = ["--engine", f"unix:{path}", "--token-file", token, "--listen", "127.0.0.1:0"]
        with running(*arguments) as process:
            port = int(process.stdout.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
                sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
                engine, _ = listener.accept()
                with engine:
                    asked = engine.recv(65_536)
                    engine.sendall(whole({"models": []}))
                assert b'"data":[]' in sock.recv(65_536)
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert asked.startswith(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n")
    assert b"\r\nAuthorization: Bearer s3cret-token\r\n" in asked
    assert b"s3cret" not in command


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--listen", "here", "--engine", "127.0.0.1:9"], 2, "--listen is 'here'"),
        (["--listen", "unix:", "--engine", "127.0.0.1:9"], 2, "--listen is 'unix:'"),
        (["--listen", "127.0.0.1:0", "--engine", "x:99999"], 2, "--engine is 'x:99999'"),
        (["--listen", "127.0.0.1:0", "--engine", "x:9", "--timeout", "0"], 2, "--timeout is 0"),
        (["--listen", "127.0.0.1:0", "--engine", "x:9", "--token-file", "/no"], 2, "/no cannot"),
        (["--listen", "unix:/no/such/place", "--engine", "x:9"], 4, "cannot listen at unix:/no"),
    ],
)
def test_what_it_cannot_do_is_said_in_a_sentence(arguments, code, words):
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE_S
    )
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr


def test_it_opens_as_many_files_as_it_may(tmp_path):
    path = tmp_path / "s"
    with running("--listen", f"unix:{path}", "--engine", "127.0.0.1:9") as process:
        process.stdout.readline()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
    [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard and path.exists()
