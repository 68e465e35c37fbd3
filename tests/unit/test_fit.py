"""--fit RECIPE, and the plan's line on memory: what a model takes, and whether it fits."""

import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from made_models import make_model
from standin_nvml import Gpu, stand_in

from engines.models.gguf import read_header
from engines.models.memory import Serving, need_of
from engines.models.quantisations import bytes_of, parameters_in, quantisation_in
from hpc.planning.memory import FREE_ON_GPU, GIB, room_of_host

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
#: Of a model of Hugging Face's layout.
CONFIG = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
          "num_key_value_heads": 8, "torch_dtype": "bfloat16"}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """8 layers with 2 heads of 64 numbers: 4,096 bytes of KV cache a token; 8 MiB of tables, 15 of
    layers."""
    return make_model(tmp_path_factory.mktemp("models") / "made.gguf", "llama")


@pytest.fixture
def recipe(tmp_path, model):
    """Write a recipe of that model; `infrastructure`, and else keys of its service."""

    def write(infrastructure=None, **service):
        path = tmp_path / "recipe.json"
        infrastructure = {"partition": "cpu", **(infrastructure or {})}
        service = {"model": str(model), "num_parallel": 4, "context_length": 4096, **service}
        job = {"infrastructure": infrastructure, "service": service}
        path.write_text(json.dumps({"job": job}))
        return path

    return write


@pytest.fixture
def site(tmp_path):
    """Write a site profile of a cluster."""

    def write(**keys):
        path = tmp_path / "site.json"
        common = {"name": "there", "scheduler": "slurm", "cpu_partitions": ["cpu"],
                  "gpu_partitions": ["gpu"]}  # fmt: skip
        path.write_text(json.dumps({**common, **keys}))
        return path

    return write


@pytest.fixture(autouse=True)
def _slurm(tmp_path, monkeypatch):
    """Nothing of it is asked but where it is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


# --- what a model takes --------------------------------------------------------------------------


def test_a_cache_takes_what_layers_heads_and_slots_do(model):
    header = read_header(model)
    need = need_of(header, Serving(4096, 4))
    assert need.kv_cache == 4096 * 4 * 8 * 2 * 2 * 64 * 2
    assert need.weights == header.weights
    assert need_of(header, Serving(4096, 4, "q8_0")).kv_cache == need.kv_cache * 34 // 64
    assert need_of(header, Serving(4096, 8)).kv_cache == 2 * need.kv_cache
    assert need_of(header, Serving(10**6, 1)).context_length == 32768, "as it was trained"


def test_windows_bound_the_cache_of_their_layers(tmp_path):
    """Two layers of twelve see all of the context; the rest 4 x (512 + 1) tokens, those of a batch,
    and what makes it a multiple of 256."""
    path = make_model(
        tmp_path / "made.gguf", "gemma3", layers=12, key=256, heads_kv=1, window=512, shared=True
    )
    need = need_of(read_header(path), Serving(4096, 4))
    assert need.kv_cache == (2 * 16384 + 10 * 2816) * 2 * 256 * 2


def test_a_file_may_say_which_layers_have_a_window(tmp_path):
    pattern = {"attention.sliding_window_pattern": [True, False]}
    path = make_model(tmp_path / "made.gguf", "olmo3", layers=2, window=512, **pattern)
    assert need_of(read_header(path), Serving(4096, 1)).kv_cache == (1024 + 4096) * 512


def test_recurrent_layers_keep_as_much_for_any_context(tmp_path):
    """Of four layers one has a cache; the rest keep 3 x (512 + 2 x 2 x 16) + 16 x 512 numbers of a
    sequence."""
    state = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 512,
        "ssm.state_size": 16,
        "ssm.group_count": 2,
    }
    heads = {"attention.head_count_kv": [0, 0, 2, 0]}
    path = make_model(tmp_path / "made.gguf", "granite", layers=4, **state, **heads)
    for context in (512, 4096):
        need = need_of(read_header(path), Serving(context, 2))
        assert need.kv_cache == 2 * (context * 512 + 3 * 4 * (3 * 576 + 8192))


def test_what_answers_one_request_at_a_time_has_one_slot(tmp_path):
    path = make_model(tmp_path / "made.gguf", "qwen3vl")
    assert need_of(read_header(path), Serving(4096, 4)).num_parallel == 1


def test_on_gpus_ollama_counts_attention_as_if_it_were_not_in_pieces(model):
    need = need_of(read_header(model), Serving(4096, 4, gpu=True))
    assert need.compute == 4 * 512 * (4 * 256 + 16384 * 5)
    assert need.weights == read_header(model).weights - 2 * 8192 * 256, "one table stays on the CPU"
    assert need.reported == need.total


def test_attention_as_a_whole_takes_its_scores(model, tmp_path):
    """Of llama.cpp those of one slot, of Ollama's own engine those of all."""
    whole = Serving(8192, 4, flash_attention=False)
    assert need_of(read_header(model), whole).compute == 4 * 512 * (8192 * 5 + 5 * 256)
    path = make_model(tmp_path / "made.gguf", "qwen3", key=128, shared=True)
    need = need_of(read_header(path), whole)
    assert need.compute == 4 * 512 * (4 * 32768 + 6 * 256) + 4 * 4 * 8192


