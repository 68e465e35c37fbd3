"""Who reaches the engine of a deployment: whoever has its token, by what is on the list, and nobody
else."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from events import PATIENCE_S, assert_measured, undisturbed
from place import TINY, http, wait_for
from test_failures import assert_failed

from contracts.load import WAITING_IN_ENGINE

ASKED = {"prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
READABLE = ("/", "/api/version", "/api/tags", "/api/ps", "/v1/models")
ASKABLE = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show",
           "/v1/chat/completions", "/v1/completions", "/v1/embeddings")  # fmt: skip
#: What Ollama has beside these, and other spellings of these.
MANAGEMENT = (
    ("DELETE", "/api/delete"), ("POST", "/api/pull"), ("POST", "/api/push"),
    ("POST", "/api/create"), ("POST", "/api/copy"), ("POST", "/api/blobs/sha256:0"),
    ("HEAD", "/api/blobs/sha256:0"), ("GET", "/api/experimental/aliases"), ("POST", "/api/me"),
    ("POST", "/api/signout"), ("POST", "/v1/images/generations"), ("POST", "/v1/responses"),
    ("POST", "/v1/messages"), ("DELETE", "/v1/models/tiny"),
    ("POST", "/api/tags"), ("GET", "/api/generate"), ("POST", "/api//generate"),
    ("POST", "/api/./generate"), ("POST", "/API/generate"), ("POST", "/api/%67enerate"),
    ("POST", "/api/generate/"), ("OPTIONS", "/api/tags"), ("PUT", "/api/generate"),
)  # fmt: skip


@pytest.fixture(scope="module")
def sealed(shared_place):
    model = shared_place.folder / "ofthistest.gguf"  # a name that nobody else's engine lists
    shutil.copy(TINY, model)
    recipe = shared_place.recipe(model=str(model), num_parallel=2)
    return shared_place, shared_place.deploy(recipe)


def status(method, url, token):
    """The status of a request, whatever is in its answer."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    authorization = f"Authorization: {token}\r\n" if token else ""
    path = "/" + url.removeprefix("http://").partition("/")[2]
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
        sock.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}"
            "Content-Length: 2\r\n\r\n{}".encode()
        )
        return int(sock.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("token", ["", "Bearer wrong", "Bearer ", "Basic YTpi"])
def test_without_the_token_nothing_is_answered(sealed, method, token):
    _, record = sealed
    (url,) = record["endpoints"]["ollama"]
    paths = [*READABLE, *ASKABLE, *(path for _, path in MANAGEMENT), "/metrics", "/x"]
    assert {path: status(method, url + path, token) for path in paths} == dict.fromkeys(paths, 401)


def test_with_the_token_all_that_a_deployment_needs_is_answered(sealed):
    place, record = sealed
    (url,) = record["endpoints"]["ollama"]
    token = f"Bearer {place.token_file(record).read_text().strip()}"
    assert [status("GET", url + path, token) for path in READABLE] == [200] * len(READABLE)
    # What Ollama says to an empty question, which is at times that there is no model "".
    assert {status("POST", url + path, token) for path in ASKABLE} <= {200, 400, 404, 500}
    assert http("POST", url + "/api/generate", {"model": record["model"], **ASKED})[1]["done"]


def test_with_the_token_nothing_is_managed(sealed):
    place, record = sealed
    (url,) = record["endpoints"]["ollama"]
    token = f"Bearer {place.token_file(record).read_text().strip()}"
    found = {(method, path): status(method, url + path, token) for method, path in MANAGEMENT}
    assert found == dict.fromkeys(MANAGEMENT, 403)
    assert http("GET", url + "/api/tags")[1]["models"], "the model is still there"


# --- the door ------------------------------------------------------------------------------------

ROUTES = (
    ("GET", "/health"), ("POST", "/query"), ("POST", "/benchmark"), ("GET", "/benchmark/x"),
    ("DELETE", "/benchmark/x"), ("POST", "/search"), ("POST", "/points"), ("GET", "/metrics"),
    ("GET", "/openapi.json"), ("GET", "/"), ("POST", "/nowhere"),
)  # fmt: skip


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Bearer ", "Basic YTpi"])
def test_the_client_service_lets_nobody_in_without_a_token(sealed, token):
    _, record = sealed
    url = record["endpoints"]["client"]
    found = {(method, path): status(method, url + path, token) for method, path in ROUTES}
    assert found == dict.fromkeys(ROUTES, 401)


def test_an_engine_does_not_take_the_token_of_a_user(sealed):
    place, record = sealed
    (url,) = record["endpoints"]["ollama"]
    token = place.token_file(record).with_name("user.token").read_text().strip()
    assert status("GET", url + "/api/tags", f"Bearer {token}") == 401


def test_prometheus_is_let_in_to_the_metrics_alone(sealed):
    place, record = sealed
    url = record["endpoints"]["client"]
    token = (place.output / "deployments" / "scrape.token").read_text().strip()
    assert status("GET", url + "/metrics", f"Bearer {token}") == 200
    assert status("GET", url + "/health", f"bearer {token}") == 401


def test_the_scheme_of_a_token_is_written_as_one_likes_and_anthropics_header_is_taken(sealed):
    place, record = sealed
    url = record["endpoints"]["client"] + "/health"
    token = place.token_file(record).with_name("user.token").read_text().strip()
    assert status("GET", url, f"bearer {token}") == 200
    assert status("GET", url, f"none\r\nX-Api-Key: {token}") == 200


def test_what_the_door_says_itself_has_the_services_form(sealed):
    _, record = sealed
    refused, answer = http("GET", record["endpoints"]["client"] + "/health", token="wrong")
    assert (refused, answer["error"]["type"]) == (401, "unauthorized")
    assert "user.token" in answer["error"]["message"]


@undisturbed  # an engine that stands still for over 10 s is out, and who waits for it is told so
def test_however_many_queries_wait_health_and_metrics_answer(sealed):
    """More than are taken at once, of an engine that stands still; all have their answer."""
    place, record = sealed
    url = record["endpoints"]["client"]
    wait_for(lambda: http("GET", f"{url}/health")[0] == 200, PATIENCE_S)
    engine = in_the_job(record, place, "ollama")
    query = {"prompt": "Hi", "options": {"num_predict": 1}}
    with ThreadPoolExecutor(150) as pool:
        for pid in engine:
            os.kill(pid, signal.SIGSTOP)
        try:
            asked = [pool.submit(http, "POST", url + "/query", query) for _ in range(150)]
            wait_for(lambda: in_flight(place, record) == 2 + WAITING_IN_ENGINE, PATIENCE_S)
            seen = [http("GET", url + path)[0] for path in ("/health", "/openapi.json")]
            assert not any(one.done() for one in asked)
        finally:
            for pid in engine:
                os.kill(pid, signal.SIGCONT)
        assert [one.result()[0] for one in asked] == [200] * 150
    assert seen == [503, 200]


def in_flight(place, record):
    """Queries that the service is at, by its metrics."""
    host, port = record["endpoints"]["client"].removeprefix("http://").split(":")
    token = (place.output / "deployments" / "scrape.token").read_text().strip()
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
        sock.sendall(f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        text = sock.makefile().read()
    (line,) = re.findall(r'^orch_requests_in_flight{source="query"} (.*)$', text, re.MULTILINE)
    return float(line)


# --- where the engine is, and what is known of it ------------------------------------------------


def listening():
    """The ports of this machine on which somebody listens."""
    said = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[3].rpartition(":")[2]) for line in said.splitlines()}


