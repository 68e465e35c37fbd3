"""orch.py --login: what a colleague is told when it does not work, and what he keeps when it does.

The door is a stand-in: tests/local/test_login.py has the real one.
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from contracts.files import write_whole
from hpc.commands.access import login
from hpc.deployments.records import create_record

WORD = "w" * 43


class Door(ThreadingHTTPServer):
    """Answers as it is told; `asked` has the bodies that came."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.place = (200, {"deployment": "d-1", "owner": os.getuid()})
        given = {"token": WORD, "name": "anna", "expires": 4e9, "queries": True, "ollama": True}
        self.given, self.asked = (200, given), []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(*self.server.place)

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.asked.append(json.loads(self.rfile.read(length)))
        self.answer(*self.server.given)

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def door():
    with Door() as it:
        yield it
        it.shutdown()


@pytest.fixture(autouse=True)
def config(monkeypatch, tmp_path):
    """Where the colleague keeps his things."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "orch"


@pytest.fixture
def munge(monkeypatch, tmp_path):
    """A program of that name, which does what is said; its command line and input are kept."""

    def is_(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "munge"
        kept = f'{{ echo "$@"; cat; }} >{tmp_path}/munge.asked'
        write_whole(program, [f"#!/bin/sh\n{kept}\n{script}\n"], 0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return is_


@pytest.fixture
def record(door, tmp_path):
    (tmp_path / "output" / "deployments").mkdir(parents=True)
    facts = {"site": {"name": "local", "scheduler": "local"}, "state": "ready",
             "endpoints": {"client": door.url, "ollama": []}}  # fmt: skip
    return create_record(tmp_path / "output", "d-1", facts)


def test_the_token_is_kept_for_its_bearer_alone_with_lines_that_use_it(
    orch, door, record, munge, config, tmp_path
):
    munge("echo MUNGE:abc:")
    code, out, err = orch("--login", "d-1")
    assert (code, door.asked) == (0, [{"credential": "MUNGE:abc:"}]), err
    options, payload = (tmp_path / "munge.asked").read_text().split("\n")
    assert options == f"--restrict-uid={os.getuid()}"
    assert payload == f"orch login d-1 {door.url.removeprefix('http://')}"
    token = config / "d-1" / "user.token"
    assert token.read_text() == f"{WORD}\n"
    assert token.with_name("user.header").read_text() == f"Authorization: Bearer {WORD}\n"
    assert {path.stat().st_mode & 0o777 for path in token.parent.iterdir()} == {0o600}
    assert token.parent.stat().st_mode & 0o777 == 0o700
    assert f"-H @{token.with_name('user.header')}" in out and WORD not in out + err
    assert f'OPENAI_API_KEY="$(cat {token})"' in out


def test_a_url_does_as_well_and_programs_get_json(orch, door, munge, config):
    munge("echo MUNGE:abc:")
    code, out, _ = orch("--login", f"{door.url}/", "--json")
    assert (code, json.loads(out)["token_file"]) == (0, str(config / "d-1" / "user.token"))


@pytest.mark.parametrize(
    ("status", "message"), [(403, "not shared with you"), (401, "too old: clocks are apart")]
)
def test_what_the_door_refuses_is_told_in_its_words(orch, door, munge, config, status, message):
    munge("echo MUNGE:abc:")
    door.given = (status, {"error": {"type": "x", "message": f"It is {message}."}})
    code, _, err = orch("--login", door.url)
    assert code == 4 and f"gives no token: It is {message}.\n" in err
    assert not config.exists()


PLACES = {
    "nobody": (404, {"error": {"type": "x", "message": "Nobody logs in."}}, "Nobody logs in."),
    "none of ours": (200, {}, "names no deployment"),
    "a path": (200, {"deployment": "../up", "owner": 1}, "names no deployment"),
    "no owner": (200, {"deployment": "d-1", "owner": "anna"}, "names no owner"),
}


@pytest.mark.parametrize(("status", "place", "words"), PLACES.values(), ids=PLACES)
def test_a_place_where_nobody_logs_in_is_told(orch, door, munge, config, status, place, words):
    munge("echo MUNGE:abc:")
    door.place = (status, place)
    code, _, err = orch("--login", door.url)
    assert code == 4 and words in err and door.asked == []


@pytest.mark.parametrize("place", [("other", os.getuid()), ("d-1", os.getuid() + 1)])
def test_who_answers_in_place_of_the_recorded_deployment_gets_no_credential(
    orch, door, record, munge, place
):
    munge("echo MUNGE:abc:")
    door.place = (200, dict(zip(("deployment", "owner"), place, strict=True)))
    code, _, err = orch("--login", "d-1")
    assert code == 4 and "another deployment answers than d-1" in err and door.asked == []


def test_without_munge_or_its_daemon_a_sentence_says_so(orch, door, munge, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    code, _, err = orch("--login", door.url)
    assert code == 2 and "there is no munge on PATH" in err
    monkeypatch.undo()
    munge("echo 'munge: Error: Failed to access \"/x\": No such file' >&2; exit 6")
    code, _, err = orch("--login", door.url)
    assert code == 4 and 'Failed to access "/x": No such file; see its daemon' in err
    assert door.asked == []


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("none", "there is no deployment 'none'"),
        ("ftp://x", "must be a deployment's ID, or its URL"),
        ("http://x/path", "must be a deployment's ID, or its URL"),
        ("http://[fe80::1:5000", "must be a deployment's ID, or its URL"),
        ("https://x:5000", "which cannot be read here; name the output directory of the owner"),
    ],
)
def test_what_is_no_deployment_is_told(orch, named, words):
    code, _, err = orch("--login", named)
    assert code == 2 and words in err


def test_a_door_that_does_not_answer_and_a_deployment_without_one(orch, door, record):
    door.server_close()
    code, _, err = orch("--login", "d-1")
    assert code == 4 and f"{door.url}/login does not answer" in err
    record.update(state="starting", endpoints={"client": None, "ollama": []})
    code, _, err = orch("--login", "d-1")
    assert code == 2 and "d-1 is starting, and has no address to log in at" in err


def test_a_token_that_cannot_be_kept_is_told(orch, door, munge, config):
    munge("echo MUNGE:abc:")
    config.parent.write_text("no folder")
    code, _, err = orch("--login", door.url)
    assert code == 4 and f"cannot write {config / 'd-1' / 'user.token'}" in err


def test_a_place_for_it_that_is_no_absolute_path_is_told(orch, door, munge, monkeypatch):
    """As `~` is where nobody has a home."""
    munge("echo MUNGE:abc:")
    monkeypatch.setenv("XDG_CONFIG_HOME", "~nobody-there")
    code, _, err = orch("--login", door.url)
    assert code == 4 and "user.token: it is no absolute path; make room" in err


def test_munges_socket_is_the_sites(orch, door, munge, tmp_path):
    munge("echo MUNGE:abc:")
    site = tmp_path / "site.json"
    site.write_text('{"name": "s", "scheduler": "local", "munge_socket": "/run/it"}')
    assert orch("--login", door.url, "--site", site)[0] == 0
    assert "--socket=/run/it" in (tmp_path / "munge.asked").read_text()


def test_a_munge_that_hangs_is_not_waited_for(orch, door, munge, monkeypatch):
    munge("exec sleep 100")
    monkeypatch.setattr(login, "_MUNGE_S", 0.2)
    code, _, err = orch("--login", door.url)
    assert code == 4 and "munge does not answer in 0.2 s" in err