@pytest.mark.parametrize(
    ("name", "parameters", "quantisation"),
    [
        ("mistral:7b-instruct-q4_0", 7e9, "q4_0"),
        ("mixtral:8x7b", 56e9, None),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", 1e9, "q4_k_m"),
        ("smollm2:135m-instruct-fp16", 135e6, "f16"),
        ("qwen2.5:0.5b", 5e8, None),
        ("nomic-embed-text", None, None),
    ],
)
def test_a_name_says_how_large_a_model_is(name, parameters, quantisation):
    assert (parameters_in(name), quantisation_in(name)) == (parameters, quantisation)


# --- the plan ------------------------------------------------------------------------------------


def test_the_plan_has_a_line_on_it(orch, recipe, site):
    code, out, err = orch(recipe({"mem_gb": 16}), "--site", site(), "--dry-run")
    assert code == 0, err
    assert "23 MiB weights + 64 MiB KV cache (4 slots x 4096) + 16 MiB to compute in of 16.0" in out
    assert "GiB: fits  its file" in out
    assert "its file; 16.0 GiB for its job" in out
    assert "WARNING" not in out.replace("WARNING  monitoring", "")


def test_what_does_not_fit_is_a_warning_and_where_it_must_fit_an_error(orch, recipe, site):
    job = {"mem_gb": 1}
    code, out, _ = orch(recipe(job, num_parallel=64), "--site", site(), "--dry-run")
    assert code == 0
    assert "does not fit" in out
    assert "would take 1.0 GiB of memory, but a replica has 1.0 GiB for its job: lower" in out
    path = recipe(job, num_parallel=64, require_fit=True)
    for options in (["--dry-run"], [], ["--prepare"]):
        code, _, err = orch(path, "--site", site(), *options)
        assert code == 2
        assert "requires that its model fits (job.service.require_fit), but" in err
        assert "nothing was submitted" in err
    assert orch(recipe(job, require_fit=True), "--site", site(), "--dry-run")[0] == 0


def test_what_nobody_can_say_is_said_and_where_it_must_fit_an_error(orch, recipe, site):
    code, out, _ = orch(recipe(), "--site", site(), "--dry-run")
    assert code == 0
    assert "whether it fits is not known (set job.infrastructure.mem_gb, the memory of the" in out
    code, _, err = orch(recipe(require_fit=True), "--site", site(), "--dry-run")
    assert code == 2
    assert "nobody can say whether it fits: set job.infrastructure.mem_gb" in err


