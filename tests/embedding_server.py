"""A stand-in for Ollama that embeds: a text's vector counts its words, so that texts with the same
words are near each other. It answers a prompt with the prompt's last line, and runs no model."""

import contextlib
import json
import math
import re
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIMENSION = 64
#: Words that its model reads.
CONTEXT = 200


def vector_of(text, dimension=DIMENSION):
    """Counts of words, each word at a place given by its checksum; length 1."""
    counts = [0.01] * dimension
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % dimension] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        models = {"models": [{"name": "known:latest"}]}
        self.answer(200, {"version": "0.0.0-stand-in"} if self.path == "/api/version" else models)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        if self.server.failure:
            return self.answer(500, {"error": self.server.failure})
        if self.path == "/api/embed":
            return self.embed(body)
        words = body["prompt"].splitlines()[-1]
        final = {"response": words, "done": True, "eval_count": 1, "eval_duration": 2_000_000_000}
        return self.answer(200, {**final, "prompt_eval_count": 1, "prompt_eval_duration": 10**9})

    def embed(self, body):
        texts = body["input"]
        if not body["truncate"] and any(len(text.split()) > CONTEXT for text in texts):
            return self.answer(400, {"error": "the input length exceeds the context length"})
        vectors = [vector_of(text, self.server.dimension) for text in texts]
        return self.answer(200, {"embeddings": vectors})

    def answer(self, status, body):
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def running():
    """The stand-in: `port`, `seen` (path and body of each request), `dimension` of its vectors,
    and a `failure`, with which it answers everything where it is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.port, server.seen = server.server_address[1], []
    server.dimension, server.failure = DIMENSION, None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
