"""orch.py --address and --connect: what they say, what ssh is given, and the port that stays.

ssh is a stand-in here, which runs what is to run there on this machine, and forwards nothing:
tests/cluster/test_connect.py has the real one. Doors are stand-ins, too.
"""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contracts.errors import ServiceError
from contracts.files import PROJECT
from contracts.jobs.states import JobStatus
from hpc.connecting import splice as splice_module
from hpc.connecting.address import Address, read_address
from hpc.connecting.folder import own_folder
from hpc.connecting.places import There
from hpc.connecting.session import Session
from hpc.connecting.splice import Route, Splice
from hpc.connecting.ssh import Ssh, Unreachable, Via, read_via
from hpc.console import Console
from hpc.deployments import refreshing
from hpc.deployments.records import create_record
from hpc.endpoints import OutputDir

WORD = "w" * 43
SITE = {"name": "slurm", "scheduler": "slurm"}
GIVEN = {"id": "d-1", "url": "http://cpu1:5000", "ssh": "ssh -N", "token_file": "/out/user.token",
         "ca": None, "state": "ready"}  # fmt: skip


def test_no_room_for_a_connection_is_a_sentence(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device", "/tmp/x")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkdtemp", full)
        with pytest.raises(ServiceError, match=r"No space left.*; make room there"), own_folder():
            pass
    ssh = Ssh("login", tmp_path / "gone" / "login", batch=True)
    with pytest.raises(Unreachable, match=r"ssh to login does not begin: .*No such file"):
        asyncio.run(ssh.open())
    assert ssh.last_words == "it gives no reason"


# --- the address


class Jobs:
    def __init__(self, state):
        self.state = state

    def statuses(self, job_ids):
        return {job_id: JobStatus(self.state) for job_id in job_ids}


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    """Makes a deployment's record, of jobs that are in a state."""

    def make(client, state="RUNNING"):
        output = OutputDir(tmp_path / "output")
        output.prepare()
        monkeypatch.setattr(refreshing, "scheduler_of", lambda *_: Jobs(state))
        record = create_record(output.path, "d-1", {"site": SITE, "batch": None})
        record.add_job("client", "2")
        endpoints = {"client": client, "ollama": []}
        record.update(state="ready" if client else "starting", endpoints=endpoints)

    return make


def test_an_address_is_the_url_and_nothing_else(orch, deployed):
    deployed("http://cpu1:5000")
    assert orch("--address") == (0, "http://cpu1:5000\n", "")
    code, out, _ = orch("--address", "d-1", "--json")
    assert code == 0 and json.loads(out)["url"] == "http://cpu1:5000"
    assert read_address(out, "here") == Address(**json.loads(out))
    assert "-L 5000:cpu1:5000" in json.loads(out)["ssh"]


@pytest.mark.parametrize(
    ("client", "state", "code", "words"),
    [
        (None, "PENDING", 4, "d-1 has no address yet (it is starting); wait for it with python3"),
        ("http://cpu1:5000", "TIMEOUT", 2, "d-1 is ended; start a new deployment"),
    ],
)
def test_no_address_is_one_sentence(orch, deployed, client, state, code, words):
    deployed(client, state)
    for options in ([], ["--json"]):
        found, out, err = orch("--address", "d-1", *options)
        assert (found, err.count("\n")) == (code, 1 if code == 4 else 2)
        assert words in err
        assert json.loads(out)["url"] is None if options else out == ""


def test_an_unknown_deployment_and_a_via_alone_are_refused(orch, deployed):
    deployed("http://cpu1:5000")
    assert orch("--address", "other")[0] == 2
    code, _, err = orch("--address", "--via", "login")
    assert code == 2 and "--via is for --connect" in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://-oProxyCommand=x:1"},
        {"url": "http://cpu1:5000/x"},
        {"url": "ssh://cpu1:5000"},
        {"token_file": "relative"},
        {"token_file": "/out/a\nb"},
        {"id": "-x"},
        {"state": None},
    ],
)
def test_an_answer_that_could_be_no_address_is_not_believed(wrong):
    with pytest.raises(ServiceError, match="login has answered no address"):
        read_address(json.dumps(GIVEN | wrong), "login")
    assert read_address(json.dumps(GIVEN), "login").door == ("cpu1", 5000)


