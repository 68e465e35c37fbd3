"""A door in front of an engine that answers when it is told to, as a client's job starts both."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin

from events import PATIENCE_S, until

from contracts.load import MOST_WAITING
from contracts.named_tokens import NamedToken, digest_of, keep_token, tokens_folder

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}
BOUNDARY = "of-a-form"
FORM_BEGINS = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{BOUNDARY}'
    '\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
).encode()
FORM_ENDS = f"\r\n--{BOUNDARY}--\r\n".encode()
ALL = 1_000_000  # as many answers as may be asked for
WAYS = {
    "/api/generate": lambda text: {"model": "known", "prompt": text, "stream": False},
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/messages": lambda text: {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 9,
    },
    "/v1/responses": lambda text: {"input": text},
    "/query": lambda text: {"prompt": text},
}


class Engine(ThreadingHTTPServer):
    """Speaks Ollama's API; answers as many requests as it is let."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), EngineAnswer)
        self.begun, self.heads, self.let = [], [], threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A connection that the test has left."""


class EngineAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        model = {"name": "known", "model": "known", "digest": "d", "context_length": 4096}
        self.answer({"version": "0.17.4", "models": [model]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/show":
            self.answer({"model_info": {}, "capabilities": ["completion"]})
            return
        text = (asked.get("messages") or [{"content": asked.get("prompt")}])[-1]["content"]
        if text != "Hi":  # by which the service looks whether it would answer
            del self.headers["orch-tell"]  # the seal's, which there is none of here
            self.server.heads.append(dict(self.headers))
            self.server.begun.append(text)
            assert self.server.let.acquire(timeout=PATIENCE_S)
        said = {"response": "x", "message": {"role": "assistant", "content": "x"}}
        self.answer({"model": "known", **said, **COUNTS})

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


class Door:
    """HAProxy, the client service and what translates, as the client's job starts them."""

    deployment = "d-1"

    def __init__(self, output, in_flight=1, engine_job=41, **told):
        """`told`: what else HAProxy is told."""
        self.engine, self.output, self.in_flight, self.told = Engine(), output, in_flight, told
        self.engine_job = engine_job
        self.folder = Path(tempfile.mkdtemp(prefix="door."))  # names of sockets are short
        self.tokens = tokens_folder(output, self.deployment)
        self.tokens.parent.mkdir(parents=True, exist_ok=True)
        address = output / f"ollama_ip_{engine_job}.txt"
        address.write_text(f"127.0.0.1:{self.engine.server_port}\n")
        (self.folder / "users").write_text(
            f"{digest_of('owners-word')} owner\n{digest_of('inner')} deployment\n"
        )
        (self.folder / "secrets").write_text("engine inner\n")
        for name in ("in_flight", "per_minute", "scrapers", "sessions", "handover"):
            (self.folder / name).touch()
        os.mkfifo(self.folder / "ended", 0o600)
        self.reports = os.open(self.folder / "ended", os.O_RDWR)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.children = []

    def start(self):
        self.serve()
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") or ""
        self.run([program, "-db", "-f", str(ROOT / "lib" / "door.cfg")], self.reports,
                 PROXY_FOLDER=self.folder, LISTEN_AT=f"127.0.0.1:{self.port}",
                 DEPLOYMENT=self.deployment, QUERIES=1,
                 OWN_ENGINES=1, ENGINE="Ollama", OLLAMA_API=1, HEALTH="/api/version",
                 ENGINES=1, IN_FLIGHT=self.in_flight, WAITING=MOST_WAITING,
                 **self.told)  # fmt: skip
        self.run([sys.executable, "-m", "client.compatible", "--model", "known", "--listen",
                  f"unix:{self.folder}/translation", "--engine", f"unix:{self.folder}/engines",
                  "--report", f"{self.folder}/ended"])  # fmt: skip
        until(lambda: self.listens() and (self.folder / "translation").exists())
        until(lambda: self.status("GET", "/health") == 200)
        until(lambda: self.status("GET", "/api/version") == 200)

    def serve(self):
        self.service = self.run(
            [sys.executable, "-m", "gunicorn", "--config", "client/serving.py", "--bind",
             f"unix:{self.folder}/service", "--threads", "8", "clientService:create_app()"],
            ORCH_OUTPUT_DIR=self.output, ORCH_OLLAMA_JOB=self.engine_job, ORCH_MODEL="known",
            ORCH_DEPLOYMENT=self.deployment, ORCH_DOOR=self.folder,
        )  # fmt: skip

    def run(self, command, stdout=None, **variables):
        given = {name: str(value) for name, value in variables.items()}
        child = subprocess.Popen(command, stdout=stdout, cwd=ROOT, env={**os.environ, **given})
        self.children.append(child)
        return child

    def listens(self):
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self):
        self.engine.let.release(ALL)
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait(PATIENCE_S)
        self.engine.shutdown()
        self.engine.server_close()
        os.close(self.reports)
        shutil.rmtree(self.folder)

    # --- for tests ---

    def afresh(self):
        """It, with an engine that has been asked nothing, and answers nothing."""
        until(lambda: not self.waiting())
        self.engine.begun, self.engine.heads = [], []
        self.engine.let = threading.Semaphore(0)
        return self

    def give(self, name, **limits):
        """A token of that name, once the door takes it."""
        word = f"{name}s-word"
        token = NamedToken(sha256=digest_of(word), created=time.time(), **limits)
        keep_token(self.tokens, name, token)
        until(lambda: self.status("GET", "/api/version", word) == 200)
        return word

    def begin(self, path, text, word, **fields):
        """A connection on which something has been asked."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        body = json.dumps(WAYS[path](text))
        head = {"Authorization": f"Bearer {word}", "Content-Type": "application/json", **fields}
        connection.request("POST", path, body, head)
        return connection

    def ask(self, path, text, word):
        """Status, head and JSON of an answer."""
        with contextlib.closing(self.begin(path, text, word)) as connection:
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())

    def status(self, method, path, word="owners-word"):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Authorization": f"Bearer {word}"})
            return connection.getresponse().status

    def metrics(self):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"X-Api-Key": "owners-word"})
            text = connection.getresponse().read().decode()
        found = re.findall(r"^(orch_\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def waiting(self):
        """How many requests wait in all queues."""
        found = self.metrics()
        return sum(value for name, value in found.items() if name.startswith("orch_queue_length"))

    # --- files and batches ---

    def call(self, method, path, body=b"", word="owners-word", **fields):
        """Status and JSON of an answer; of /v1, if the path is no whole one."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            head = {"Authorization": f"Bearer {word}", **fields}
            connection.request(method, urljoin("/v1/", path), body, head)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def upload(self, pieces, word="owners-word"):
        """The id of a file of these pieces."""
        head = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        size = len(FORM_BEGINS) + sum(map(len, pieces)) + len(FORM_ENDS)
        body = iter((FORM_BEGINS, *pieces, FORM_ENDS))
        sent = self.call("POST", "files", body, word, **head, **{"Content-Length": str(size)})
        assert sent[0] == 200, sent
        return sent[1]["id"]

    def begin_batch(self, prompts, word="owners-word"):
        """A batch of these prompts."""
        lines = "".join(f"{json.dumps({'custom_id': p, 'prompt': p})}\n" for p in prompts)
        body = json.dumps(
            {
                "input_file_id": self.upload([lines.encode()], word),
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            }
        )
        status, batch = self.call("POST", "batches", body, word)
        assert status == 200, batch
        return batch["id"]

    def batch(self, batch_id, word="owners-word"):
        """How far it is."""
        status, batch = self.call("GET", f"batches/{batch_id}", word=word)
        assert status == 200, batch
        return batch

    def answered(self, batch):
        """The custom_ids of its output."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            head = {"Authorization": "Bearer owners-word"}
            connection.request("GET", f"/v1/files/{batch['output_file_id']}/content", headers=head)
            lines = connection.getresponse().read().decode().splitlines()
        return sorted(json.loads(line)["custom_id"] for line in lines)