def test_memory_of_gpus_is_the_sites(orch, recipe, site):
    gpus = {"partition": "gpu", "gpus": 2}
    code, out, _ = orch(recipe(gpus), "--site", site(), "--dry-run")
    assert "set gpu_mem_gb, the memory of a GPU, in the site profile there" in out
    profile = site(gpu_mem_gb={"gpu": 40, "other": 80})
    code, out, _ = orch(recipe(gpus), "--site", profile, "--dry-run")
    assert code == 0
    assert "of 40.0 GiB: fits" in out
    assert "40.0 GiB on each of its 2 GPUs" in out


def test_a_model_is_spread_over_gpus_if_one_is_too_small(orch, recipe, site):
    """0.5 GiB of cache, and 1.3 to compute in; each GPU computes, and has something left free."""
    found = {}
    for gpus in (1, 2):
        path = recipe({"partition": "gpu", "gpus": gpus}, num_parallel=32)
        code, out, _ = orch("--fit", path, "--site", site(gpu_mem_gb=2.1), "--json")
        assert code == 0
        found[gpus] = json.loads(out)
    (model,) = found[1]["models"]
    once = model["weights_bytes"] + model["kv_cache_bytes"]
    each = model["compute_bytes"] + FREE_ON_GPU
    assert 0.5 * GIB < once < 0.6 * GIB
    assert 1.6 * GIB < each < 1.8 * GIB
    assert {gpus: figures["fits"] for gpus, figures in found.items()} == {1: False, 2: True}


def test_here_nvidias_driver_says_the_memory_of_a_gpu(recipe, tmp_path):
    path = recipe({"gpus": 2})

    def plan(**environment):
        command = [sys.executable, ROOT / "orch.py", path, "--site", "local", "--dry-run"]
        given = {**os.environ, **environment}
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)

    assert "NVIDIA's driver does not say the memory of a GPU: set gpu_mem_gb" in plan().stdout
    gpus = Gpu("GPU-a", total_mib=81920), Gpu("GPU-b", total_mib=40960)
    assert "of 40.0 GiB: fits" in plan(**stand_in(tmp_path, *gpus)).stdout


def test_layers_that_stay_on_the_cpu_are_not_counted_on_the_gpu(orch, recipe, site):
    """Half of 0.5 GiB of cache, and 1.7 to compute in and left free; all of it on the CPU."""
    infrastructure = {"partition": "gpu", "gpus": 1, "mem_gb": 1}
    found = {}
    for layers in (9, 4, 0):
        path = recipe(infrastructure, num_parallel=32, num_gpu=layers)
        out = orch("--fit", path, "--site", site(gpu_mem_gb=2.1), "--json")[1]
        found[layers] = (json.loads(out)["fits"], json.loads(out)["gpus"])
    assert found == {9: (False, 1), 4: (True, 1), 0: (True, 0)}


def test_options_of_the_engine_count(orch, recipe, site):
    def figures(**service):
        path = recipe({"mem_gb": 16}, **service)
        return json.loads(orch("--fit", path, "--site", site(), "--json")[1])["models"][0]

    plain = figures()
    assert figures(kv_cache_type="q4_0")["kv_cache_bytes"] == plain["kv_cache_bytes"] * 18 // 64
    assert figures(num_batch=1024)["compute_bytes"] == 2 * plain["compute_bytes"]
    assert figures(flash_attention=False)["compute_bytes"] > 2 * plain["compute_bytes"]


def test_replicas_of_a_node_share_its_memory_and_its_gpus(orch, recipe, site):
    def room(infrastructure):
        path = recipe({**infrastructure, "cpus": 8, "replicas_per_node": 4})
        said = json.loads(orch("--fit", path, "--site", site(gpu_mem_gb=40), "--json")[1])
        return said["memory_bytes"], said["gpus"]

    assert room({"mem_gb": 16}) == (4 * GIB, 0)
    assert room({"partition": "gpu", "gpus": 8}) == (40 * GIB, 2)


def machine(root, files):
    """A machine's files, of which 4 MiB of memory are free."""
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4096 kB\n", **files}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_replicas_on_ones_own_machine_share_what_is_free(tmp_path):
    room = room_of_host(2, machine(tmp_path, {}))
    assert (room.each, str(room)) == (2 * MIB, "2 MiB free here now, for each of 2")


