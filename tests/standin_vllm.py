"""A stand-in of `vllm serve`, by its command line and its answers (of 0.32.0): there is no model
behind it. It reads the folder's config.json and the names of its weights, and writes a letter for
each token; a prompt has as many tokens as it has bytes.

    python3 standin_vllm.py serve FOLDER --served-model-name NAME --host H --port P …

As the real one it is several processes: one that is asked, and one that computes, without which it
ends. It fails as that does if FOLDER/fails says how: the words of one that does not start, or
`no template`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "0.32.0"
#: Seconds that a token takes, and the first one.
PACE_S = float(os.environ.get("STANDIN_PACE_S", "0.002"))
FIRST_S = float(os.environ.get("STANDIN_FIRST_S", PACE_S))
TYPES = {"auto": "bfloat16"}
NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a "
    "chat template if the tokenizer does not define one."
)
LIST = {"GET": ("/health", "/version", "/metrics", "/v1/models"),
        "POST": ("/v1/chat/completions", "/v1/completions", "/tokenize", "/sleep",
                 "/v1/load_lora_adapter", "/reset_prefix_cache")}  # fmt: skip


def parser():
    p = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    p.add_argument("command", choices=["serve"])
    p.add_argument("folder", type=Path)
    for name in ("--served-model-name", "--host"):
        p.add_argument(name, required=True)
    for name in ("--port", "--max-num-seqs", "--max-model-len", "--tensor-parallel-size"):
        p.add_argument(name, type=int, required=True)
    p.add_argument("--disable-uvicorn-access-log", action="store_true")
    for name in ("--max-num-batched-tokens", "--kv-cache-memory-bytes"):
        p.add_argument(name, type=int)
    p.add_argument("--dtype", default="auto")
    p.add_argument("--kv-cache-dtype", default="auto")
    p.add_argument("--safetensors-load-strategy")
    p.add_argument("--override-generation-config", type=json.loads, default={})
    return p


def log(words):
    print(
        f"(APIServer pid={os.getpid()}) INFO 11-29 17:22:53 [api_utils.py:286] {words}", flush=True
    )


def failure(given):
    """The words with which it does not start; None: it does."""
    fails = given.folder / "fails"
    said = fails.read_text().strip() if fails.exists() else ""
    config = json.loads((given.folder / "config.json").read_text())
    if said and said != "no template":
        return said
    if not list(given.folder.glob("*.safetensors")):
        return f"RuntimeError: Cannot find any model weights with `{given.folder}`"
    most = config["max_position_embeddings"]
    if given.max_model_len > most:
        return (
            f"User-specified max_model_len ({given.max_model_len}) is greater than the derived "
            f"max_model_len (max_position_embeddings={most}.0 or model_max_length=None in model's "
            "config.json)."
        )
    if config["num_attention_heads"] % given.tensor_parallel_size:
        return (
            f"Total number of attention heads ({config['num_attention_heads']}) must be divisible "
            f"by tensor parallel size ({given.tensor_parallel_size})."
        )
    return None


class Counts:
    """What it has done."""

    running = generated = cancelled = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, given):
        super().__init__((given.host, given.port), Handler)
        self.given, self.counts, self.lock = given, Counts(), threading.Lock()
        fails = given.folder / "fails"
        self.no_template = fails.exists() and "no template" in fails.read_text()
        self.slots = threading.Semaphore(given.max_num_seqs)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self):
        given, path = self.server.given, self.path
        if path == "/health":
            self.answer(200, b"")
        elif path == "/version":
            self.say({"version": VERSION})
        elif path == "/v1/models":
            self.say({"object": "list", "data": [{
                "id": given.served_model_name, "object": "model", "created": 1, "owned_by": "vllm",
                "root": str(given.folder), "parent": None, "max_model_len": given.max_model_len,
            }]})  # fmt: skip
        elif path == "/metrics":
            self.answer(200, self.metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self.say({"detail": "Not Found"}, 404)

    def metrics(self):
        counts, labels = (
            self.server.counts,
            f'engine="0",model_name="{self.server.given.served_model_name}"',
        )
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {counts.running}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{labels}}} {counts.generated}",
            "# TYPE vllm:request_success_total counter",
            f'vllm:request_success_total{{{labels},finished_reason="abort"}} {counts.cancelled}',
        ]
        return "\n".join(lines) + "\n"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in ("/v1/chat/completions", "/v1/completions"):
            self.complete(body, chat=self.path == "/v1/chat/completions")
        elif self.path == "/tokenize":
            tokens = list(body["prompt"].encode())
            self.say({"count": len(tokens), "tokens": tokens})
        elif self.path in LIST["POST"]:
            self.say({})
        else:
            self.say({"detail": "Not Found"}, 404)

    def complete(self, body, chat):
        given = self.server.given
        if body.get("model", given.served_model_name) != given.served_model_name:
            name = body["model"]
            return self.refuse(f"The model `{name}` does not exist.", 404, "NotFoundError", "model")
        if chat and self.server.no_template:
            return self.refuse(NO_TEMPLATE, 400, "BadRequestError")
        if chat:
            prompt = "".join(f"{one['role']}: {one['content']}\n" for one in body["messages"])
            prompt += "assistant: "
        else:
            prompt = body["prompt"]
        tokens, most = len(prompt.encode()), given.max_model_len
        if tokens > most:
            return self.refuse(too_long(tokens, most), 400, "BadRequestError", "input_tokens")
        asked = body.get("max_tokens") or most
        answer = Answer(self, body, chat, tokens, min(asked, most - tokens))
        with self.server.slots:
            return answer.write()

    def refuse(self, words, status, kind, param=None):
        error = {"message": words, "type": kind, "param": param, "code": status}
        self.say({"error": error}, status)

    def say(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), "application/json")

    def answer(self, status, data, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def too_long(tokens, most):
    """Its own words; of texts that are far too long it counts the characters alone."""
    begin = f"This model's maximum context length is {most} tokens. However, your prompt contains "
    end = "Please reduce the length of the input prompt."
    if tokens > 5 * most:
        return (
            f"{begin}{tokens} characters (more than {5 * most} characters, which is the upper "
            f"bound for {most} input tokens). {end} (parameter=input_text, value={tokens})"
        )
    return (
        f"{begin}at least {most + 1} input tokens, which exceeds this limit even without any "
        f"output tokens. {end} (parameter=input_tokens, value={most + 1})"
    )


class Answer:
    """The answer to one request, which ends if its caller has gone."""

    def __init__(self, handler, body, chat, read, count):
        self.handler, self.counts, self.lock = handler, handler.server.counts, handler.server.lock
        self.chat, self.count, self.streamed = chat, count, bool(body.get("stream"))
        self.tells_usage = (body.get("stream_options") or {}).get("include_usage")
        self.usage = {
            "prompt_tokens": read,
            "total_tokens": read + count,
            "completion_tokens": count,
        }
        kind = "chat.completion" if chat else "text_completion"
        self.head = {"id": "cmpl-1", "object": kind, "created": 1,
                     "model": handler.server.given.served_model_name}  # fmt: skip

    def write(self):
        self.add(running=1)
        try:
            self._stream() if self.streamed else self._whole()
        except ConnectionError:
            self.handler.close_connection = True
            self.add(cancelled=1)
            log("Aborted request cmpl-1.")
        finally:
            self.add(running=-1)

    def add(self, **more):
        with self.lock:
            for name, count in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + count)

    def letters(self):
        for number in range(self.count):
            time.sleep(PACE_S if number else FIRST_S)
            self.add(generated=1)
            yield chr(97 + number % 26)

    def _whole(self):
        text = ""
        for letter in self.letters():
            text += letter
            if gone(self.handler.connection):
                raise ConnectionError
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, "finish_reason": "length", "stop_reason": None, **said}
        self.handler.say({**self.head, "choices": [choice], "usage": self.usage})

    def _stream(self):
        handler = self.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if self.chat:
            self._chunk({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        for number, letter in enumerate(self.letters(), 1):
            said = {"delta": {"content": letter}} if self.chat else {"text": letter}
            self._chunk({**said, "finish_reason": "length" if number == self.count else None})
        if self.tells_usage:
            self._event({**self.head, "choices": [], "usage": self.usage})
        self._send(b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    def _chunk(self, choice):
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        self._event({**self.head, "object": kind, "choices": [{"index": 0, **choice}]})

    def _event(self, value):
        self._send(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _send(self, data):
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if gone(self.handler.connection):
            raise ConnectionError


def gone(connection):
    """Whether whoever asks has closed his end."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


def main():
    given = parser().parse_args()
    log(f"non-default args: {sys.argv[1:]}")
    config = json.loads((given.folder / "config.json").read_text())
    kind = (config.get("quantization_config") or {}).get("quant_method")
    log(
        f"Initializing a V1 LLM engine (v{VERSION}) with config: model='{given.folder}', "
        f"dtype=torch.{TYPES.get(given.dtype, given.dtype)}, max_seq_len={given.max_model_len}, "
        f"quantization={kind}, quantization_config=None, kv_cache_dtype={given.kv_cache_dtype}, "
        "device_config=cpu, structured_outputs_config=None"
    )
    words = failure(given)
    if words:
        log(f"ValueError: {words}")
        return 1
    core = subprocess.Popen(["sleep", "infinity"])
    server = Server(given)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log("Application startup complete.")
    signal.signal(signal.SIGTERM, lambda *_: core.terminate())
    core.wait()
    if core.returncode not in (0, -signal.SIGTERM):
        log("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
