"""Ports of a job: who has which, and which is taken where the default is not free."""

import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "lib" / "service.sh"
FIRST_EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def bash(script):
    """What a script says that has sourced the library."""
    done = subprocess.run(
        ["bash", "-uc", f". {LIBRARY}; {script}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def listening():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


def test_a_default_that_is_free_is_taken():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    assert bash(f"require_port {port}; echo $PORT") == str(port)


def test_in_place_of_one_that_is_taken_comes_none_that_outgoing_connections_get(listening):
    port = listening.getsockname()[1]
    chosen = int(bash(f"require_port {port}; echo $PORT"))
    assert chosen != port
    assert 1024 < chosen < FIRST_EPHEMERAL
    socket.create_server(("127.0.0.1", chosen)).close()  # it is free


def test_a_port_of_a_connection_is_used_though_nobody_listens_there(listening):
    with closing(socket.create_connection(listening.getsockname())) as connection:
        port = connection.getsockname()[1]
        said = bash(f"port_used {port} && echo used; port_taken {port} || echo nobody listens")
    assert said.splitlines() == ["used", "nobody listens"]


def test_where_the_service_cannot_have_its_port_it_gets_another(tmp_path, listening):
    """Nobody listens on the first one when it is looked at; a connection has it."""
    with closing(socket.create_connection(listening.getsockname())) as connection:
        port = connection.getsockname()[1]
        script = f"""
        JOB_ID=1 SERVICE=test
        start() {{ run_service python3 -c "import socket, time
s = socket.create_server(('127.0.0.1', $PORT), reuse_port=False); time.sleep(60)"; }}
        start_on_port {port} start; echo "serves on $PORT"; kill $SERVICE_PID
        """
        said = bash(script)
    assert f"did not start on port {port} (try 1)" in said
    assert f"serves on {port}" not in said and "serves on " in said


DOOR = f"set +u; . {LIBRARY.parent}/haproxy.sh; . {LIBRARY.parent}/door.sh; SERVICE=test JOB_ID=1"


def test_what_the_door_asks_is_awaited_until_it_listens(tmp_path):
    listens = f"import socket; socket.socket(socket.AF_UNIX).bind('{tmp_path}/translation')"
    said = bash(f"""{DOOR} PROXY_FOLDER={tmp_path} SERVICE_PID=$$
    (until [ -e {tmp_path}/go ]; do sleep 0.01; done; python3 -c "{listens}") &
    sleep() {{ touch {tmp_path}/go; command sleep "$@"; }} # nothing was there at the first look
    await_socket translation; [ -S {tmp_path}/translation ] && echo awaited""")
    assert said == "awaited"


@pytest.mark.parametrize(
    ("lives", "sentence"),
    [(True, "nothing listens at the door's socket translation after 0 s"),
     (False, "test stopped while starting")],
)  # fmt: skip
def test_what_never_listens_ends_the_job_in_a_sentence(tmp_path, lives, sentence):
    pid = "$$" if lives else "$(sh -c 'echo $$')"
    done = subprocess.run(
        ["bash", "-uc", f""". {LIBRARY}; {DOOR} HOST=h PROXY_FOLDER={tmp_path} SERVICE_PID={pid}
        START_SECONDS={0 if lives else 100}; await_socket translation"""],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert sentence in done.stderr