@pytest.mark.parametrize("text", ["-oProxyCommand=x", "a@-b", "a b", "login:", "lo\ngin:x", ""])
def test_what_is_no_login_node_is_refused(orch, text):
    assert read_via(text, "orch") is None
    code, _, err = orch("--connect", f"--via={text}")
    assert code == 2 and "USER@LOGIN:FOLDER" in err


def test_a_login_node_is_read():
    assert read_via("me@login1:~/a b", "orch") == Via("me@login1", "a b")
    assert read_via("alias", "orch") == Via("alias", "orch")


# --- ssh

SSH = """#!/bin/bash
printf '%s\\0' "$@" >>'{folder}/asked'
printf '\\n' >>'{folder}/asked'
[[ " $* " != *" refused "* ]] || {{ echo 'refused: Permission denied (publickey).' >&2; exit 255; }}
case " $* " in
  *" ControlMaster=yes "*) exec python3 -c '
import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])
sys.stdin.read()' "$2" ;;
  *" -O "*) ;;
  *) echo 'Welcome to the cluster'; cd '{folder}'; exec sh -c "${{@: -1}}" ;;
esac
"""
#: A name of a folder that a shell would make something of.
FOLDER = "a $(touch made) ' b"


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A login node, and what ssh was given to come there."""
    programs, folder = tmp_path / "bin", tmp_path / "at login"
    programs.mkdir()
    (folder / FOLDER).mkdir(parents=True)
    (programs / "ssh").write_text(SSH.format(folder=folder))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    (folder / FOLDER / "orch.py").write_text(
        f"import sys; print({json.dumps(GIVEN | {'token_file': str(folder / 'user.token')})!r})\n"
        "open('given', 'w').write(repr(sys.argv[1:]))\n"
    )
    (folder / "user.token").write_text(f"{WORD}\n")
    return folder


def asked(folder: Path) -> list[list[str]]:
    """The arguments of each ssh."""
    return [line.split("\0")[:-1] for line in (folder / "asked").read_text().split("\n")[:-1]]


def test_nothing_reaches_a_shell_unquoted_and_the_token_no_argument(there, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()

    async def connect():
        place = There(Via("me@login", FOLDER), "out $(touch made)", mine, batch=True)
        try:
            await place.open()
            address = await place.address("d-1")
            token = await place.token(address)
            route = await place.route(address)
            await place.leave(route)
        finally:
            await place.close()
        return address, token, route

    address, token, route = asyncio.run(connect())
    assert address.url == "http://cpu1:5000"
    assert (token.read_text(), token.stat().st_mode & 0o777) == (f"{WORD}\n", 0o600)
    assert token.with_name("user.header").stat().st_mode & 0o777 == 0o600
    assert route == Route("cpu1", 5000, str(mine / "login.1"))
    given = ["--address", "d-1", "--json", "--output-dir", "out $(touch made)"]
    assert (there / FOLDER / "given").read_text() == repr(given)
    assert not list(there.rglob("made"))
    master, *others = asked(there)
    assert master[:2] == ["-S", str(mine / "login")]
    assert master[-3:] == ["-T", "me@login", "cat"]
    assert {"BatchMode=yes", "ServerAliveInterval=5", "ClearAllForwardings=yes"} <= set(master)
    assert all(one[:4] == ["-F", "none", "-S", str(mine / "login")] for one in others)
    forward = ["-L", f"{mine}/login.1:cpu1:5000", "me@login"]
    assert [one[4:] for one in others[-2:]] == [
        ["-O", do, *forward] for do in ("forward", "cancel")
    ]
    assert WORD not in (there / "asked").read_text()


def test_a_host_behind_the_login_node_is_reached_by_the_same_connection(there, tmp_path):
    async def connect():
        place = There(Via("login", FOLDER), "output", tmp_path, batch=True)
        try:
            await place.open()
            await place.other_route(Address(**GIVEN))
        finally:
            await place.close()

    asyncio.run(connect())
    hop, forward = asked(there)[-2:]
    assert f"ProxyCommand=ssh -F none -S {tmp_path}/login -W '[%h]:%p' login" in hop
    assert "BatchMode=yes" in hop and hop[-2].endswith("@cpu1")
    assert f"{tmp_path}/node0.1:cpu1:5000" in forward


def test_a_login_node_that_refuses_is_one_sentence(there, orch):
    code, _, err = orch("--connect", "--via", "refused")
    assert (code, err) == (4, "orch: ssh does not come to refused: refused: Permission denied "
                              "(publickey).\n")  # fmt: skip


def test_what_orch_says_there_is_said_here(there, orch):
    (there / FOLDER / "orch.py").write_text(
        "import sys; sys.stderr.write('orch: there is no deployment d.\\norch: nothing more\\n')\n"
        "sys.exit(2)\n"
    )
    code, _, err = orch("--connect", "d", "--via", f"login:{FOLDER}")
    assert code == 2 and "orch: there is no deployment d.\n" in err
    code, _, err = orch("--connect", "--via", "login")
    assert code == 2 and f"there is no orch.py in {PROJECT.name} on login; name its folder" in err


# --- the port that stays


class Door(ThreadingHTTPServer):
    """Answers with its name; /stream in two halves, the second when it may."""

    daemon_threads = True

    def __init__(self, name, successor=""):
        super().__init__(("127.0.0.1", 0), Answers)
        self.name, self.successor, self.go_on = name, successor, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def route(self):
        return Route("127.0.0.1", self.server_port)


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        half = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(half)))
        if self.server.successor:
            self.send_header("orch-address", self.server.successor)
        self.end_headers()
        self.wfile.write(half)
        if self.path == "/stream":
            self.server.go_on.wait(60)
        self.wfile.write(half)

    def log_message(self, *args):
        pass


@pytest.fixture
def doors():
    """Makes doors, and closes them."""
    made = []

    def make(*arguments):
        made.append(Door(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.go_on.set()
        one.shutdown()
        one.server_close()


class Client:
    """One connection, which is kept."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def get(self, path="/"):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def body(self, length):
        return (await asyncio.wait_for(self.reader.readexactly(length), 60)).decode()


