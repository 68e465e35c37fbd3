"""Options of the engine reach a real Ollama: its environment, its models' parameters, and what it
loads a model with; a request's own go before them."""

import json
import re
from pathlib import Path

from events import PATIENCE_S
from place import SMALL, http, wait_for

from contracts.json_object import JsonObject

OPTIONS = {
    "kv_cache_type": "q8_0",
    "num_batch": 64,
    "num_gpu": 0,
    "use_mmap": True,
    "sampling": {"temperature": 0, "top_k": 5, "stop": ["e", '"}é&\\']},
    "env": {"OLLAMA_DEBUG": 1, "OLLAMA_LOAD_TIMEOUT": "7m", "HSA_OVERRIDE_GFX_VERSION": "10.3.0"},
}


def environment_of_ollama(place):
    """That of the one process which serves here."""
    (found,) = [
        path.with_name("environ").read_text().split("\0")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if _reads(path).endswith("ollama\0serve\0")
        and str(place.output) in _reads(path.with_name("environ"))
    ]
    return dict(pair.partition("=")[::2] for pair in found if pair)


def _reads(path):
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended


def loads(place):
    """What Ollama's runner was told, each time that it has loaded a model."""
    logs = "".join(path.read_text() for path in place.output.glob("logs/ollama_*.err"))
    said = re.findall(r'msg=load request="\{Operation:commit ([^"]*)\}"', logs)
    return [dict(re.findall(r"(\w+):(\w+)", one)) for one in said], logs


def test_options_reach_the_engine_and_a_requests_own_go_before_them(place):
    record = place.deploy(
        place.recipe(model=str(SMALL), **OPTIONS, n_clients=1, n_requests_per_client=1)
    )
    (url,) = record["endpoints"]["ollama"]

    environment = environment_of_ollama(place)
    assert environment["OLLAMA_FLASH_ATTENTION"] == "1"
    assert environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert OPTIONS["env"].items() <= {**environment, "OLLAMA_DEBUG": 1}.items()
    assert environment["OLLAMA_DEBUG"] == "1"

    (loaded, *_), log = loads(place)
    assert loaded["FlashAttention"] == "Enabled" and loaded["KvCacheType"] == "q8_0"
    assert (loaded["BatchSize"], loaded["UseMmap"]) == ("64", "true")
    assert re.search(r'msg="loading model" "model layers"=\d+ requested=0', log)
    assert record["warnings"] == []

    parameters = http("POST", f"{url}/api/show", {"model": record["model"]})[1]["parameters"]
    said = [line.split(None, 1) for line in parameters.splitlines()]
    assert ["num_batch", "64"] in said and ["num_gpu", "0"] in said and ["top_k", "5"] in said
    assert sorted(value for name, value in said if name == "stop") == ['"\\"}é&\\\\"', '"e"']

    def answer(**options: object) -> JsonObject:
        body = {"model": record["model"], "prompt": "Hi", "stream": False, "raw": True,
                "options": {"num_predict": 16, **options}}  # fmt: skip
        status, found = http("POST", f"{url}/api/generate", body)
        assert status == 200, found
        return found

    first, second = answer(seed=1), answer(seed=2)
    assert first["response"] == second["response"] and "e" not in first["response"]
    assert answer(num_batch=32)["done"]
    wait_for(lambda: loads(place)[0][-1]["BatchSize"] == "32", PATIENCE_S)
    own = [answer(seed=seed, temperature=2, top_k=0, stop=["zzzzzz"]) for seed in (1, 2)]
    assert own[0]["response"] != own[1]["response"]

    settings = record["settings"]
    assert (settings["kv_cache_type"], settings["sampling.top_k"]) == ("q8_0", 5)
    assert settings["env.OLLAMA_LOAD_TIMEOUT"] == "7m"
    (summary,) = place.output.glob("benchmarks/*/summary.json")
    context = json.loads(summary.read_text())["provenance"]["context"]
    assert context["settings"] == settings
    # Drawn at the lowest priority: on a machine that is busy that takes its time.
    report = wait_for(lambda: list(place.output.glob("benchmarks/*/report.html")), 5 * PATIENCE_S)
    assert "kv_cache_type" in report[0].read_text()