@pytest.mark.parametrize("limited", ["user.slice", "user.slice/user-7.slice", ""])
def test_a_control_groups_limit_goes_before_what_is_free(tmp_path, limited):
    """Of a login's slice, as systemd may bound it, or of a container, which sees its own as the
    root. What it has read and no longer uses is as good as free."""
    groups, own = tmp_path / "sys/fs/cgroup", "user.slice/user-7.slice"
    files = {"proc/self/cgroup": f"0::/{own}\n", f"sys/fs/cgroup/{own}/memory.max": "max\n"}
    room = room_of_host(1, machine(tmp_path, files))
    assert str(room) == "4 MiB free here now"
    (groups / limited / "memory.max").write_text(f"{8 * MIB}\n")
    (groups / limited / "memory.current").write_text(f"{6 * MIB}\n")
    (groups / limited / "memory.stat").write_text(f"anon {5 * MIB}\ninactive_file {MIB}\n")
    assert str(room_of_host(1, tmp_path)) == "3 MiB left here by a control group's limit"


def test_so_does_one_of_the_older_kind(tmp_path):
    group = "sys/fs/cgroup/memory/docker/1"
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/\n3:memory:/docker/1\n0::/\n",
        f"{group}/memory.limit_in_bytes": f"{3 * MIB}\n",
        f"{group}/memory.usage_in_bytes": f"{4 * MIB}\n",
        f"{group}/memory.stat": f"inactive_file 0\ntotal_inactive_file {MIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "4096\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert room_of_host(1, machine(tmp_path, files)).each == 0


# --- --fit ---------------------------------------------------------------------------------------


def test_it_says_what_other_settings_cost_and_which_fit(orch, recipe, site):
    code, out, err = orch("--fit", recipe({"mem_gb": 1}), "--site", site())
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "num_parallel, one more +16 MiB 49" in lines
    assert "context_length, 1024 more +16 MiB 32768" in lines
    assert "kv_cache_type q8_0 -30 MiB" in lines
    assert "q4_k_m about 7 MiB fits" in lines


def test_its_figures_are_those_of_a_plan_with_what_it_recommends(orch, recipe, site):
    profile = site()
    figures = json.loads(orch("--fit", recipe({"mem_gb": 1}), "--site", profile, "--json")[1])
    most = figures["costs"]["largest_num_parallel"]
    for slots, fits in ((most, True), (most + 1, False)):
        path = recipe({"mem_gb": 1}, num_parallel=slots)
        again = json.loads(orch("--fit", path, "--site", profile, "--json")[1])
        assert again["fits"] is fits
        more = (slots - 4) * figures["costs"]["slot_bytes"]
        assert again["needed_bytes"] == figures["needed_bytes"] + more


@pytest.mark.parametrize("trained", [512, 1500, 2048])
def test_no_context_is_recommended_beyond_what_a_model_was_trained_with(
    orch, recipe, site, tmp_path, trained
):
    model = make_model(tmp_path / "short.gguf", "llama", trained=trained)
    path = recipe({"mem_gb": 1}, model=str(model))
    figures = json.loads(orch("--fit", path, "--site", site(), "--json")[1])
    assert figures["costs"]["largest_context_length"] == trained


def test_a_smaller_quantisation_may_fit(orch, recipe, site):
    path = recipe({"mem_gb": 1}, num_parallel=49, context_length=4112)
    figures = json.loads(orch("--fit", path, "--site", site(), "--json")[1])
    found = {other["name"]: other["fits"] for other in figures["quantisations"]}
    assert (figures["fits"], found["f16"], found["q8_0"]) == (False, False, True)