async def client_of(splice):
    return Client(*await asyncio.open_connection("127.0.0.1", splice.port))


def splicing(work, patience_s=60.0):
    """Run `work` with a splice and what it doubted."""

    async def run():
        doubts = []
        splice = Splice(lambda: doubts.append(1), patience_s)
        await splice.listen(0)
        try:
            await asyncio.wait_for(work(splice, doubts), 100)
        finally:
            await splice.close()

    asyncio.run(run())


def test_a_stream_is_finished_by_its_door_and_new_requests_go_to_the_newest(doors):
    old, new = doors("old"), doors("new")

    async def work(splice, doubts):
        splice.route = old.route
        kept, streaming = await client_of(splice), await client_of(splice)
        await kept.get()
        assert await kept.body(6) == "oldold"
        await streaming.get("/stream")
        assert await streaming.body(3) == "old"
        splice.route = new.route
        await kept.get()
        assert await kept.body(6) == "newnew"
        old.go_on.set()
        assert await streaming.body(3) == "old"
        await streaming.get()
        assert await streaming.body(6) == "newnew"
        assert doubts == []

    splicing(work)


def test_a_request_waits_while_there_is_no_door(doors):
    door = doors("door")

    async def work(splice, doubts):
        client = await client_of(splice)
        asking = asyncio.create_task(client.get())
        await asyncio.sleep(0)
        splice.route = Route("127.0.0.1", 1)  # nobody is there
        while not doubts:
            await asyncio.sleep(0.01)
        splice.route = door.route
        assert "200 OK" in await asking

    splicing(work)


def test_a_door_that_refuses_for_a_moment_is_tried_again_where_it_is(monkeypatch):
    monkeypatch.setattr(splice_module, "AGAIN_S", 0.01)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async def work(splice, doubts):
        with socket.socket() as taken:  # and nobody listens there
            taken.bind(("127.0.0.1", 0))
            splice.route = Route("127.0.0.1", taken.getsockname()[1])
            client = await client_of(splice)
            asking = asyncio.create_task(client.get())
            while not doubts:
                await asyncio.sleep(0.01)
            taken.listen()
            there = await asyncio.start_server(answer, sock=taken)
            assert "200 OK" in await asking
            there.close()

    splicing(work)


def test_without_a_door_for_too_long_the_answer_is_503():
    async def work(splice, doubts):
        client = await client_of(splice)
        head = await client.get()
        assert "503" in head and "Retry-After: 5" in head
        assert json.loads(await client.reader.read())["error"]["type"] == "unavailable"

    splicing(work, patience_s=0.05)


def test_a_door_that_names_its_successor_or_is_silent_is_doubted(doors):
    async def work(splice, doubts):
        splice.route = doors("old", "http://new:1").route
        client = await client_of(splice)
        await client.get()
        while not doubts:
            await asyncio.sleep(0.01)
        doubts.clear()
        mute = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        splice.route = Route("127.0.0.1", mute.sockets[0].getsockname()[1])
        client = await client_of(splice)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.get()
        while not doubts:
            await asyncio.sleep(0.01)
        mute.close()

    splicing(work)


