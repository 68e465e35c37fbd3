"""A place to deploy in, and how to look at what is there."""

import functools
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from events import PATIENCE_S, assert_measured

PROJECT = Path(__file__).resolve().parents[2]
SMALL = PROJECT / ".tools" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = PROJECT / ".tools" / "models" / "tiny.gguf"
JOB = ("security", "tls", "share", "notify")
INFRASTRUCTURE = ("time", "until", "max_jobs", "gpus", "nodes", "replicas_per_node")
ORCH = [sys.executable, str(PROJECT / "orch.py")]


class Place:
    """An output directory, orch.py on it, and what is left of its deployments."""

    def __init__(self, folder):
        self.folder = folder
        self.output = folder / "output"
        # Everything is to work with a proxy that leads nowhere.
        self.environment = {**os.environ, "http_proxy": "http://127.0.0.1:1", "CI": "true"}

    def recipe(self, name="recipe.json", /, **changes):
        """Write a recipe for the tiny model on one core, without monitoring unless asked for;
        `changes` are keys of service or infrastructure, or of the job itself (JOB)."""
        service = {"model": str(TINY), "num_predict": 8, "num_thread": 1}
        infrastructure = {"time": "10:00"}
        monitoring = changes.pop("monitoring", {"enabled": False})
        security = {key: changes.pop(key) for key in JOB if key in changes}
        for key, value in changes.items():
            part = infrastructure if key in INFRASTRUCTURE else service
            part[key] = value
        job = {"name": "test", "infrastructure": infrastructure, "service": service,
               "monitoring": monitoring, **security}  # fmt: skip
        path = self.folder / name
        path.write_text(json.dumps({"job": job}))
        return path

    def command(self, *arguments):
        place = ["--output-dir", str(self.output)]
        return [*ORCH, *map(str, arguments), *place]

    def orch(self, *arguments, env=None, timeout=300):
        """Run orch.py to its end."""
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **(env or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def path_with_ollama(self, script):
        """A PATH on which a script is found in place of Ollama."""
        path = self.folder / "bin" / "ollama"
        path.parent.mkdir()
        path.write_text(script)
        path.chmod(0o755)
        return f"{path.parent}:{os.environ['PATH']}"

    def start(self, *arguments, env=None):
        """Start orch.py; its output is in orch.log."""
        log = (self.folder / "orch.log").open("w")
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **(env or {})},
            cwd=self.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def site(self, **profile):
        """Write a site profile."""
        path = self.folder / "site.json"
        path.write_text(json.dumps(profile))
        return path

    def on_path(self, name, standin):
        """Put one of the tests' stand-ins, a file in tests/, first on the PATH by that name."""
        program = self.folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        server = PROJECT / "tests" / standin
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{server}" "$@"\n')
        program.chmod(0o755)
        self.environment["PATH"] = f"{program.parent}:{self.environment['PATH']}"

    def deploy(self, *arguments, site="local"):
        """Deploy, and return the record."""
        result = self.orch(*arguments, "--site", site, "--json")
        assert_measured(result, self.output)
        record = json.loads(result.stdout)
        self._note_token(record)
        return record

    def records(self):
        result = self.orch("--status", "--json")
        assert result.returncode == 0, result.stderr
        records = json.loads(result.stdout)
        for record in records:
            self._note_token(record)
        return records

    def token_file(self, record):
        """Where the token is that the deployment's engines ask for."""
        return self.output / "deployments" / record["id"] / "internal.token"

    def authority(self, record):
        """Where the certificate is by which a deployment that speaks TLS is known."""
        return self.token_file(record).with_name("authority.pem")

    def _note_token(self, record):
        """Engines take the internal token alone, the client service a user's, too. Where they speak
        TLS, both are known by the authority's certificate."""
        authority = self.authority(record)
        found = record["endpoints"].values()
        engines = [url for urls in found if isinstance(urls, list) for url in urls]
        for file, urls in (
            (self.token_file(record), engines),
            (self.token_file(record).with_name("user.token"), [record["endpoints"]["client"]]),
        ):
            if file.exists():
                _tokens.update(dict.fromkeys(urls, file.read_text().strip()))
            if authority.exists():
                _trusted.update(dict.fromkeys(urls, str(authority)))

    def stop_all(self):
        result = self.orch("--stop", "all")
        assert result.returncode == 0, result.stderr

    def log(self):
        return (self.folder / "orch.log").read_text()

    def processes(self):
        """Command lines of all processes that have to do with this place."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            ours = str(self.output).encode()
            if command and int(path.name) != os.getpid() and (
                ours in environment or ours.decode() in command
            ):  # fmt: skip
                found.append(command)
        return found

    def assert_nothing_left(self):
        """No process, no address file, no target file, nothing half written."""
        wait_for(lambda: not self.processes(), PATIENCE_S, lambda: f"left: {self.processes()}")
        left = [*self.output.glob("*_ip_*"), *self.output.glob("prometheus_assets/*")]
        left += [path for path in self.output.rglob(".*") if not path.name.endswith(".lock")
                 and "ollama_models" not in str(path)]  # fmt: skip
        assert left == [], left


def wait_for(condition, seconds, message=lambda: "it did not happen"):
    """Return what `condition()` gives once it is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, message()
        time.sleep(0.02)
    return result


#: By the URLs of services, what their owner sends along.
_tokens = {}
#: By the URLs of services, whom their owner trusts.
_trusted = {}


@functools.cache
def _trusting(authority):
    """Made once: it reads all authorities of this machine, which takes more than a request."""
    return ssl.create_default_context(cafile=authority)


def http(method, url, body=None, timeout=300, token=None):
    """(status, parsed body, None where it is empty) of one request, past any proxy; with the token
    of the service's deployment, if no other one is given."""
    service = "/".join(url.split("/")[:3])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=_trusting(_trusted.get(service))),
    )
    data = None if body is None else json.dumps(body).encode()
    token = _tokens.get(service) if token is None else token
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with opener.open(request, timeout=timeout) as answer:
            said = answer.read()
            return answer.status, json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