def test_a_broken_file_is_a_sentence(orch, recipe, site, tmp_path, model):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model.read_bytes()[:1000])
    path = recipe(model=str(broken))
    code, _, err = orch("--fit", path, "--site", site())
    assert code == 2
    assert f"{broken} is no whole GGUF file (it ends within its header): fetch or copy it" in err
    code, out, _ = orch(path, "--site", site(), "--dry-run")
    assert code == 0, "the engine has the last word"
    assert "it ends within its header" in out


def test_a_model_in_ollamas_folder_is_read_there(orch, recipe, site, tmp_path, model):
    folder = tmp_path / "output" / "ollama_models"
    data = model.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
    manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "made" / "latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(manifest_of(data, projector=MIB)))
    code, out, _ = orch(recipe({"mem_gb": 16}, model="made"), "--site", site(), "--dry-run")
    assert code == 0
    assert "24 MiB weights + 64 MiB KV cache" in out, "with its projector"
    assert f"its file in {folder}" in out


def test_a_server_that_is_there_already_has_nothing_to_fit(orch, tmp_path, site):
    service = {
        "model": "m",
        "n_clients": 1,
        "server": {"url": "http://127.0.0.1:1", "api": "openai"},
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"job": {"service": service}}))
    code, _, err = orch("--fit", path, "--site", site())
    assert code == 2
    assert "nothing of it is to fit" in err


# --- what is not here yet ------------------------------------------------------------------------


def manifest_of(data, projector=0):
    kind = "application/vnd.ollama.image."
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    layers = [
        {"mediaType": f"{kind}template", "digest": "sha256:0", "size": 1000},
        {"mediaType": f"{kind}model", "digest": digest, "size": len(data)},
        {"mediaType": f"{kind}projector", "digest": "sha256:1", "size": projector},
    ]
    return {"schemaVersion": 2, "layers": layers}


@pytest.fixture
def registry(certificates, monkeypatch, tmp_path):
    """A stand-in for a registry of models: its address, and what it was asked."""
    model = make_model(tmp_path / "large.gguf", "llama", width=64, vocabulary=32768)
    data, asked = model.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Range"]))
            if self.path == "/v2/library/made/manifests/7b":
                self._say(200, json.dumps(manifest_of(data)).encode())
            elif self.path == "/api/models/some/made/tree/main":
                sizes = {"a.safetensors": 2 * GIB, "b.safetensors": GIB, "c.bin": GIB}
                files = [{"path": name, "size": size} for name, size in sizes.items()]
                self._say(200, json.dumps(files).encode())
            elif self.path == "/some/made/resolve/main/config.json":
                self._say(200, json.dumps(CONFIG).encode())
            elif "/blobs/" in self.path:
                self.send_response(307)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
            elif self.path == "/elsewhere":
                self._say(206, data[: int(self.headers["Range"].rpartition("-")[2]) + 1])
            else:
                self._say(404, b"{}")

        def _say(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "good.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.pem"))
    yield f"localhost:{server.server_port}", asked, len(data)
    server.shutdown()
    server.server_close()


def test_the_registry_is_asked_for_what_is_not_here(orch, recipe, site, registry):
    host, asked, size = registry
    path = recipe({"mem_gb": 16}, model=f"{host}/library/made:7b")
    code, out, err = orch("--fit", path, "--site", site(), "--json")
    assert code == 0, err
    (found,) = json.loads(out)["models"]
    assert found["source"] == f"the registry {host}"
    assert found["weights_bytes"] == size
    assert found["kv_cache_bytes"] == 16 * MIB
    assert json.loads(out)["fits"] is True
    assert asked[-1] == ("/elsewhere", "bytes=0-262143"), "not the whole of it"
    asked.clear()
    code, out, _ = orch(path, "--site", site(), "--dry-run")
    assert code == 0
    assert f"about {bytes_of(7 * 10**9, 'q4_k_m') / GIB:.1f} GiB weights of 16.0 GiB" in out
    assert asked == [], "a plan asks nobody"


