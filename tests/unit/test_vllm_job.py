"""vLLM: its model, what its job is given, what it says of itself, and what is refused."""

import json
import subprocess

import engine_asked
import pytest

from client.errors import OllamaFailed
from client.ollama.whole_prompts import too_long
from contracts.errors import ServiceError, UsageError
from contracts.files import PROJECT
from engines.engine import Facts, LoadedModel
from engines.servers.vllm import VLLM
from engines.tokens import told_lengths
from hpc.commands.deploy import render_all
from hpc.deployments.engine_notes import EngineNotes, engine_notes
from hpc.endpoints import OutputDir
from hpc.planning.plan import make_plan
from hpc.planning.weights import weights_of
from hpc.recipe.folders import files_of, served_name
from hpc.recipe.reading import load_recipe, parse_recipe
from hpc.site import Site
from orch import services

CONFIG = {
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64,
    "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A model's folder, as far as anybody here reads it."""
    found = tmp_path / "a 'b"
    found.mkdir()
    (found / "config.json").write_text(json.dumps(CONFIG))
    (found / "model.safetensors").write_bytes(b"12345")
    return found


@pytest.fixture
def asked(recipe_data, folder):
    recipe_data["job"]["service"] |= {"engine": "vllm", "model": str(folder), "precision": None}
    return recipe_data


def loaded(data, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(data))
    return load_recipe(path)


def refusal(data, tmp_path):
    with pytest.raises(UsageError) as refused:
        loaded(data, tmp_path)
    (line,) = refused.value.details
    return line


# --- the model -----------------------------------------------------------------------------------


def test_a_folder_is_given_as_it_is_and_served_by_its_name(asked, folder, tmp_path):
    recipe = loaded(asked, tmp_path)
    assert recipe.job.service.model == str(folder)
    assert weights_of(recipe, tmp_path / "ollama_models") == str(folder)
    name = served_name(str(folder))
    assert name.startswith("a-b:") and len(name) == len("a-b:") + 8
    (folder / "model.safetensors").write_bytes(b"123456")
    assert served_name(str(folder)) != name


def test_a_relative_folder_is_found_beside_the_recipe(asked, folder, tmp_path):
    asked["job"]["service"]["model"] = f"./{folder.name}"
    assert loaded(asked, tmp_path).job.service.model == str(folder)


def test_of_a_name_the_job_has_a_folder_below_output(asked, tmp_path):
    asked["job"]["service"]["model"] = "Qwen/Qwen2.5-0.5B-Instruct"
    recipe = loaded(asked, tmp_path)
    weights = weights_of(recipe, tmp_path / "ollama_models")
    assert weights == f"{tmp_path}/hub_models/Qwen/Qwen2.5-0.5B-Instruct"
    assert served_name(recipe.job.service.model) == "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("mistral:7b", "nor a name of Hugging Face's hub"),
        ("./nowhere", "cannot be read: No such file or directory"),
        ("./x.gguf", 'is a GGUF file, which "ollama" or "llama.cpp" takes'),
        ("./bare", "it has no *.safetensors (its weights are GGUF files)"),
        ("./empty", "it has no config.json"),
        ("./half", "is not whole: b.safetensors cannot be read; fetch or copy it again"),
    ],
)
def test_what_is_no_model_for_it_is_refused_with_what_is(asked, folder, tmp_path, model, words):
    (tmp_path / "x.gguf").write_bytes(b"GGUF...")
    for name in ("empty", "bare", "half"):
        (tmp_path / name).mkdir()
    for name in ("config.json", "a.safetensors"):
        (tmp_path / "half" / name).write_text("{}")
    (tmp_path / "half" / "b.safetensors").symlink_to("../blobs/gone")
    (tmp_path / "bare" / "config.json").write_text("{}")
    (tmp_path / "bare" / "x.Q4_0.GGUF").write_bytes(b"GGUF")
    asked["job"]["service"]["model"] = model
    line = refusal(asked, tmp_path)
    assert words in line and line.endswith("vLLM takes a folder with config.json and *.safetensors")


