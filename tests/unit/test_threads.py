"""How many threads Ollama takes: cores of a replica, by affinity, quotas, Slurm and the recipe; and
the view of the models in which they are said."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
LIBRARY = f". {LIB}/service.sh; . {LIB}/scheduler/slurm.sh; . {LIB}/threads.sh"
CORES = len(os.sched_getaffinity(0))


def bash(script, *arguments, cores=None, **environment):
    """What a script says that has sourced the library, on some cores, in no job of Slurm."""
    names = {name: os.environ[name] for name in os.environ if not name.startswith("SLURM_")}
    # No code of ours in a fork of this process, which has threads of many libraries.
    bound = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
    done = subprocess.run(
        [
            *bound,
            "bash",
            "-uc",
            f"{LIBRARY}; {script}",
            "-",
            *arguments,
        ],
        env={**names, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def count(asked="", replicas=1, no_quota=True, **how):
    more = "quota_cores() { :; }; bound_cores() { echo 12; }; " if no_quota else ""
    return bash(f"{more}thread_count {asked or repr(asked)} {replicas}", **how)


def test_affinity_bounds_the_threads():
    one = min(os.sched_getaffinity(0))
    assert bash("bound_cores", cores={one}) == "1"


def test_variables_of_openmp_say_nothing_about_cores(tmp_path):
    said = bash(f"bound_cores {tmp_path}", OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1")
    assert said == str(CORES)


def test_two_hardware_threads_of_a_core_are_one(tmp_path):
    for cpu in os.sched_getaffinity(0):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text("0-1\n")
    assert bash(f"bound_cores {tmp_path}") == "1"


@pytest.mark.parametrize(
    ("asked", "replicas", "slurm", "threads"),
    [
        ("", 1, {}, "12"),
        ("", 5, {}, "2"),
        ("", 13, {}, "1"),
        ("7", 3, {"SLURM_CPUS_PER_TASK": "2"}, "7"),
        ("", 1, {"SLURM_CPUS_PER_TASK": "4"}, "4"),
        ("", 1, {"SLURM_CPUS_PER_TASK": "64"}, "12"),
        ("", 1, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "6"}, "6"),
        ("", 1, {"SLURM_CPUS_PER_TASK": "nonsense"}, "12"),
    ],
)
def test_the_least_of_what_is_given_is_divided(asked, replicas, slurm, threads):
    assert count(asked, replicas, **slurm) == threads


@pytest.fixture
def groups(tmp_path):
    """Makes control groups: {path of a file: its text}, and the membership of a process."""

    def make(membership, **files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text + "\n")
        (tmp_path / "membership").write_text(membership + "\n")
        return bash(f"quota_cores {tmp_path} {tmp_path}/membership")

    return make


V2 = "0::/a/b"
V1 = "5:cpuset:/x\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n0::/x"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        (V2, {}, ""),
        (V2, {"a/b/cpu.max": "max 100000"}, ""),
        (V2, {"a/b/cpu.max": "350000 100000"}, "3"),
        (V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, "2"),
        (V2, {"a/b/cpu.max": "200000 100000", "a/cpu.max": "1000000 100000"}, "2"),
        (V2, {"a/b/cpu.max": "50000 100000"}, "1"),
        (V2, {"cpu.max": "400000 100000"}, "4"),  # seen from within a container
        ("0::/", {"cpu.max": "400000 100000"}, "4"),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, ""),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "90000", "cpu/a/b/cpu.cfs_period_us": "30000"}, "3"),
        (V1, {"cpu,cpuacct/a/cpu.cfs_quota_us": "70000",
              "cpu,cpuacct/a/cpu.cfs_period_us": "30000"}, "2"),
        (V1, {"unified/x/cpu.max": "200000 100000"}, "2"),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(groups, membership, files, cores):
    assert groups(membership, **files) == cores


# --- the view ------------------------------------------------------------------------------------

PARAMS = "application/vnd.ollama.image.params"


class Models:
    """A folder of models as Ollama keeps it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "blobs").mkdir()

    def blob(self, content, kind):
        data = content if isinstance(content, bytes) else content.encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def add(self, name, *layers, indent=None):
        path = self.folder / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        config = self.blob(f"config of {name}", "application/vnd.docker.container.image.v1+json")
        manifest = {"schemaVersion": 2, "config": config, "layers": list(layers)}
        path.write_text(json.dumps(manifest, indent=indent))
        return path

    def show(self, threads=3, job="7"):
        script = (
            "MODELS=$1 JOB_ID=$2 NUM_THREAD=$3; begin_view; show_own_models; "
            'cd "$VIEW/manifests" && find . -type f'
        )
        return bash(script, str(self.folder), job, str(threads)).splitlines()

    def parameters(self, name, job="7"):
        """Those that the view of a job shows."""
        view = self.folder / f".view.{job}"
        layers = json.loads((view / "manifests" / name).read_text())["layers"]
        (layer,) = [layer for layer in layers if layer["mediaType"] == PARAMS]
        data = (view / "blobs" / layer["digest"].replace(":", "-")).read_bytes()
        assert layer["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert layer["size"] == len(data)
        return json.loads(data)

    def files(self):
        """What is in the folder itself."""
        paths = [*self.folder.glob("manifests/**/*"), *self.folder.glob("blobs/*")]
        return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "a 'place' with $odd & names"
    folder.mkdir()
    return Models(folder)


NAME = "registry.ollama.ai/library/some/1b"
WEIGHTS = "application/vnd.ollama.image.model"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ({"stop": ["}", "</s>", "]}é&\\"]}, {"stop": ["}", "</s>", "]}é&\\"], "num_thread": 3}),
        ({"num_thread": 64, "top_k": 1}, {"num_thread": 3, "top_k": 1}),
        ({}, {"num_thread": 3}),
        (None, {"num_thread": 3}),
    ],
)
def test_view_adds_the_number_to_what_a_model_has(models, own, shown, indent):
    layers = [models.blob("weights", WEIGHTS)]
    if own is not None:
        layers.append(models.blob(json.dumps(own, ensure_ascii=False, indent=indent), PARAMS))
    models.add(NAME, *layers, indent=indent)
    before = models.files()
    assert models.show() == [f"./{NAME}"]
    assert models.parameters(NAME) == shown
    assert models.files() == before, "the folder that others share is as it was"


