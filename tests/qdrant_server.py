#!/usr/bin/env python3
"""A stand-in for Qdrant's server: the REST calls that retrieval.store makes, and no others.

Behind it is qdrant-client's local mode, so it compares with every point, and is slow. It is
configured as Qdrant is, by environment: QDRANT__SERVICE__HOST, QDRANT__SERVICE__HTTP_PORT,
QDRANT__SERVICE__API_KEY, QDRANT__STORAGE__STORAGE_PATH. As there, /readyz asks for no key, and
/metrics takes it as a bearer token.
"""

import contextlib
import hmac
import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from pydantic import ValidationError
from qdrant_client import QdrantClient, models

_COLLECTION = re.compile(r"/collections/([^/]+)(?:/(.*))?")


def plain(value):
    """What a model of qdrant-client is in JSON."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


class Collections:
    """The calls, by method and what follows the collection's name in the path."""

    def __init__(self, client):
        self.client = client
        self.lock = threading.Lock()

    def do(self, method, name, rest, body):
        """The result of a call. Raises KeyError for one that is not known here, ValueError for a
        collection that is not there."""
        with self.lock:
            return plain(getattr(self, self.CALLS[method, rest])(name, body))

    CALLS = {  # noqa: RUF012
        ("GET", "exists"): "exists",
        ("GET", None): "info",
        ("PUT", None): "create",
        ("DELETE", None): "delete",
        ("PUT", "index"): "index",
        ("PUT", "points"): "upsert",
        ("POST", "points"): "retrieve",
        ("POST", "points/count"): "count",
        ("POST", "points/delete"): "delete_points",
        ("POST", "points/query"): "query",
    }

    def exists(self, name, _):
        return {"exists": self.client.collection_exists(name)}

    def info(self, name, _):
        return self.client.get_collection(name)

    def create(self, name, body):
        wanted = models.CreateCollection(**body)
        return self.client.create_collection(
            name, vectors_config=wanted.vectors, metadata=wanted.metadata
        )

    def delete(self, name, _):
        return self.client.delete_collection(name)

    def index(self, name, _):
        self.client.get_collection(name)
        return {"operation_id": 0, "status": "completed"}

    def upsert(self, name, body):
        return self.client.upsert(name, models.PointsList(**body).points)

    def retrieve(self, name, body):
        asked = models.PointRequest(**body)
        return self.client.retrieve(
            name, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector
        )

    def count(self, name, body):
        asked = models.CountRequest(**body)
        return self.client.count(name, count_filter=asked.filter, exact=True)

    def delete_points(self, name, body):
        return self.client.delete(name, models.FilterSelector(**body))

    def query(self, name, body):
        asked = models.QueryRequest(**body)
        return self.client.query_points(
            name,
            query=asked.query,
            limit=asked.limit,
            query_filter=asked.filter,
            with_payload=asked.with_payload,
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = urlsplit(self.path).path
        if path == "/readyz":
            return self.answer(200, b"all shards are ready", "text/plain")
        key = self.server.key
        given = self.headers["api-key"] or (self.headers["Authorization"] or "").partition(" ")[2]
        if key and not hmac.compare_digest(given, key):
            return self.answer(401, b"Must provide an API key or an Authorization bearer token")
        if path == "/metrics":
            return self.answer(200, b"collections_total 1\n")
        found = _COLLECTION.fullmatch(path)
        if not found:
            return self.say(404, {"error": "Not found"})
        try:
            arguments = json.loads(body) if body else {}
            result = self.server.collections.do(self.command, *found.groups(), arguments)
        except KeyError:
            return self.say(404, {"error": f"this stand-in does not know {self.command} {path}"})
        except ValidationError as error:
            return self.say(400, {"error": str(error)})
        except ValueError as error:
            return self.say(404 if "not found" in str(error) else 400, {"error": str(error)})
        return self.say(200, "ok", result)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def say(self, status, state, result=None):
        body = {"result": result, "status": state, "time": 0.0}
        self.answer(status, json.dumps(body).encode(), "application/json")

    def answer(self, status, data, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def made(path, host="127.0.0.1", port=0, key=None):
    """The server, listening, its points in the folder `path`."""
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    client = QdrantClient(path=path, force_disable_check_same_thread=True)
    server.collections, server.key = Collections(client), key
    return server


@contextlib.contextmanager
def running(path, key=None):
    """The stand-in in a thread: `port`."""
    server = made(path, key=key)
    server.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.collections.client.close()
        thread.join(5)


def main():
    setting = {k.removeprefix("QDRANT__"): v for k, v in os.environ.items()}
    server = made(
        setting.get("STORAGE__STORAGE_PATH", "./storage"),
        setting.get("SERVICE__HOST", "0.0.0.0"),
        int(setting.get("SERVICE__HTTP_PORT", "6333")),
        setting.get("SERVICE__API_KEY"),
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.05)
    server.collections.client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