def test_the_engine_itself_is_at_no_port_of_this_machine(sealed):
    """Not even of those that only listen on loopback; and nowhere by an abstract socket."""
    _, record = sealed
    for port in listening():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.settimeout(5)
                sock.sendall(b"GET /api/tags HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                said = sock.recv(65536)
        except OSError:
            continue
        assert b"ofthistest" not in said, port
    assert "ofthistest" in record["model"]
    assert "@/tmp/orch." not in Path("/proc/net/unix").read_text()


def test_the_token_is_in_its_file_alone(sealed):
    place, record = sealed
    path = place.token_file(record)
    token = path.read_text().strip()
    assert len(token) == 43
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    files = [one for one in place.output.rglob("*") if one.is_file() and one != path]
    arguments = [one / "cmdline" for one in Path("/proc").glob("[0-9]*")]
    assert not [one for one in (*files, *arguments) if token.encode() in content(one)]


def content(path):
    """What is in a file; nothing if it has gone since it was listed, as files of processes do, and
    those that are half written."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_record_says_how_it_is_guarded(sealed):
    _, record = sealed
    assert record["settings"]["security"] == "token"
    assert not record.get("warnings")


def of_the_job(place, word):
    """The processes of this place's jobs with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (path / "environ").read_bytes()
        except OSError:
            continue
        if word in command and str(place.output).encode() in environment + command.encode():
            found.append(int(path.name))
    return found


def test_a_listener_that_dies_ends_the_job_which_says_so(place):
    record = place.deploy(place.recipe())
    proxies = in_the_job(record, place, "haproxy")
    assert proxies
    for pid in proxies:
        os.kill(pid, signal.SIGKILL)
    log = place.output / "logs" / f"ollama_{record['jobs']['ollama']['id']}.out"
    wait_for(lambda: "has ended" in log.read_text(), PATIENCE_S, log.read_text)
    wait_for(lambda: place.records()[0]["state"] != "ready", PATIENCE_S)


def in_the_job(record, place, program):
    """The processes of a program in the Ollama job of a deployment: of the group of its script."""
    groups, found = set(), []
    for pid in of_the_job(place, f"{record['id']}.ollama.sh"):
        with contextlib.suppress(ProcessLookupError):  # what a script has begun for a moment
            groups.add(os.getpgid(pid))
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(program.encode()) and os.getpgid(int(path.name)) in groups:
                found.append(int(path.name))
        except OSError:
            continue
    return found


# --- where it cannot be sealed -------------------------------------------------------------------


def path_without(place, program, script):
    """A PATH on which a script is found in place of a program."""
    folder = place.folder / "instead"
    folder.mkdir()
    (folder / program).write_text(script)
    (folder / program).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


REFUSED = "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"


def test_where_no_network_is_given_required_fails_before_the_engine_starts(place):
    environment = path_without(place, "unshare", REFUSED)
    result = place.orch(place.recipe(security="required"), "--site", "local", env=environment)
    assert_failed(place, result, 4, "gives its users no network of their own (unshare: unshare "
                  "failed: Operation not permitted)", '"security": "token"')  # fmt: skip
    (log,) = place.output.glob("logs/ollama_*.err")
    assert "Listening" not in log.read_text()


def test_where_no_network_is_given_token_warns_and_the_token_is_asked_for(place):
    environment = path_without(place, "unshare", REFUSED)
    recipe = place.recipe(n_clients=1, n_requests_per_client=2)
    result = place.orch(recipe, "--site", "local", env=environment)
    assert_measured(result, place.output)
    (record,) = place.records()
    (warning,) = record["warnings"]
    assert "cannot be sealed (unshare: unshare failed: Operation not permitted)" in warning
    assert (result.stdout + result.stderr).count(warning) == 1
    assert record["benchmark"]["successful"] == 2
    (url,) = record["endpoints"]["ollama"]
    assert status("GET", url + "/api/tags", "") == 401
    assert http("GET", url + "/api/tags")[0] == 200
    place.stop_all()
    place.assert_nothing_left()


def test_without_security_it_is_as_open_as_its_warning_says(place):
    result = place.orch(place.recipe(security="none"), "--site", "local")
    assert result.returncode == 0
    assert 'security is "none": everybody' in result.stderr + result.stdout
    (record,) = place.records()
    assert http("GET", record["endpoints"]["ollama"][0] + "/api/tags", token="")[0] == 200
    assert not place.token_file(record).exists()


def test_with_the_end_the_token_goes(place):
    record = place.deploy(place.recipe())
    assert place.token_file(record).exists()
    place.stop_all()
    assert not place.token_file(record).parent.exists()
    assert [path.name for path in place.output.rglob("*.token*")] == ["scrape.token"]