@pytest.mark.parametrize("engine", ["ollama", "llama.cpp"])
def test_others_say_whose_a_folder_is(asked, tmp_path, engine):
    asked["job"]["service"]["engine"] = engine
    assert 'is a folder, which "vllm" takes, not a GGUF file' in refusal(asked, tmp_path)


def test_a_container_is_shown_where_links_lead(folder, tmp_path):
    """As the hub's own cache has its files."""
    blob = tmp_path / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_bytes(b"1")
    (folder / "more.safetensors").symlink_to(blob)
    assert {path.parent for path in files_of(folder)} == {folder, blob.parent}


# --- its job -------------------------------------------------------------------------------------


def script_of(data, tmp_path, **site):
    output = OutputDir(tmp_path / "output")
    output.prepare()
    where = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"], **site)
    recipe = parse_recipe(data)
    plan = make_plan(recipe, where, weights=weights_of(recipe, output.models))
    scripts = render_all(plan, services(), output).output.path / "scripts"
    (path,) = scripts.glob("*.vllm.sh")
    return path


@pytest.mark.parametrize(
    ("runtime", "nodes", "gpus", "model"),
    [("host", 1, 0, None), ("host", 3, 2, "org/name"), ("apptainer", 1, 2, None)],
)
def test_its_script_passes_shellcheck_and_says_all_that_was_asked_for(
    asked, tmp_path, runtime, nodes, gpus, model
):
    asked["job"]["infrastructure"] |= {"nodes": nodes, "gpus": gpus}
    service = asked["job"]["service"]
    service |= {"num_parallel": 3, "context_length": 500, "num_thread": 5}
    service["model"] = model or service["model"]
    path = script_of(asked, tmp_path, runtime=runtime, tls=nodes > 1)
    text = path.read_text()
    for words in ("--max-model-len 500 ", "--max-num-seqs 3 ", "thread_count 5 ",
                  f"--tensor-parallel-size {gpus or 1} ", "VLLM_NO_USAGE_STATS=1"):  # fmt: skip
        assert words in text
    assert ("kv-cache-memory-bytes" in text) == (gpus == 0)
    check = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True)
    assert check.stdout == ""
    form = ["shfmt", "-i", "2", "-ci", "-d", path]
    assert subprocess.run(form, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize(
    ("precision", "told"),
    [("fp16", "--dtype float16 "), ("BF16", "--dtype bfloat16 "), ("fp8", "")],
)
def test_the_recipes_options_are_told_in_its_own_words(asked, tmp_path, precision, told):
    asked["job"]["service"] |= {
        "precision": precision, "kv_cache_type": "fp8", "num_batch": 64, "use_mmap": False,
        "sampling": {"temperature": 0.5, "repeat_penalty": 1.1},
        "env": {"VLLM_CPU_KVCACHE_SPACE": "2", "NCCL_P2P_DISABLE": True},
    }  # fmt: skip
    text = script_of(asked, tmp_path).read_text()
    told += "--kv-cache-dtype fp8 --max-num-batched-tokens 64 --safetensors-load-strategy eager"
    sampling = '\'{"temperature":0.5,"repetition_penalty":1.1}\''
    assert f"ARGUMENTS=({told} --override-generation-config {sampling})\n" in text
    assert "VARIABLES=(VLLM_CPU_KVCACHE_SPACE=2 NCCL_P2P_DISABLE=1)\n" in text


def test_what_is_not_quantised_is_kept_as_the_model_is(asked, tmp_path):
    asked["job"]["service"]["kv_cache_type"] = "f16"
    assert "ARGUMENTS=(--kv-cache-dtype auto)\n" in script_of(asked, tmp_path).read_text()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_gpu", 3, "vLLM does not know num_gpu"),
        ("flash_attention", True, "vLLM does not know flash_attention"),
        ("sampling", {"stop": ["x"]}, "vLLM does not know stop"),
        ("sampling", {"seed": 1}, "vLLM does not know seed"),
        ("env", {"OLLAMA_DEBUG": 1}, "vLLM does not know OLLAMA_DEBUG"),
        ("kv_cache_type", "q8_0", "vLLM does not take kv_cache_type 'q8_0', but 'f16' or 'fp8'"),
        ("keep_alive", "5m", "does not go with vLLM: its server keeps the model in memory"),
        ("retrieval", {}, "does not go with vLLM: its server has one model"),
        ("env", {"HF_TOKEN": "hf_secret"}, "is set by the deployment itself"),
        ("env", {"VLLM_LOGGING_LEVEL": "x y"}, "must be a word"),
        ("env", {"VLLM_CPU_KVCACHE_SPACE": 0}, "must be at least 1"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(asked, key, value, words):
    asked["job"]["service"][key] = value
    with pytest.raises(UsageError) as refused:
        parse_recipe(asked)
    (line,) = refused.value.details
    assert line.startswith(f"job.service.{key}") and words in line


def test_a_kv_cache_of_its_kind_is_not_for_others(recipe_data):
    recipe_data["job"]["service"]["kv_cache_type"] = "fp8"
    with pytest.raises(UsageError) as refused:
        parse_recipe(recipe_data)
    assert "Ollama does not take kv_cache_type 'fp8'" in refused.value.details[0]


# --- what its script does with a program ---------------------------------------------------------


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs, the only ones of ours that a job finds; and how one is put there."""
    (tmp_path / "lib").symlink_to(PROJECT / "lib")  # a project without .tools
    monkeypatch.setattr("hpc.deployment.PROJECT", tmp_path)
    found = tmp_path / "bin"
    found.mkdir()

    def put(name, text):
        (found / name).write_text(f"#!/bin/bash\n{text}\n")
        (found / name).chmod(0o755)

    return found, put


def run_job(path, programs):
    """Run it to its end, and return what that is said to be."""
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HF_TOKEN": "hf_s3cret",
    }
    subprocess.run(["bash", path], env=environment, capture_output=True, check=False, timeout=100)
    (said,) = (path.parent.parent / "logs").glob("*.rc")
    return said.read_text()


def test_a_missing_program_is_named_with_what_to_do(asked, tmp_path, programs):
    asked["job"]["security"] = "none"
    said = run_job(script_of(asked, tmp_path), programs[0])
    assert "there is no vllm on" in said and "install vLLM, or load its module" in said


FAILURES = [
    ("ValueError: User-specified max_model_len (4096) is greater than the derived max_model_len "
     "(max_position_embeddings=512.0 or model_max_length=None in model's config.json).",
     "the model reads 512 tokens, fewer than job.service.context_length: lower that"),
    ("ValueError: Total number of attention heads (9) must be divisible by tensor parallel size "
     "(2).", "the model has 9 attention heads, which 2 GPUs cannot divide among them: ask for"),
    ("ValueError: Model architectures ['MadeUpLM'] are not supported for now. Supported: x",
     "does not know the model's architecture (['MadeUpLM']): take a newer vLLM, or another model"),
    ("The checkpoint you are trying to load has model type `new` but Transformers does "
     "not recognize this architecture", "architecture (new): take a newer vLLM"),
    ("ValueError: No available memory for the cache blocks. Try increasing it",
     "leaves no memory for its KV cache: ask for more GPUs, or take a smaller model"),
    ("seq len (8), (9 GiB KV cache is needed, which is larger than the available KV cache memory",
     "lower job.service.context_length, or ask for more GPUs"),
    ("ValueError: Free memory on device cuda:0 (1/80 GiB) on startup is less than desired GPU "
     "memory utilization (0.92, 73 GiB).", "others have taken the memory that it asks for"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried", "it is out of memory: ask for more GPUs"),
    ("safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
     "its weights are no whole safetensors files: fetch or copy them again"),
    ("OSError: Invalid repository ID or local directory specified:", "its config.json is none of"),
    ("RuntimeError: Failed to infer device type", "it sees no GPU, and is no vLLM for CPUs"),
    ("torch._inductor.exc.InvalidCxxCompiler: No working C++ compiler found",
     "load the module of one"),
    ("ValueError: Unknown quantization method: foo. Must be", "(Unknown quantization method: foo)"),
    ("something else", ""),
]  # fmt: skip


def test_why_it_does_not_start_is_a_sentence(asked, tmp_path):
    """By that part of the script, for all at once."""
    asked["job"]["infrastructure"] |= {"gpus": 2}
    text = script_of(asked, tmp_path).read_text()
    part = text[text.index("# said PATTERN") : text.index("# What it writes goes")]
    logs = [tmp_path / f"log{number}" for number in range(len(FAILURES))]
    for log, (words, _) in zip(logs, FAILURES, strict=True):
        log.write_text(f"some line\nERROR [core.py:1] {words}\nanother one\n")
    loop = 'for VLLM_LOG in "$@"; do why_stopped || echo; done'
    said = subprocess.run(
        ["bash", "-uc", f"{part}\n{loop}", "bash", *logs],
        capture_output=True,
        text=True,
        check=True,
    )
    for line, (words, sentence) in zip(said.stdout.split("\n"), FAILURES, strict=False):
        assert sentence in line if sentence else not line, words


def test_one_that_does_not_start_is_told_of(asked, tmp_path, programs):
    asked["job"]["security"] = "none"
    folder, put = programs
    put("vllm", 'echo "torch.OutOfMemoryError: CUDA out of memory. Tried"; exit 1')
    said = run_job(script_of(asked, tmp_path), folder)
    assert "vllm stopped while starting on" in said and "it is out of memory: ask for" in said
    assert said.rstrip().endswith("its own words are above in its log")


def test_what_is_asked_of_the_node_is_as_much_as_its_contexts_take(asked, tmp_path, programs):
    """2 x layers x heads x width x 4 bytes, of whole blocks of 128 tokens, and one more of them."""
    asked["job"]["security"] = "none"
    asked["job"]["infrastructure"] |= {"gpus": 0}
    asked["job"]["service"] |= {"num_parallel": 2, "context_length": 300, "num_thread": 3}
    folder, put = programs
    told = tmp_path / "told"
    put("vllm", f'printf "%s\\n" "$@" >{told}; env >{told}.env; exit 1')
    run_job(script_of(asked, tmp_path), folder)
    words = told.read_text().split("\n")
    assert words[words.index("--kv-cache-memory-bytes") + 1] == str(2 * 3 * 2 * 16 * 4 * 128 * 7)
    variables = dict(
        line.partition("=")[::2] for line in told.with_suffix(".env").read_text().split("\n")
    )
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert variables["DO_NOT_TRACK"] == variables["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in variables


HF = """
[ "$1" = download ] && [ "$3" = --local-dir ] || exit 9
echo "$2" >>"$0.asked"
[ "$2" != no/such ] || { echo "Repository not found: no/such. Check the name." >&2; exit 1; }
mkdir -p "$4/.cache" && echo '{}' >"$4/config.json" && echo 1 >"$4/model.safetensors"
"""


def test_a_model_of_the_hub_is_fetched_once(asked, tmp_path, programs):
    folder, put = programs
    put("hf", HF)
    put("vllm", "exit 1")
    asked["job"]["security"] = "none"
    asked["job"]["service"]["model"] = "org/name"
    script = script_of(asked, tmp_path)
    assert "stopped while starting" in run_job(script, folder)
    fetched = tmp_path / "output" / "hub_models" / "org" / "name"
    assert {path.name for path in fetched.iterdir()} == {"config.json", "model.safetensors"}
    next((tmp_path / "output" / "logs").glob("*.rc")).unlink()
    run_job(script, folder)
    assert (folder / "hf.asked").read_text() == "org/name\n"


def test_without_locks_two_jobs_at_once_both_have_the_model(asked, tmp_path, programs):
    """On a file system that has none: each fetches by itself, and takes nothing from the other."""
    folder, put = programs
    others = 'until [ "$(wc -l <"$0.asked")" = 2 ]; do sleep 0.05; done; echo 1 >"$4/$$.part"'
    first = 'if [ "$(head -n 1 "$0.asked")" != "$$" ]; then sleep 1; fi; rm "$4/$$.part" || exit 1'
    put("hf", HF.replace('"$2" >>', '"$$" >>') + f"{others}; {first}")
    put("flock", 'echo "flock: No locks available" >&2; exit 1')
    put("vllm", "exit 1")
    asked["job"]["security"] = "none"
    asked["job"]["service"]["model"] = "org/name"
    script = script_of(asked, tmp_path)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    jobs = [subprocess.Popen(["bash", script], env=environment, stderr=-1) for _ in range(2)]
    for job in jobs:
        job.communicate(timeout=100)
    ends = [one.read_text() for one in (tmp_path / "output" / "logs").glob("*.rc")]
    assert len(ends) == 2 and all("stopped while starting" in end for end in ends), ends
    fetched = tmp_path / "output" / "hub_models" / "org" / "name"
    assert {path.name for path in fetched.iterdir()} == {"config.json", "model.safetensors"}
    assert {path.name for path in fetched.parent.iterdir()} == {"name", ".name.part.lock"}


@pytest.mark.parametrize(
    ("name", "program", "words"),
    [
        (
            "no/such",
            HF,
            "cannot fetch no/such from Hugging Face's hub: Repository not found",
        ),
        ("org/name", None, "there is no program hf, of huggingface_hub; fetch it where"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(asked, tmp_path, programs, name, program, words):
    folder, put = programs
    if program:
        put("hf", program)
    put("vllm", "exit 1")
    asked["job"]["security"] = "none"
    asked["job"]["service"]["model"] = name
    said = run_job(script_of(asked, tmp_path), folder)
    assert words in said and "--prepare" in said
    assert not (tmp_path / "output" / "hub_models" / name).exists()


# --- what it says of itself ----------------------------------------------------------------------

MODEL = "tiny:1"
SAID = {"/v1/models": {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 512}]},
        "/version": {"version": "0.32.0"}, "/v1/chat/completions": {"choices": []}}  # fmt: skip


def ready(changes, model=MODEL):
    return engine_asked.ready(VLLM.engine, {**SAID, **changes}, model)


def test_it_is_ready_once_it_answers_with_the_model_that_it_was_asked_for():
    assert ready({}) == Facts("0.32.0", LoadedModel(MODEL, context_length=512))
    assert ready({"/v1/chat/completions": 503}) == "It is not ready yet: HTTP 503"


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        ({}, "other:1", r"It does not serve other:1 \(it lists tiny:1\)"),
        ({"/v1/chat/completions": 500}, MODEL, "It cannot answer with tiny:1: HTTP 500"),
    ],
)
def test_any_other_model_and_one_that_fails_are_failures(changes, model, words):
    with pytest.raises(ServiceError, match=words):
        ready(changes, model)


def test_its_job_tells_precision_size_and_place(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    assert engine_notes(tmp_path, "7") == EngineNotes()
    (logs / "7.0.weights").write_text("BF16\n463856\n")
    (logs / "7.0.placement").write_text("gpu\n")
    assert engine_notes(tmp_path, "7") == EngineNotes("", "BF16", 463856, on_gpus=True)


BEGIN = "This model's maximum context length is 512 tokens. "


@pytest.mark.parametrize(
    ("words", "lengths"),
    [
        (f"{BEGIN}However, your prompt contains at least 513 input tokens, which exceeds this "
         "limit even without any output tokens. Please reduce it.", ("at least 513", 512)),
        (f"{BEGIN}However, your prompt contains 700 input tokens, which", ("700", 512)),
        (f"{BEGIN}However, your request has 600 input tokens. Please", ("600", 512)),
        (f"{BEGIN}However, you requested 700 tokens (600 in the messages, 100 in the completion).",
         ("700", 512)),
        ("Input length (600) exceeds model's maximum context length (512).", ("600", 512)),
        ("The engine prompt length 600 exceeds the max_model_len 512. Please reduce prompt.",
         ("600", 512)),
        (f"{BEGIN}However, your prompt contains 60018 characters (more than 2560 characters, which",
         None),
    ],
)  # fmt: skip
def test_too_long_a_prompt_is_known_by_its_words(words, lengths):
    body = json.dumps({"error": {"message": words, "type": "BadRequestError", "code": 400}})
    assert told_lengths(body.encode()) == lengths
    assert too_long(OllamaFailed(words))
