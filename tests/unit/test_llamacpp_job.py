"""llama.cpp's server: what it says of itself, what its job is given, and what is refused."""

import json
import re
import subprocess

import engine_asked
import pytest
from engine_asked import GGML_VARIABLES

from contracts.errors import ServiceError, UsageError
from contracts.files import PROJECT
from engines.engine import Facts, LoadedModel
from engines.servers.llamacpp import LLAMACPP
from hpc.commands.deploy import render_all
from hpc.deployments.engine_notes import engine_notes
from hpc.endpoints import OutputDir
from hpc.planning.plan import make_plan
from hpc.planning.weights import weights_of
from hpc.recipe.options import EngineOptions
from hpc.recipe.reading import parse_recipe
from hpc.serving import placement_problem
from hpc.site import Site
from orch import services

# --- what it says of itself; the answers are those of its version b11549, shortened --------------

MODEL = "smol:1"
META = {"n_ctx": 1024, "n_params": 134515008, "size": 96576768, "ftype": "Q4_1"}
ENTRY = {"id": MODEL, "owned_by": "llamacpp", "meta": META}
PROPS = {"default_generation_settings": {"n_ctx": 512}, "model_ftype": "Q4_1", "build_info": "b1-a"}
SAID = {"/health": {"status": "ok"}, "/v1/models": {"data": [ENTRY]}, "/props": PROPS,
        "/v1/chat/completions": {"choices": []}}  # fmt: skip
LOADED = LoadedModel(MODEL, None, "Q4_1", "134.52M", 96576768, None, 512)


def ready(changes, model=MODEL):
    return engine_asked.ready(LLAMACPP.engine, {**SAID, **changes}, model)


def test_it_is_ready_once_it_answers_with_the_model_that_it_was_asked_for():
    assert ready({}) == Facts("b1-a", LOADED)


def test_while_it_loads_it_is_not_ready():
    assert ready({"/health": 503}) == "It is loading smol:1"


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        ({}, "other:1", "It serves smol:1, not other:1"),
        ({"/v1/chat/completions": 500}, MODEL, "It cannot answer with smol:1: HTTP 500"),
    ],
)
def test_any_other_model_and_one_that_fails_are_failures(changes, model, words):
    with pytest.raises(ServiceError, match=words):
        ready(changes, model)


@pytest.mark.parametrize(
    ("said", "quantization"),
    [("Q4_K - Medium", "Q4_K_M"), ("Q3_K - Small", "Q3_K_S"), ("F16", "F16"), ("all F32", "F32")],
)
def test_quantisations_are_told_as_ollama_does(said, quantization):
    assert ready({"/props": {**PROPS, "model_ftype": said}}).model.quantization == quantization


def test_a_build_without_a_number_has_no_version():
    assert ready({"/props": {**PROPS, "build_info": "b0-unknown"}}).version is None


# --- the file that it is given -------------------------------------------------------------------


@pytest.fixture
def named(recipe_data):
    recipe_data["job"]["service"] |= {"engine": "llama.cpp", "model": "someone/smol:1b"}
    return recipe_data


