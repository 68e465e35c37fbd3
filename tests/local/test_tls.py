"""A deployment whose client service and engines are asked by https."""

import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request

import openai
import pytest
from events import PATIENCE_S, assert_measured
from place import PROJECT, SMALL, http, wait_for
from programs import needed

from contracts.job_files import monitoring_login
from hpc.web import call


@pytest.fixture(scope="module")
def deployed(shared_place):
    recipe = shared_place.recipe(
        model=str(SMALL), n_clients=2, n_requests_per_client=2, tls=True, through="door", nodes=2
    )
    result = shared_place.orch(recipe, "--site", "local")
    assert_measured(result, shared_place.output)
    (record,) = shared_place.records()
    return shared_place, record, result.stdout


def test_the_record_has_the_address_and_the_digest_of_the_certificate_shown(deployed):
    place, record, _ = deployed
    host, _, port = record["endpoints"]["client"].removeprefix("https://").rpartition(":")
    authority = place.authority(record)
    shown = ssl.get_server_certificate((host, int(port)), ca_certs=str(authority))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    assert record["certificate_sha256"] == digest


def test_its_benchmark_was_measured(deployed):
    _, record, _ = deployed
    assert record["benchmark"]["successful"] == record["benchmark"]["total_queries"] == 4


def test_the_lines_that_are_printed_work_as_they_stand(deployed):
    place, _, printed = deployed
    (curl,) = re.findall(r"^ *ask +(.*)$", printed, re.M)
    ran = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, cwd=place.folder)
    assert json.loads(ran.stdout)["response"], ran
    (exports,) = re.findall(r"^ *openai +(.*)$", printed, re.M)
    asks = "import openai; print([one.id for one in openai.OpenAI().models.list()])"
    script = f"{exports}\n{sys.executable} -c '{asks}'"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=place.folder)
    assert ran.returncode == 0, ran.stderr
    assert SMALL.stem.lower() in ran.stdout


def test_who_does_not_know_the_authority_sends_no_token(deployed):
    _, record, _ = deployed
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(base_url=record["endpoints"]["client"] + "/v1", api_key="x",
                      max_retries=0).models.list()  # fmt: skip


def test_plain_http_is_not_answered(deployed):
    _, record, _ = deployed
    plain = record["endpoints"]["client"].replace("https://", "http://")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(OSError, match=r"HTTP Error 400|reset|closed|disconnected"):
        opener.open(plain + "/health", timeout=30)


@pytest.mark.parametrize("right", [True, False])
def test_the_load_generator_knows_the_door_by_its_authority(deployed, right, tmp_path):
    place, record, _ = deployed
    token = place.token_file(record)
    ca = ["--ca", str(place.authority(record))] if right else []
    command = [sys.executable, "-m", "loadgen", "--url", record["endpoints"]["client"],
               "--model", record["model"], "--token-file", str(token.with_name("user.token")), *ca,
               "--clients", "1", "--requests", "2", "--num-predict", "4",
               "--out", str(tmp_path / "run")]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "SSL_CERT_FILE"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment)
    assert (tmp_path / "run" / "summary.json").exists() == right, ran
    assert (ran.returncode in (0, 6)) == right  # 6: this machine was too busy
    assert right or ("certificate" in ran.stderr and "Traceback" not in ran.stderr)


# --- the engines ---------------------------------------------------------------------------------

QUERY = {"prompt": "Hi", "options": {"num_predict": 2}}


