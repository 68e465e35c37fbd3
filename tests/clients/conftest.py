"""A deployment with a real Ollama, behind the door, for clients as their makers publish them."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "local"))
from events import PATIENCE_S, until
from place import PROJECT, SMALL, Place, http

OLLAMA = str(PROJECT / ".tools" / "bin" / "ollama")
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>\n'
#: The small model knows no tools. With this template it goes on with what it has just read: the
#: call is the model's, and that it is one Ollama's parser finds.
TEMPLATE = """
{{- range .Messages }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments":
{{- .Function.Arguments }}}</tool_call>{{ end }}
{{- else }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}
{{- end }}
{{- if .Tools }}CALLS{{ else }}<|im_start|>assistant
{{ end }}""".replace("CALLS", CALL * 20)
MODELFILE = f'''FROM {SMALL}
TEMPLATE """{TEMPLATE}"""
PARAMETER stop <|im_end|>
PARAMETER stop </tool_call>
PARAMETER temperature 0
'''
MODEL = "with-tools"


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("clients"))
    yield place
    place.orch("--stop", "all")


@pytest.fixture(scope="session")
def deployed(place):
    """Its `url`, `token`, `model` and `record`."""
    make_model(place.output / "ollama_models")
    record = place.deploy(place.recipe(model=MODEL, num_parallel=2, time="30:00"))
    token = place.token_file(record).with_name("user.token").read_text().strip()
    return SimpleNamespace(
        url=record["endpoints"]["client"], token=token, model=record["model"], record=record
    )


@pytest.fixture(autouse=True)
def _past_any_proxy(monkeypatch):
    """Clients take proxies from their environment; the deployment is at an address of loopback."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


def make_model(folder):
    """Have an Ollama of its own make the model, as the deployment's makes none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "Modelfile").write_text(MODELFILE)
    at = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "OLLAMA_HOST": at, "OLLAMA_MODELS": str(folder),
                   "HOME": str(folder), "no_proxy": "127.0.0.1"}  # fmt: skip
    with (folder.parent / "making.log").open("w") as log:
        server = subprocess.Popen([OLLAMA, "serve"], env=environment, stdout=log, stderr=log)
        try:
            until(lambda: answers(at), what="Ollama's start")
            command = [OLLAMA, "create", MODEL, "-f", str(folder.parent / "Modelfile")]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answers(at):
    try:
        return http("GET", f"http://{at}/api/version")[0] == 200
    except OSError:
        return False