def keep(models, digest="sha256:aa"):
    """Write a manifest as Ollama does, and the blobs."""
    manifest = models / "manifests/registry.ollama.ai/someone/smol/1b"
    manifest.parent.mkdir(parents=True)
    layers = [{"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest}
              for kind, digest in (("template", "sha256:bb"), ("model", digest))]  # fmt: skip
    manifest.write_text(json.dumps({"layers": layers}))
    (models / "blobs").mkdir()
    (models / "blobs" / "sha256-aa").write_bytes(b"GGUF...")
    (models / "blobs" / "sha256-bb").write_bytes(b"{{ .Prompt }}")


def test_of_a_name_it_is_given_the_weights_that_ollama_has(named, tmp_path):
    keep(tmp_path)
    assert weights_of(parse_recipe(named), tmp_path) == str(tmp_path / "blobs" / "sha256-aa")


@pytest.mark.parametrize(
    ("kept", "why"),
    [(None, "it is not there"), ("sha256:cc", "cannot be read"), ("sha256:bb", "not a GGUF file")],
)
def test_a_name_without_weights_is_refused_with_what_to_do(named, tmp_path, kept, why):
    if kept:
        keep(tmp_path, kept)
    with pytest.raises(UsageError, match=r"llama\.cpp is given a GGUF file") as refused:
        weights_of(parse_recipe(named), tmp_path)
    assert why in refused.value.message and "write the path of a file" in refused.value.message


def test_ollama_is_given_names(recipe_data, tmp_path):
    assert weights_of(parse_recipe(recipe_data), tmp_path) == ""


def test_without_the_file_nothing_is_submitted(orch, named, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(named))
    code, _, err = orch(tmp_path / "recipe.json", "--site", "slurm", "--dry-run")
    assert (code, "llama.cpp is given a GGUF file" in err) == (2, True)
    assert not list(tmp_path.rglob("*.sh"))


# --- its job -------------------------------------------------------------------------------------


def scripts_of(data, tmp_path, **site):
    output = OutputDir(tmp_path / "output")
    output.prepare()
    where = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"], **site)
    plan = make_plan(parse_recipe(data), where, weights=str(tmp_path / "a b.gguf"))
    return render_all(plan, services(), output).output.path / "scripts"


@pytest.mark.parametrize(
    ("runtime", "nodes", "gpus"), [("host", 1, 0), ("host", 3, 2), ("apptainer", 1, 2)]
)
def test_its_script_passes_shellcheck_and_says_all_that_was_asked_for(
    named, tmp_path, runtime, nodes, gpus
):
    named["job"]["infrastructure"] |= {"nodes": nodes, "gpus": gpus}
    if runtime != "host":
        named["job"]["infrastructure"]["replicas_per_node"] = "per_gpu"
    named["job"]["service"] |= {"num_parallel": 3, "context_length": 500, "num_thread": 5}
    (path,) = scripts_of(named, tmp_path, runtime=runtime, tls=nodes > 1).glob("*.llamacpp.sh")
    text = path.read_text()
    for words in ("--ctx-size 1500 ", "--parallel 3 ", f"--gpu-layers {999 if gpus else 0} ",
                  "thread_count 5 ", "a b.gguf'", "MODEL=someone/smol:1b"):  # fmt: skip
        assert words in text
    check = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True)
    assert check.stdout == ""
    form = ["shfmt", "-i", "2", "-ci", "-d", path]
    assert subprocess.run(form, capture_output=True, text=True).stdout == ""


def told(data, tmp_path):
    """Its job's arguments and variables, as bash has them."""
    (path,) = scripts_of(data, tmp_path).glob("*.llamacpp.sh")
    lines = [x for x in path.read_text().split("\n") if x.startswith(("ARGUMENTS=", "VARIABLES="))]
    return [line.partition("=(")[2].removesuffix(")") for line in lines]


#: Keys of job.service, a value, and what its program is told.
WORDS = [
    ("flash_attention", True, "--flash-attn on"),
    ("flash_attention", False, "--flash-attn off"),
    ("kv_cache_type", "f16", "--cache-type-k f16 --cache-type-v f16"),
    ("kv_cache_type", "q8_0", "--flash-attn on --cache-type-k q8_0 --cache-type-v q8_0"),
    ("num_batch", 64, "--batch-size 64 --ubatch-size 64"),
    ("use_mmap", True, "--load-mode mmap"),
    ("use_mmap", False, "--load-mode none"),
]
SAMPLING = [
    ("temperature", 0.5, "--temp 0.5"),
    ("top_k", 7, "--top-k 7"),
    ("top_p", 0.5, "--top-p 0.5"),
    ("min_p", 0.05, "--min-p 0.05"),
    ("typical_p", 0.9, "--typical 0.9"),
    ("repeat_last_n", -1, "--repeat-last-n -1"),
    ("repeat_penalty", 1.2, "--repeat-penalty 1.2"),
    ("presence_penalty", -0.5, "--presence-penalty -0.5"),
    ("frequency_penalty", 0.5, "--frequency-penalty 0.5"),
    ("seed", 7, "--seed 7"),
]


@pytest.mark.parametrize(
    ("given", "arguments", "variables"),
    [
        *(({key: value}, words, "") for key, value, words in WORDS),
        *(({"sampling": {key: value}}, words, "") for key, value, words in SAMPLING),
        *(({"env": {key: value}}, "", f"{key}={said}") for key, value, said in GGML_VARIABLES),
    ],
)
def test_the_recipes_options_are_told_in_its_own_words(
    named, tmp_path, given, arguments, variables
):
    named["job"]["service"] |= given
    assert told(named, tmp_path) == [arguments, variables]