@pytest.mark.parametrize("own", [{"stop": ["x"], "top_k": 9}, {}, None])
def test_view_shows_what_the_recipe_says_of_loading_and_sampling(models, own):
    layers = [models.blob("weights", WEIGHTS)]
    if own is not None:
        layers.append(models.blob(json.dumps(own), PARAMS))
    models.add(NAME, *layers)
    asked = {"use_mmap": False, "num_gpu": 0, "stop": ["}", 'é\\"&']}
    script = "MODELS=$1 JOB_ID=7 NUM_THREAD=3 PARAMETERS=$2; begin_view; show_own_models"
    bash(script, str(models.folder), json.dumps(asked)[1:-1])
    assert models.parameters(NAME) == {**(own or {}), "num_thread": 3, **asked}


def test_views_of_two_jobs_do_not_disturb_each_other(models):
    models.add(NAME, models.blob("weights", WEIGHTS))
    # A folder of a job that is over does not disturb the next of that id.
    for job, threads in (("7", 3), ("8.1", 5), ("7", 4)):
        script = "MODELS=$1 JOB_ID=$2 NUM_THREAD=$3; begin_view; show_own_models"
        bash(script, str(models.folder), job, str(threads))
    assert models.parameters(NAME, "7") == {"num_thread": 4}
    assert models.parameters(NAME, "8.1") == {"num_thread": 5}


def test_same_model_with_as_many_threads_is_the_same_to_ollama(models):
    models.add(NAME, models.blob("weights", WEIGHTS))
    for job in ("7", "8"):
        models.show(job=job)
    first, second = (models.folder / f".view.{job}" / "manifests" / NAME for job in ("7", "8"))
    assert first.read_bytes() == second.read_bytes()


def test_model_that_is_not_whole_is_not_shown(models):
    """Its blob is being fetched, or somebody has deleted it."""
    layer = models.blob("weights", WEIGHTS)
    models.add(NAME, layer)
    models.add("hf.co/some/other/latest", models.blob("others", WEIGHTS))
    (models.folder / "blobs" / layer["digest"].replace(":", "-")).unlink()
    assert models.show() == ["./hf.co/some/other/latest"]


def test_model_without_layers_is_shown_as_it_is(models):
    path = models.add(NAME)
    assert models.show() == [f"./{NAME}"]
    shown = models.folder / ".view.7" / "manifests" / NAME
    assert json.loads(shown.read_text()) == json.loads(path.read_text())


def test_no_models_yet(models):
    assert models.show() == []
    assert (models.folder / ".view.7" / "blobs").is_dir()


def test_what_is_deleted_in_a_view_stays_for_others(models):
    models.add(NAME, models.blob("weights", WEIGHTS))
    before = models.files()
    models.show()
    for path in [
        *models.folder.glob(".view.7/blobs/*"),
        models.folder / ".view.7/manifests" / NAME,
    ]:
        path.unlink()
    assert models.files() == before
