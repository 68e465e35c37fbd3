"""Options of the engine: each that a recipe gives is told to Ollama in its own words, and a wrong
one is a sentence."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_asked import GGML_VARIABLES

import ollamaService
from client.benchmarks import place_of
from contracts.errors import ServiceError, UsageError
from engines.engine import Facts, LoadedModel
from engines.servers.deployable import DEPLOYED
from engines.servers.llamacpp import LLAMACPP
from engines.servers.ollama_options import unheeded
from engines.servers.options import Options
from hpc import serving
from hpc.deployment import Deployment
from hpc.endpoints import OutputDir
from hpc.following.target import Target
from hpc.planning.plan import Plan, make_plan
from hpc.recipe.options import EngineOptions, Env, Sampling
from hpc.recipe.reading import parse_recipe
from hpc.serving import Probed, placement_problem
from hpc.site import Site

Recipe = dict[str, Any]


@pytest.fixture
def service(recipe_data: Recipe) -> Recipe:
    """That part of a recipe."""
    found: Recipe = recipe_data["job"]["service"]
    return found


def plan_of(recipe: Recipe, **site: Any) -> Plan:
    cluster = {"scheduler": "slurm", "gpu_partitions": ["gpu"], **site}
    return make_plan(parse_recipe(recipe), Site(name="s", **cluster))


def told(recipe: Recipe, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """What the job's script tells Ollama: by its environment, and of its models."""
    output = OutputDir(folder)
    output.prepare()
    ollamaService.setup_ollama(Deployment("test", plan_of(recipe), output))
    script = (folder / "scripts" / "test.ollama.sh").read_text()
    lines = [line for line in script.split("\n") if line.startswith(("PARAMETERS=", "VARIABLES="))]
    said = subprocess.run(
        ["bash", "-uc", "\n".join([*lines, 'printf "%s\\0" "$PARAMETERS" "${VARIABLES[@]}"'])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    pairs = (pair.partition("=") for pair in said[1:] if pair)
    return {name: value for name, _, value in pairs}, json.loads(f"{{{said[0]}}}")


#: Keys of job.service, a value, and what Ollama's environment then says.
VARIABLES = [
    ("flash_attention", True, {"OLLAMA_FLASH_ATTENTION": "1"}),
    ("flash_attention", False, {"OLLAMA_FLASH_ATTENTION": "0"}),
    ("kv_cache_type", "f16", {"OLLAMA_KV_CACHE_TYPE": "f16"}),
    ("kv_cache_type", "q8_0", {"OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0"}),
    ("kv_cache_type", "q4_0", {"OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q4_0"}),
]
#: The same of parameters of a model, which have the recipe's names.
PARAMETERS = [("num_batch", 128), ("num_gpu", 20), ("num_gpu", 0), ("use_mmap", False)]
SAMPLING = {
    "temperature": 0.0,
    "top_k": 20,
    "top_p": 0.5,
    "min_p": 0.05,
    "typical_p": 0.9,
    "repeat_last_n": -1,
    "repeat_penalty": 1.2,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.5,
    "seed": 7,
    "stop": ["'; touch pwned", '"}é&\\', "$(touch pwned)"],
}
ENV = [
    ("OLLAMA_DEBUG", True, "1"),
    ("OLLAMA_DEBUG", "2", "2"),
    ("OLLAMA_LOAD_TIMEOUT", "10m", "10m"),
    ("OLLAMA_GPU_OVERHEAD", 2**30, str(2**30)),
    ("OLLAMA_SCHED_SPREAD", True, "1"),
    ("OLLAMA_SCHED_SPREAD", "0", "0"),
    ("OLLAMA_MAX_LOADED_MODELS", 2, "2"),
    ("OLLAMA_MULTIUSER_CACHE", "true", "1"),
    ("OLLAMA_NEW_ENGINE", 1, "1"),
    ("OLLAMA_LLM_LIBRARY", "cuda_v12", "cuda_v12"),
    ("OLLAMA_VULKAN", False, "0"),
    *GGML_VARIABLES,
]


def test_the_tables_here_have_every_option() -> None:
    keys = {"sampling", "env", *(row[0] for row in VARIABLES), *(row[0] for row in PARAMETERS)}
    assert keys == set(EngineOptions.model_fields)
    assert set(SAMPLING) == set(Sampling.model_fields)
    ollamas = set(DEPLOYED["ollama"].options.variables)
    assert {name for name, _, _ in ENV} == ollamas <= set(Env.model_fields)


@pytest.mark.parametrize(("key", "value", "variables"), VARIABLES)
def test_what_the_environment_says(
    recipe_data: Recipe, service: Recipe, tmp_path: Path, key: str, value: object,
    variables: dict[str, str],
) -> None:  # fmt: skip
    service[key] = value
    assert told(recipe_data, tmp_path) == (variables, {})


@pytest.mark.parametrize(("key", "value"), PARAMETERS)
def test_what_a_model_says_of_its_loading(
    recipe_data: Recipe, service: Recipe, tmp_path: Path, key: str, value: object
) -> None:
    service[key] = value
    assert told(recipe_data, tmp_path) == ({}, {key: value})


def test_what_a_model_says_of_sampling(
    recipe_data: Recipe, service: Recipe, tmp_path: Path
) -> None:
    service["sampling"] = SAMPLING
    assert told(recipe_data, tmp_path) == ({}, SAMPLING)


@pytest.mark.parametrize(("name", "value", "said"), ENV)
def test_what_the_recipe_says_of_the_environment(
    recipe_data: Recipe, service: Recipe, tmp_path: Path, name: str, value: object, said: str
) -> None:
    service["env"] = {name: value}
    assert told(recipe_data, tmp_path) == ({name: said}, {})


def test_without_options_all_is_as_it_was(recipe_data: Recipe, tmp_path: Path) -> None:
    assert told(recipe_data, tmp_path) == ({}, {})
    names = {setting.name.partition(".")[0] for setting in plan_of(recipe_data).settings}
    assert not names & set(EngineOptions.model_fields)


def test_the_plan_says_each_and_where_it_is_from(recipe_data: Recipe, service: Recipe) -> None:
    service |= {"kv_cache_type": "q8_0", "use_mmap": False, "sampling": {"top_k": 1}}
    service["env"] = {"OLLAMA_DEBUG": 1}
    said = {one.name: (one.value, one.source) for one in plan_of(recipe_data).settings}
    assert said["flash_attention"] == (True, "kv_cache_type q8_0 needs it")
    assert said["kv_cache_type"] == ("q8_0", "recipe")
    assert said["use_mmap"] == (False, "recipe")
    assert said["sampling.top_k"] == (1, "recipe")
    assert said["env.OLLAMA_DEBUG"] == (1, "recipe")


# --- what is wrong -------------------------------------------------------------------------------

WRONG = [
    ("flash_attention", "yes", "must be true or false"),
    ("kv_cache_type", "q5_1", "must be 'f16', 'q8_0', 'q4_0' or 'fp8'"),
    ("num_batch", 0, "must be at least 1"),
    ("num_batch", "512", "must be a whole number"),
    ("num_batch", 5000, "must be at most job.service.context_length (4096)"),
    ("num_gpu", -1, "must be at least 0"),
    ("num_gpu", 1.5, "must be a whole number"),
    ("use_mmap", 1, "must be true or false"),
    ("sampling", True, "must be an object"),
    ("sampling.temperature", 2.5, "must be at most 2"),
    ("sampling.temperature", "hot", "must be a number"),
    ("sampling.top_k", -1, "must be at least 0"),
    ("sampling.top_p", 1.1, "must be at most 1"),
    ("sampling.min_p", -0.1, "must be at least 0"),
    ("sampling.typical_p", 2, "must be at most 1"),
    ("sampling.repeat_last_n", -2, "must be at least -1"),
    ("sampling.repeat_penalty", -1, "must be at least 0"),
    ("sampling.presence_penalty", 3, "must be at most 2"),
    ("sampling.frequency_penalty", -3, "must be at least -2"),
    ("sampling.seed", -1, "must be at least 0"),
    ("sampling.stop", "end", "must be a list"),
    ("sampling.stop", [], "must have at least 1 of them"),
    ("sampling.stop", [""], "must not be empty"),
    ("sampling.temprature", 1, "did you mean job.service.sampling.temperature?"),
    ("env", ["OLLAMA_DEBUG=1"], "must be an object"),
    ("env.OLLAMA_DEBUG", 3, "must be at most 2"),
    ("env.OLLAMA_LOAD_TIMEOUT", "10", "must be a time: 90s, 10m or 1h"),
    ("env.OLLAMA_GPU_OVERHEAD", "1GiB", "must be a whole number"),
    ("env.OLLAMA_SCHED_SPREAD", "often", "must be true or false"),
    ("env.OLLAMA_MAX_LOADED_MODELS", 65, "must be at most 64"),
    ("env.OLLAMA_MULTIUSER_CACHE", 2, "must be true or false"),
    ("env.OLLAMA_NEW_ENGINE", "", "must be true or false"),
    ("env.OLLAMA_LLM_LIBRARY", "../cuda", "must be the name of a library, such as cuda_v12"),
    ("env.OLLAMA_VULKAN", [], "must be true or false"),
    ("env.GGML_CUDA_ENABLE_UNIFIED_MEMORY", 0, "must be 1"),
    ("env.GGML_CUDA_DISABLE_GRAPHS", False, "must be 1"),
    ("env.GGML_CUDA_NO_PINNED", "no", "must be 1"),
    ("env.CUDA_LAUNCH_BLOCKING", "x", "must be true or false"),
    ("env.HSA_OVERRIDE_GFX_VERSION", "10.3.0 X=x", "must be a version such as 10.3.0"),
    ("env.HSA_ENABLE_SDMA", 7, "must be true or false"),
    ("env.VLLM_CPU_KVCACHE_SPACE", "4GiB", "must be a whole number"),
    ("env.VLLM_LOGGING_LEVEL", "a b", "must be a word"),
    ("env.VLLM_USE_FLASHINFER_SAMPLER", 2, "must be true or false"),
    ("env.VLLM_USE_DEEP_GEMM", "x", "must be true or false"),
    ("env.NCCL_P2P_DISABLE", "LOC", "must be true or false"),
    ("env.OLLAMA_DEBUGG", 1, "did you mean job.service.env.OLLAMA_DEBUG?"),
    ("env.LD_PRELOAD", "/x.so", "unknown key"),
    ("env.OLLAMA_ORIGINS", "*", "unknown key"),
    ("env.OLLAMA_HOST", "0.0.0.0", "is set by the deployment itself"),
    ("env.OLLAMA_MODELS", "/x", "is set by the deployment itself"),
    ("env.OLLAMA_FLASH_ATTENTION", 1, "is set by job.service.flash_attention"),
    ("env.OLLAMA_NUM_PARALLEL", 4, "is set by job.service.num_parallel"),
]


def set_at(service: Recipe, path: str, value: object) -> None:
    *sections, key = path.split(".")
    for section in sections:
        service = service.setdefault(section, {})
    service[key] = value


def refusal(recipe: Recipe) -> str:
    with pytest.raises(UsageError) as refused:
        parse_recipe(recipe)
    return "\n".join([refused.value.message, *refused.value.details])


@pytest.mark.parametrize(("path", "value", "words"), WRONG)
def test_a_wrong_value_is_a_sentence(
    recipe_data: Recipe, service: Recipe, path: str, value: object, words: str
) -> None:
    set_at(service, path, value)
    said = refusal(recipe_data)
    assert f"job.service.{path}" in said and words in said


def test_the_tables_here_have_every_option_wrong_once() -> None:
    paths = {path for path, _, _ in WRONG}
    assert set(EngineOptions.model_fields) <= paths
    assert {f"sampling.{key}" for key in Sampling.model_fields} <= paths
    assert {f"env.{key}" for key in Env.model_fields} <= paths


def test_all_that_is_wrong_is_said_at_once(recipe_data: Recipe, service: Recipe) -> None:
    service["env"] = {"OLLAMA_HOST": "x", "OLLAMA_DEBUG": 9, "OLLAMA_DEBUGG": 1}
    service["num_gpu"] = -1
    assert "4 errors" in refusal(recipe_data)


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_recipe_that_contradicts_itself(recipe_data: Recipe, service: Recipe, kind: str) -> None:
    service |= {"flash_attention": False, "kv_cache_type": kind}
    assert "a quantised KV cache needs flash attention" in refusal(recipe_data)
    service["kv_cache_type"] = "f16"
    parse_recipe(recipe_data)


def test_layers_on_gpus_without_gpus(recipe_data: Recipe, service: Recipe) -> None:
    service["num_gpu"] = 20
    assert plan_of(recipe_data).gpus
    recipe_data["job"]["infrastructure"]["gpus"] = 0
    with pytest.raises(UsageError, match="num_gpu is 20 layers on GPUs, but no GPU is asked for"):
        plan_of(recipe_data)
    service["num_gpu"] = 0
    plan_of(recipe_data)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine that knows none of them."""
    monkeypatch.setitem(DEPLOYED, "stub", replace(LLAMACPP, title="Stub", options=Options()))
    return "stub"


GIVEN = {
    **{row[0]: row[1] for row in [*VARIABLES, *PARAMETERS]},
    "sampling": {"top_k": 1},
    "env": {"OLLAMA_DEBUG": 0},
}


@pytest.mark.parametrize("key", GIVEN)
def test_an_engine_refuses_by_name_what_it_does_not_know(
    recipe_data: Recipe, service: Recipe, stub: str, key: str
) -> None:
    service |= {"engine": stub, key: GIVEN[key]}
    inner = GIVEN[key]
    name = next(iter(inner)) if isinstance(inner, dict) else key
    said = refusal(recipe_data)
    assert f"job.service.{key}" in said and f"Stub does not know {name}: leave it out" in said


@pytest.mark.parametrize("key", GIVEN)
def test_a_server_that_is_measured_is_told_none(
    recipe_data: Recipe, service: Recipe, key: str
) -> None:
    service.pop("precision")  # neither goes with it
    service |= {"server": {"url": "http://node1:8000"}, key: GIVEN[key]}
    assert f"does not go with job.service.{key}" in refusal(recipe_data)


# --- what has come of it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "vram", "wrong"),
    [(None, 0, True), (None, 60, True), (20, 60, False), (20, 0, True), (0, 0, False)],
)
def test_a_model_sits_where_the_recipe_has_its_layers(
    layers: int | None, vram: int, wrong: bool
) -> None:
    model = LoadedModel("m", size=100, size_vram=vram)
    assert bool(placement_problem(1, model, "Ollama", layers)) is wrong


def test_of_several_replicas_one_without_its_gpu_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever it is."""
    on_gpu = Facts("0.17.4", LoadedModel("smol", size=4, size_vram=4))
    on_cpu = replace(on_gpu, model=LoadedModel("smol", size=4, size_vram=0))
    said: dict[str, Facts | str] = {"http://a:1": on_cpu}
    monkeypatch.setattr(serving, "probe", lambda _engine, url, *_: said.get(url, on_gpu))
    record = SimpleNamespace(jobs={"ollama": "7"})
    token = tmp_path / "internal.token"
    launched: Any = SimpleNamespace(token_file=token, model="smol", record=record)
    target = ollamaService.SERVICE.target(launched)
    for addresses in (["a:1", "b:1"], ["b:1", "a:1"], ["b:1", "a:1", "c:1"]):
        found = target.probe(addresses)
        assert isinstance(found, Probed)
        assert (found.facts, found.misplaced((), None)) == (on_cpu, "a:1")
    found = target.probe(["b:1", "c:1"])
    assert isinstance(found, Probed)
    assert (found.facts, found.misplaced((), None)) == (on_gpu, "")
    said["http://b:1"] = "it loads the model"
    assert target.probe(["a:1", "b:1", "c:1"]) == "it loads the model"


@pytest.mark.parametrize(
    ("places", "at"),
    [("gpu cpu gpu", " at b:1"), ("cpu gpu cpu", " at a:1, c:1"), ("cpu", ""), ("gpu gpu", None)],
)
@pytest.mark.parametrize("by_http", [True, False])
def test_replicas_without_their_gpu_are_named_by_their_addresses(
    recipe_data: Recipe, tmp_path: Path, places: str, at: str | None, by_http: bool
) -> None:
    """By what they say, or by what their job has written down."""
    output, ranks = OutputDir(tmp_path), places.split()
    output.prepare()
    for rank, place in enumerate([] if by_http else ranks):
        name = f"7.{rank}.placement" if len(ranks) > 1 else "7.placement"
        (tmp_path / "logs" / name).write_text(f"{place}\n")
    vram = {"gpu": 4, "cpu": 0} if by_http else {}
    found = [Facts(None, LoadedModel("smol", "", "F16", "", 4, vram.get(one))) for one in ranks]
    addresses = ["a:1", "b:1", "c:1"][: len(ranks)]
    recipe_data["job"]["service"].pop("precision")
    recipe = parse_recipe(recipe_data)
    record = SimpleNamespace(jobs={"ollama": "7"}, gpus=1)
    launched: Any = SimpleNamespace(
        recipe=recipe, record=record, output=output, token_file=tmp_path / "t", model="smol"
    )
    target = Target("ollama", "7", lambda _: None, addresses=addresses)
    target.result = Probed(tuple(addresses), tuple(found))
    if at is None:
        assert ollamaService.SERVICE.ready(launched, target).warnings == []
        return
    with pytest.raises(ServiceError) as failed:
        ollamaService.SERVICE.ready(launched, target)
    assert f"but smol sits on cpu{at}: 0.00 of" in failed.value.message


def test_a_benchmark_does_not_ask_for_the_gpu_alone_if_layers_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for layers, place in ((None, "gpu"), (20, None)):
        service = {"allow_cpu": False, "num_gpu": layers}
        path.write_text(json.dumps({"gpus": 1, "recipe": {"job": {"service": service}}}))
        assert place_of(path) == place


LOG = """\
time=T level=INFO source=routes.go:1 msg="Listening on 127.0.0.1:1"
time=T level=WARN source=server.go:209 msg="flash attention enabled but not supported by model"
time=T level=WARN source=server.go:229 msg="OLLAMA_FLASH_ATTENTION must be enabled" type=q8_0
time=T level=INFO source=r.go:1 msg=load request="{Operation:commit FlashAttention:Disabled}"
time=T level=WARN source=server.go:239 msg="unsupported OLLAMA_KV_CACHE_TYPE" type=q4_0
"""


def test_what_ollama_does_without_is_read_from_its_log() -> None:
    first, second = "flash attention enabled but not supported by model", "OLLAMA_FLASH_ATTENTION"
    assert unheeded(LOG) == [first, f"{second} must be enabled"], "of another model it says more"
    assert unheeded(LOG.partition("\n")[0]) == []