def test_engines_speak_tls_alone(deployed):
    place, record, _ = deployed
    token = place.token_file(record).read_text().strip()
    assert len(record["endpoints"]["ollama"]) == 2
    for url in record["endpoints"]["ollama"]:
        assert http("GET", f"{url}/api/tags")[0] == 200
        assert http("GET", f"{url}/api/tags", token="")[0] == 401
        host, port = url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
            sock.sendall(f"GET / HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert not answer_of(sock).startswith(b"HTTP/1.1 2")


def answer_of(sock):
    """What is said until the end; being reset is saying nothing."""
    with contextlib.suppress(ConnectionResetError):
        return sock.makefile("rb").read()
    return b""


def test_all_ways_to_the_engines_lead_there(deployed):
    _, record, _ = deployed
    client = record["endpoints"]["client"]
    status, health = http("GET", f"{client}/health")
    assert (status, health["status"]) == (200, "healthy"), health
    status, answer = http("POST", f"{client}/query", QUERY)
    assert (status, answer["done"]) == (200, True), answer
    chat = {"model": record["model"], "messages": [{"role": "user", "content": "Hi"}]}
    short = {"stream": False, "options": {"num_predict": 2}}
    status, answer = http("POST", f"{client}/api/chat", {**chat, **short})
    assert (status, answer["done"]) == (200, True), answer
    two = {"max_tokens": 2, "temperature": 0}  # by chance it might end before
    status, answer = http("POST", f"{client}/v1/chat/completions", {**chat, **two})
    assert (status, answer["usage"]["completion_tokens"]) == (200, 2), answer


def test_the_engines_are_measured_straight(deployed):
    _, record, _ = deployed
    load = {"n_clients": 2, "n_requests_per_client": 3, "num_predict": 4, "through": "engines"}
    status, found = http("POST", record["endpoints"]["client"] + "/benchmark", load)
    assert (status, found["successful"], found["failed"]) == (200, 6, 0), found
    assert {one["url"] for one in found["replicas"]} == set(record["endpoints"]["ollama"])


class Impostor:
    """A server of https at an engine's address, with a certificate for it that is not one of the
    deployment's engines. `refused`: connections that ended before anything could be said; `heard`:
    what was said on others."""

    def __init__(self, certificate):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.refused, self.heard = 0, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                connection, _ = self._listener.accept()
                self._answer(connection)

    def _answer(self, connection):
        connection.settimeout(5)
        try:
            with self._context.wrap_socket(connection, server_side=True) as sock:
                said = sock.recv(65_536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except OSError:
            self.refused += 1
        else:
            self.heard.append(said)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def certificate_of(folder, authority=None):
    """Key and certificate for 127.0.0.1, signed by an authority, or by themselves."""
    openssl, path = needed("openssl", "openssl"), folder / "impostor.pem"
    signed = ["-CA", authority, "-CAkey", authority] if authority else []
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=ollama", "-addext", "subjectAltName=IP:127.0.0.1,DNS:ollama.other",
         "-addext", "basicConstraints=critical,CA:FALSE", "-days", "2", *signed,
         "-keyout", folder / "key", "-out", folder / "crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text((folder / "key").read_text() + (folder / "crt").read_text())
    return path


@pytest.fixture
def impostor(deployed, tmp_path):
    """Put one at the engines' place, which have gone; afterwards they are back."""
    place, record, _ = deployed
    path = place.output / f"ollama_ip_{record['jobs']['ollama']['id']}.txt"
    engines, started = path.read_text(), []
    client = record["endpoints"]["client"]

    def begin(authority=None):
        started.append(Impostor(certificate_of(tmp_path, authority)))
        replace(path, started[0].address + "\n")
        wait_for(lambda: http("GET", f"{client}/api/version")[0] == 503, PATIENCE_S)
        return started[0]

    yield begin
    replace(path, engines)
    wait_for(lambda: http("GET", f"{client}/api/version")[0] == 200, PATIENCE_S)
    started[0].close()


def replace(path, text):
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


def test_who_has_a_certificate_of_his_own_at_an_engines_address_is_asked_nothing(
    deployed, impostor
):
    _, record, _ = deployed
    client, other = record["endpoints"]["client"], impostor()
    for path, body, why in (
        ("/query", QUERY, "does not answer"),
        ("/health", None, "a certificate of somebody else's"),
    ):
        status, answer = http("POST" if body else "GET", client + path, body)
        assert status == 503, answer
        words = answer["error"]["message"]
        assert other.address in words and why in words, words
    status, answer = http("POST", f"{client}/benchmark", {"n_clients": 1, "num_predict": 1})
    assert status in (502, 503) and "certificate is not trusted" in answer["error"]["message"]
    seen = other.refused
    wait_for(lambda: other.refused >= seen + 3, PATIENCE_S)  # it is tried again, and again refused
    assert other.heard == []


def test_nor_does_the_door_ask_who_is_no_engine_of_its_own_deployment(deployed, impostor):
    place, _, _ = deployed
    other = impostor(place.output / "deployments" / "authority.key")
    wait_for(lambda: other.refused >= 3, PATIENCE_S)
    assert other.heard == []


# --- the monitoring ------------------------------------------------------------------------------


def test_prometheus_scrapes_it_by_the_authority_that_it_knows(place):
    needed("prometheus", "prometheus")
    recipe = place.recipe(tls=True, monitoring={"enabled": True})
    longest = recipe.read_text().replace('"name": "test"', f'"name": "{"n" * 64}"')
    recipe.write_text(longest)  # certificates have less room for names
    result = place.orch(recipe, "--site", "local", "--no-benchmark")
    assert result.returncode == 0, result.stderr
    (record,) = place.records()
    asked = "/api/v1/query?query=up%7Bjob%3D%22client%22%7D+or+ollama_up"

    def found():
        header = monitoring_login(place.output).header
        answer = call("GET", record["endpoints"]["prometheus"] + asked, header_file=header)
        return [one["value"][1] for one in answer.json["data"]["result"]]

    wait_for(lambda: found() == ["1", "1"], PATIENCE_S, lambda: f"found: {found()}")
    status, answer = http("POST", record["endpoints"]["client"] + "/query", QUERY)
    assert (status, answer["done"]) == (200, True), answer  # one replica, its address alone