# --- its folder


def test_what_a_killed_connection_has_left_is_removed_by_the_next_one(tmp_path, monkeypatch):
    """And what another one holds is not."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    code = (
        "import sys; from hpc.connecting.folder import own_folder\n"
        "with own_folder() as f: (f / 'token').write_text('x'); print(f, flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as killed:
        left = Path(killed.stdout.readline().strip())
        killed.kill()
    assert (left / "token").exists()
    with subprocess.Popen(command, cwd=PROJECT, **pipes) as other:
        held = Path(other.stdout.readline().strip())
        for folder in (left, held):
            os.utime(folder, (1, 1))
        with own_folder() as ours:
            assert set(tmp_path.iterdir()) == {held, ours}
            assert stat.S_IMODE(ours.stat().st_mode) == 0o700
        other.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_it_is_made_and_others_are_left_alone(tmp_path, monkeypatch):
    """NFS locks no folder."""

    def refuse(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", refuse)
    other = tmp_path / "orch-via-other"
    other.mkdir()
    os.utime(other, (1, 1))
    with own_folder() as ours:
        assert set(tmp_path.iterdir()) == {other, ours}
    assert list(tmp_path.iterdir()) == [other]


# --- the session


class Nowhere:
    """A place that is lost now and then, with a deployment that moves and ends."""

    through = "ssh to login"

    def __init__(self, *addresses):
        self.addresses, self.opened, self.left = list(addresses), 0, []
        self.down = False

    async def open(self):
        self.opened += 1
        if self.down:
            self.down = False
            raise Unreachable("ssh does not come to login: no route.")

    async def lost(self):
        await asyncio.Event().wait()

    async def address(self, deployment):
        found = self.addresses.pop(0)
        if isinstance(found, Exception):
            self.down = isinstance(found, Unreachable)
            raise found
        return found

    async def token(self, address):
        return None

    async def route(self, address):
        return Route(*address.door)

    async def other_route(self, address):
        return None

    def stands(self, route):
        return True

    async def leave(self, route):
        self.left.append(route)

    async def close(self):
        pass


def test_a_session_follows_comes_again_and_ends_with_the_deployment(doors, monkeypatch, capsys):
    monkeypatch.setattr("hpc.connecting.session.SOON_S", 0.01)
    monkeypatch.setattr("hpc.connecting.session.LOOK_S", 0.02)
    monkeypatch.setattr("hpc.connecting.session.FIRST_S", 0.01)
    old, new = doors("old"), doors("new")
    at = [f"http://127.0.0.1:{door.server_port}" for door in (old, new)]
    starting = Address(**GIVEN | {"url": None, "state": "starting"})
    first, second = (Address(**GIVEN | {"url": url}) for url in at)
    ended = Address(**GIVEN | {"state": "ended"})
    silent = ServiceError("login does not answer in 60 s.")
    place = Nowhere(starting, first, silent, first, Unreachable("ssh is gone."), second, ended)
    ready = []
    asyncio.run(Session(place, "", Console(), ready.append).keep())
    assert (place.opened, place.addresses) == (3, [])
    (found,) = ready
    assert (found.deployment, found.link) == ("d-1", None)
    said = [line.partition("connect  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "d-1 is starting, and has no address now",
        f"{found.url} leads to {at[0]} by ssh to login",
        "login does not answer in 60 s.",
        "ssh is gone. It is tried again in 0.01 s.",
        "ssh does not come to login: no route. It is tried again in 0.02 s.",
        f"{found.url} leads to {at[1]} by ssh to login",
        "d-1 is ended",
    ]


def test_the_first_failure_ends_a_session():
    place = Nowhere(Unreachable("ssh is gone."))
    with pytest.raises(Unreachable):
        asyncio.run(Session(place, "", Console(), lambda _: None).keep())


def test_a_door_that_no_way_leads_to_is_one_sentence():
    """Somebody takes the connection, and closes it: so does ssh that may not pass it on."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        taking = threading.Thread(target=lambda: mute.accept()[0].close())
        taking.start()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        place = Nowhere(Address(**GIVEN | {"url": url}))
        with pytest.raises(ServiceError, match=f"{url} is not reached by ssh to login: "):
            asyncio.run(Session(place, "", Console(), lambda _: None).keep())
        taking.join()