@pytest.mark.parametrize("name", ["other:7b", "other"])
def test_where_the_registry_does_not_know_it_that_is_said(orch, recipe, site, registry, name):
    path = recipe({"mem_gb": 16}, model=f"{registry[0]}/library/{name}")
    code, out, _ = orch("--fit", path, "--site", site())
    assert code == 0
    assert "whether it fits is not known" in out
    assert "answers HTTP 404" in out
    assert ("about 3.9 GiB weights" in out) is (name == "other:7b")


def test_of_llama_cpp_the_registry_is_asked_too(orch, recipe, site, registry):
    """Though its job would have to be given a file that is here."""
    host, _, size = registry
    service = {"engine": "llama.cpp", "model": f"{host}/library/made:7b"}
    path = recipe({"mem_gb": 16}, **service)
    code, out, err = orch("--fit", path, "--site", site(), "--json")
    assert code == 0, err
    assert json.loads(out)["models"][0]["weights_bytes"] == size
    code, _, err = orch(path, "--site", site(), "--dry-run")
    assert (code, "is given a GGUF file" in err) == (2, True)
    path = recipe({"mem_gb": 16}, engine="llama.cpp", model=f"{host}/library/other")
    code, out, _ = orch("--fit", path, "--site", site())
    assert (code, "takes is not known before it is here, since https://" in out) == (0, True)
    path = recipe({"mem_gb": 16}, require_fit=True, engine="llama.cpp", model=f"{host}/library/o")
    code, _, err = orch("--fit", path, "--site", site())
    assert (code, "nobody can say whether it fits" in err) == (2, True)


def test_of_vllm_the_hub_is_asked(orch, recipe, site, registry, monkeypatch):
    host, asked, _ = registry
    monkeypatch.setenv("HF_ENDPOINT", f"https://{host}")
    gpus = {"partition": "gpu", "gpus": 1}
    service = {"engine": "vllm", "context_length": 8192, "num_parallel": 16}
    path = recipe(gpus, model="some/made", **service)
    code, out, err = orch("--fit", path, "--site", site(gpu_mem_gb=40), "--json")
    assert code == 0, err
    (model,) = json.loads(out)["models"]
    assert (model["weights_bytes"], model["kv_cache_bytes"]) == (3 * GIB, 16 * GIB)
    assert model["source"] == f"the hub https://{host}"
    code, out, _ = orch("--fit", recipe(gpus, model="some/other", **service), "--site", site())
    assert (code, "takes is not known before it is here" in out) == (0, True)
    assert not any(path.startswith("/v2/") for path, _ in asked)


def test_weights_that_alone_are_too_much_are_enough_to_say_no(orch, recipe, site):
    path = recipe({"mem_gb": 16}, model="llama3:70b")
    code, out, _ = orch(path, "--site", site(), "--dry-run")
    assert code == 0
    assert "about 39.4 GiB weights of 16.0 GiB: does not fit" in out


def test_a_folder_fits_by_its_config(orch, tmp_path, site):
    """Slots of 1 GiB beside 16 GiB of weights, on a GPU of 40 GiB of which vLLM leaves 8 % free."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(16 * GIB)
    path, found = tmp_path / "recipe.json", {}
    for slots in (16, 24):
        service = {"model": str(folder), "engine": "vllm", "context_length": 8192}
        job = {"service": {**service, "num_parallel": slots},
               "infrastructure": {"partition": "gpu", "gpus": 1}}  # fmt: skip
        path.write_text(json.dumps({"job": job}))
        code, out, err = orch("--fit", path, "--site", site(gpu_mem_gb=40), "--json")
        assert code == 0, err
        found[slots] = json.loads(out)
    assert {slots: figures["fits"] for slots, figures in found.items()} == {16: True, 24: False}
    (model,), costs = found[16]["models"], found[16]["costs"]
    assert (model["weights_bytes"], model["kv_cache_bytes"]) == (16 * GIB, 16 * GIB)
    assert costs["slot_bytes"] == GIB
    assert costs["kv_cache_type_bytes"] == {"f16": 0, "fp8": -8 * GIB}
    assert 16 <= costs["largest_num_parallel"] < 24
