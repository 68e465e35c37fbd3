"""A further engine: one module, one template and its registration; no other file knows of it."""

import http.client
import json
import os
import signal
import subprocess
from dataclasses import replace

import pytest
from events import until
from jinja2 import ChoiceLoader, DictLoader
from programs import needed

from contracts.files import PROJECT
from engines.engine import Facts, LoadedModel
from engines.openai import OPENAI
from engines.servers import deployable
from engines.servers.deployed import Allowed, Deployed
from hpc.rendering import environment_of
from hpc.serving import probe

# --- its module ----------------------------------------------------------------------------------


def _ready(ask, root, model, name):
    said = ask(f"{root}/models").json.get("model")
    return Facts("7", LoadedModel(said, size=1)) if said == model else f"{name} is asleep"


STUB = Deployed(
    service="stub",
    title="Stub",
    api="openai",
    engine=replace(OPENAI, ready=_ready),
    usual_port=8123,
    image="docker://example.org/stub:1",
    allowed=Allowed(read=("/v1/models",), read_below=(), ask=()),
    health="/alive",
    takes="name",
    cannot={"precision": "it has none"},
)

# --- its template --------------------------------------------------------------------------------

TEMPLATE = """{% include "header.j2" %}
{% set enter = ["--pwd", "/"] %}
{% include "engine_begin.j2" %}
# shellcheck disable=SC2329 # start_guarded calls it
start_stub() {
  local at=${ENGINE_AT:-$BIND:$PORT}
  run_service "$PYTHON" {{ output }}/stub.py "${at%:*}" "${at##*:}" {{ model }}
}
if [ "$MODE" = --prepare ]; then exit 0; fi
{% include "engine_address.j2" %}
begin_seal {{ deployment }}
start_guarded 8123 start_stub
{% include "engine_serve.j2" %}
"""

#: The engine itself.
PROGRAM = """
import http.server, json, sys

class Stub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"model": sys.argv[3], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Stub).serve_forever()
"""


@pytest.fixture
def deploy(orch, recipe_data, monkeypatch, tmp_path):
    """orch.py with a recipe for the stub, on this machine."""
    monkeypatch.setitem(deployable.DEPLOYED, "stub", STUB)  # its registration
    environment = environment_of(PROJECT / "templates")
    both = ChoiceLoader([DictLoader({"stub.sbatch.j2": TEMPLATE}), environment.loader])
    monkeypatch.setattr(environment, "loader", both)
    recipe_data["job"]["service"] |= {"engine": "stub", "precision": None}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    where = ("--site", "local", "--output-dir", tmp_path / "output", "--no-monitoring")
    return lambda *options: orch(tmp_path / "recipe.json", *where, *options)


def test_it_is_planned_and_rendered(deploy, tmp_path):
    code, out, err = deploy("--dry-run")
    assert (code, err) == (0, "")
    assert "engine              stub " in out
    (path,) = (tmp_path / "output" / "scripts").glob("*.stub.sh")
    assert not list(path.parent.glob("*.ollama.sh"))
    check = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True)
    assert check.stdout == ""


def test_what_it_cannot_do_is_refused(deploy, recipe_data, tmp_path):
    recipe_data["job"]["service"]["precision"] = "q4_0"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    code, _, err = deploy("--dry-run")
    assert code == 2
    assert "job.service.precision = 'q4_0': does not go with Stub: it has none" in err


@pytest.fixture
def served(deploy, tmp_path):
    """Its job, as a scheduler runs it: where it is, and by which token."""
    needed("haproxy", "haproxy")
    assert deploy("--dry-run")[0] == 0
    output = tmp_path / "output"
    (output / "stub.py").write_text(PROGRAM)
    (script,) = (output / "scripts").glob("*.stub.sh")
    environment = {**os.environ, "ORCH_JOB_ID": "local7"}
    job = subprocess.Popen(
        ["bash", script], env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    address = output / "stub_ip_local7.txt"
    until(lambda: address.exists() or job.poll() is not None)
    (token,) = (output / "deployments").glob("*/internal.token")
    yield address.read_text().strip(), token
    os.killpg(job.pid, signal.SIGTERM)
    said, _ = job.communicate()
    assert job.returncode == 143, said
    assert not address.exists()


def status_of(address, path, method="GET", **headers):
    connection = http.client.HTTPConnection(address)
    connection.request(method, path, headers=headers)
    return connection.getresponse().status


def test_its_job_serves_and_is_sealed(served):
    address, token = served
    word = {"Authorization": f"Bearer {token.read_text().strip()}"}
    assert status_of(address, "/v1/models") == 401
    assert status_of(address, "/v1/models", **word) == 200
    assert status_of(address, "/alive", **word) == 403
    assert status_of(address, "/v1/models", "POST", **word) == 403
    assert probe(STUB, f"http://{address}", "mistral:7b", token) == Facts(
        "7", LoadedModel("mistral:7b", size=1)
    )
    assert probe(STUB, f"http://{address}", "n", token) == f"Stub at http://{address} is asleep"
