"""What --fit says of a model's memory is what the real Ollama says of it once it is loaded."""

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from events import PATIENCE_S
from made_models import make_model
from place import PROJECT, SMALL, TINY, wait_for

from engines.models.gguf import read_header
from engines.models.memory import Serving, need_of

EMBEDS = PROJECT / ".tools" / "models" / "all-MiniLM-L6-v2.F16.gguf"
#: As closely as this is Ollama's count to be met.
TOLERANCE = 0.10
#: What Ollama runs by its own engine, one of them with windows. Vocabularies are small, so that
#: caches weigh. SMALL it runs by llama.cpp.
MADE = {
    "qwen3": {"key": 128, "shared": True},
    "gemma3": {"layers": 12, "key": 256, "heads_kv": 1, "window": 512, "shared": True},
}


class Ollama:
    """An Ollama with models of its own, in a folder, and settings."""

    def __init__(self, folder, slots, kv_cache_type, flash_attention):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._program = shutil.which("ollama") or str(PROJECT / ".tools" / "bin" / "ollama")
        self._folder = folder
        self._environment = {
            **os.environ, "HOME": str(folder), "OLLAMA_MODELS": str(folder / "models"),
            "OLLAMA_HOST": self.url, "OLLAMA_NUM_PARALLEL": str(slots),
            "OLLAMA_KV_CACHE_TYPE": kv_cache_type,
            "OLLAMA_FLASH_ATTENTION": str(int(flash_attention)),
            "OLLAMA_MAX_LOADED_MODELS": "1", "NO_PROXY": "*",
        }  # fmt: skip

    @contextmanager
    def serving(self):
        with (self._folder / "ollama.log").open("w") as log:
            server = subprocess.Popen(
                [self._program, "serve"], env=self._environment, stdout=log, stderr=log
            )
        try:
            wait_for(self._is_there, PATIENCE_S)
            yield
        finally:
            server.terminate()
            server.wait()

    def _is_there(self):
        try:
            return self._ask("/api/version")
        except urllib.error.URLError:
            return None

    def _ask(self, path, body=None):
        data = None if body is None else json.dumps({**body, "stream": False}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}{path}", data, timeout=PATIENCE_S) as response:
            return json.load(response)

    def add(self, path):
        """The name of a model of a file."""
        (self._folder / "Modelfile").write_text(f"FROM {path}\n")
        create = [self._program, "create", path.stem.lower(), "-f", self._folder / "Modelfile"]
        subprocess.run(create, env=self._environment, check=True, capture_output=True)
        return path.stem.lower()

    def size(self, model, context, embeds):
        """What /api/ps says once a model is loaded with so much context."""
        options = {"num_ctx": context, "num_predict": 1, "num_thread": 1}
        asked = {"model": model, "options": options, "input" if embeds else "prompt": "a"}
        self._ask("/api/embed" if embeds else "/api/generate", asked)
        (running,) = self._ask("/api/ps")["models"]
        return running["size"]


@pytest.mark.parametrize(("slots", "kind", "flash"), [(4, "f16", False), (2, "q8_0", True)])
def test_what_is_said_of_a_models_memory_is_what_ollama_says(slots, kind, flash, tmp_path):
    made = [make_model(tmp_path / f"{name}.gguf", name, **keys) for name, keys in MADE.items()]
    server = Ollama(tmp_path, slots, kind, flash)
    found = {}
    with server.serving():
        for path in (SMALL, EMBEDS, *made):
            name, header = server.add(path), read_header(path)
            for context in (512, 8192):
                need = need_of(header, Serving(context, slots, kind, flash_attention=flash))
                size = server.size(name, context, path == EMBEDS)
                found[name, context] = need.reported / size - 1
    assert {what: off for what, off in found.items() if abs(off) > TOLERANCE} == {}


def test_a_deployment_takes_what_its_plan_says(place):
    recipe = place.recipe(num_parallel=3, context_length=2048)
    said = json.loads(place.orch("--fit", recipe, "--site", "local", "--json").stdout)
    (model,) = said["models"]
    record = place.deploy(recipe)
    assert model["ollama_size_bytes"] == pytest.approx(
        record["loaded_model"]["size"], rel=TOLERANCE
    )
    assert "KV cache (3 slots x 2048)" in record["settings"]["memory"]
    assert said["fits"] is True
    assert model["name"] == str(TINY.resolve())