def test_the_tables_here_have_every_option_that_it_knows():
    known = LLAMACPP.options
    assert {key for key, _, _ in WORDS} == set(known.keys) & set(EngineOptions.model_fields)
    assert {key for key, _, _ in SAMPLING} == set(known.sampling)
    assert {key for key, _, _ in GGML_VARIABLES} == set(known.variables)


@pytest.mark.parametrize(
    ("key", "value", "unknown"),
    [("num_gpu", 3, "num_gpu"), ("sampling", {"stop": ["x"]}, "stop"),
     ("env", {"OLLAMA_DEBUG": 1}, "OLLAMA_DEBUG")],
)  # fmt: skip
def test_options_that_it_does_not_know_are_refused(named, key, value, unknown):
    named["job"]["service"][key] = value
    with pytest.raises(UsageError) as refused:
        parse_recipe(named)
    assert f"llama.cpp does not know {unknown}" in refused.value.details[0]


def test_the_clients_job_waits_for_it(named, tmp_path):
    scripts = scripts_of(named, tmp_path)
    assert {path.name.split(".")[-2] for path in scripts.glob("*.sh")} >= {"client", "llamacpp"}
    assert not list(scripts.glob("*.ollama.sh"))
    (client,) = scripts.glob("*.client.sh")
    assert re.search(r"^ENGINE_SERVICE=llamacpp ENGINE_TITLE=llama.cpp$", client.read_text(), re.M)


@pytest.mark.parametrize(
    ("there", "words"),
    [("llama-server", "cannot read the GGUF file"), ("", "run scripts/get_llamacpp.sh")],
)
def test_a_missing_file_and_a_missing_server_are_named_with_what_to_do(
    named, tmp_path, monkeypatch, there, words
):
    (tmp_path / "lib").symlink_to(PROJECT / "lib")  # a project without .tools
    monkeypatch.setattr("hpc.deployment.PROJECT", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    if there:
        (programs / there).write_text("#!/bin/sh\n")
        (programs / there).chmod(0o755)
    named["job"]["security"] = "none"
    (path,) = scripts_of(named, tmp_path).glob("*.llamacpp.sh")
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    subprocess.run(["bash", path], env=environment, capture_output=True, check=False)
    (said,) = (tmp_path / "output" / "logs").glob("*.rc")
    assert words in said.read_text()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [("keep_alive", "5m", "keeps the model in memory"), ("retrieval", {}, "does not embed")],
)
def test_what_it_cannot_do_is_refused_by_name(named, key, value, why):
    named["job"]["service"][key] = value
    with pytest.raises(UsageError) as refused:
        parse_recipe(named)
    (line,) = refused.value.details
    assert line.startswith(f"job.service.{key}") and "does not go with llama.cpp" in line
    assert why in line


def test_what_holds_anyway_may_be_said(named):
    named["job"]["service"]["keep_alive"] = "-1"
    assert parse_recipe(named).job.service.engine == "llama.cpp"


@pytest.mark.parametrize(
    ("placements", "on_gpus"), [(["gpu"], True), (["gpu", "cpu"], False), ([], False)]
)
def test_its_job_tells_where_the_model_sits(tmp_path, placements, on_gpus):
    output = OutputDir(tmp_path)
    output.prepare()
    for rank, word in enumerate(placements):
        (tmp_path / "logs" / f"7.{rank}.placement").write_text(f"{word}\n")
    (tmp_path / "logs" / "77.placement").write_text("gpu\n")
    assert engine_notes(output.path, "7").on_gpus == on_gpus


@pytest.mark.parametrize(("files", "version"), [({"7.0.version": "b9\n"}, "b9"), ({}, "")])
def test_its_job_tells_its_version(tmp_path, files, version):
    output = OutputDir(tmp_path)
    output.prepare()
    for name, text in files.items():
        (tmp_path / "logs" / name).write_text(text)
    assert engine_notes(output.path, "7").version == version


def test_gpus_that_were_asked_for_in_vain_are_told_with_the_engines_name():
    assert "look for the cause in the llama.cpp log" in (
        placement_problem(2, LOADED, "llama.cpp") or ""
    )
