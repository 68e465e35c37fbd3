"""AMD's GPUs: their exporter, by a stand-in for amd-smi, and what a site says of vendors."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from events import PATIENCE_S
from prometheus_client import CollectorRegistry, generate_latest
from standin_amd_smi import INSTINCT, QUIET, AmdSmi, value

import ollamaService
from contracts.errors import UsageError
from engines.gpus import amd
from engines.gpus.amd import number_of
from engines.gpus.described import ENERGY, NoGpus
from exporters.gpu import GpuCollector
from hpc.deployment import Deployment
from hpc.endpoints import OutputDir
from hpc.planning.monitoring import plan_monitoring
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.recipe.sections import Monitoring
from hpc.scheduler.interface import Partition
from hpc.site import Site
from loadgen.load.energy import counters_in, places_in, used_between

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    "GPU_UTIL": 37, "MEM_COPY_UTIL": 11, "FB_USED": 283, "FB_FREE": 196309, "POWER_USAGE": 140,
    "GPU_TEMP": 41, "SM_CLOCK": 1980, "MEM_CLOCK": 900, "TOTAL_ENERGY_CONSUMPTION": 1_234_500,
}  # fmt: skip


@pytest.fixture
def smi(tmp_path, monkeypatch):
    found = AmdSmi(tmp_path)
    monkeypatch.setenv("PATH", found.environment["PATH"])
    return found


def text_of(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def figures(text, index):
    """The figures of the GPU of a number, by name."""
    found = re.findall(rf'^DCGM_FI_DEV_(\w+){{.*,gpu="{index}",.*}} (\S+)$', text, re.MULTILINE)
    return {name: float(number) for name, number in found}


@pytest.mark.parametrize("wrapped", [False, True], ids=["a list", "gpu_data"])
def test_its_figures_have_the_names_and_labels_of_nvidias(smi, wrapped):
    smi.says(INSTINCT, INSTINCT, wrapped=wrapped)
    text = text_of(GpuCollector("amd"))
    assert figures(text, 0) == figures(text, 1) == FIGURES
    labels = (
        'UUID="1bff74a1-0000-1000-80d1-3c23a9580558",device="amd1",gpu="1",modelName="AMD MI301X"'
    )
    assert f"{labels}}} 1.2345e+06" in text
    assert smi.asked() == ["list --json", "static --asic --json", "metric --json"]


def test_what_a_gpu_does_not_tell_is_left_out(smi):
    smi.says(QUIET, {})
    text = text_of(GpuCollector("amd"))
    assert figures(text, 0) == {"FB_USED": 368, "FB_FREE": 16000, "GPU_TEMP": 30}
    assert figures(text, 1) == {}


@pytest.mark.parametrize(
    ("told", "unit", "number"),
    [
        (value(35, "W"), "W", 35),
        (value(35.5, "\N{DEGREE SIGN}C"), "C", 35.5),
        (35, "W", 35),
        ("35 W", "W", 35),
        ("35", "W", 35),
        (value(35, "kJ"), "J", None),
        (value("N/A", "W"), "W", None),
        ("N/A", "W", None),
        ("", "W", None),
        (value("nan", "W"), "W", None),
        (None, "W", None),
        ([35], "W", None),
    ],
)
def test_values_are_read_as_releases_write_them(told, unit, number):
    assert number_of(told, unit) == number


def test_gpus_have_the_numbers_that_rocr_gives_them(smi):
    """amd-smi counts by the bus, ROCr by KFD's nodes, which need not be the same order."""
    smi.says(*({**INSTINCT, "power": {"socket_power": watts}} for watts in (100, 200, 300)),
             nodes=(4, 2, 3))  # fmt: skip
    text = text_of(GpuCollector("amd"))
    assert [figures(text, index)["POWER_USAGE"] for index in range(3)] == [200, 300, 100]


def test_a_gpu_that_the_job_may_not_open_is_none_of_its(smi, tmp_path):
    """As in a container, which has the links to all devices, and its own devices alone."""
    smi.says(INSTINCT, INSTINCT)
    (tmp_path / "pci-0000:00:00.0-render").symlink_to(tmp_path / "renderD128")
    found = amd.AmdSmi(tmp_path).gpus()
    assert [(gpu.index, gpu.uuid[0]) for gpu in found] == [(0, "1")]


def test_a_run_reads_their_energy_as_of_any_other_gpu(smi):
    smi.says(INSTINCT)
    collector = GpuCollector("amd")
    before = text_of(collector)
    smi.says({**INSTINCT, "energy": {"total_energy_consumption": value(1334.5, "J")}})
    after = text_of(collector)
    used = used_between(*({"n": counters_in(text, "n")} for text in (before, after)), "DCGM")
    assert used.joules == pytest.approx(100)
    assert [number for _, number in places_in(after)] == ["0"]
    assert ENERGY in after


def test_a_silence_is_said_once_and_ends(smi):
    smi.says(INSTINCT)
    collector = GpuCollector("amd")
    smi.fails("the driver is gone")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert figures(text_of(collector), 0) == figures(text_of(collector), 0) == {}
    assert said.getvalue() == (
        "exporters: the GPUs have no figures until that works: amd-smi metric ended with exit code "
        "1: the driver is gone.\n"
    )
    smi.works()
    assert figures(text_of(collector), 0) == FIGURES


def test_one_that_hangs_is_ended(smi, tmp_path, monkeypatch):
    smi.says(INSTINCT)
    known = amd.AmdSmi()
    (tmp_path / "hangs").touch()
    monkeypatch.setattr(amd._asked, "__kwdefaults__", {"seconds": 0.2})
    with pytest.raises(NoGpus, match=re.escape("amd-smi metric has not answered within 0.2 s")):
        known.gpus()


@pytest.mark.parametrize("answer", ["WARNING", "{}", "7"])
def test_an_answer_that_is_none_is_a_sentence(smi, tmp_path, answer):
    (tmp_path / "list").write_text(answer)
    with pytest.raises(NoGpus, match="amd-smi list --json answers with"):
        amd.AmdSmi()


def test_without_amd_smi_the_process_says_what_to_do(tmp_path):
    command = [sys.executable, "-m", "exporters", "--gpu-listen", "127.0.0.1:0", "--gpu-vendor"]
    done = subprocess.run([*command, "amd"], cwd=ROOT, env={**os.environ, "PATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "exporters: there is nothing to tell about GPUs (there is no amd-smi, ROCm's own program, "
        "on PATH or in /opt/rocm/bin); leave out --gpu-listen, or load or install ROCm, as a "
        "member of the groups video and render.\n"
    )


# --- what a site says of them ---


def plan_for(data, vendor, scheduler="slurm", partitions=(), **infrastructure):
    data["job"]["infrastructure"].update(infrastructure)
    site = Site(name="s", scheduler=scheduler, gpu_vendor=vendor)
    return make_plan(parse_recipe(data), site, partitions)


@pytest.mark.parametrize("scheduler", ["slurm", "local"])
def test_gpus_are_refused_where_there_are_none(recipe_data, scheduler):
    with pytest.raises(UsageError) as caught:
        plan_for(recipe_data, "none", scheduler, gpus=2)
    assert caught.value.message == (
        "job.infrastructure.gpus is 2, but there are no GPUs at the site s (its gpu_vendor is "
        '"none"): ask for 0, or name the vendor there.'
    )


def test_where_there_are_none_none_is_asked_for(recipe_data):
    """Whatever the scheduler says of its partitions."""
    del recipe_data["job"]["infrastructure"]["partition"]
    partitions = [Partition("accel", has_gpus=True)]
    assert plan_for(recipe_data, "amd", partitions=partitions).gpus == 1
    plan = plan_for(recipe_data, "none", partitions=partitions)
    assert (plan.gpus, plan.engine.resources.gpus, plan.engine.resources.partition) == (0, 0, None)


def test_no_exporter_of_nvidias_is_fetched_for_amds():
    parts = {
        vendor: plan_monitoring(
            Monitoring(),
            Site(name="s", scheduler="slurm", runtime="apptainer", gpu_vendor=vendor),
            wanted=True,
        ).parts
        for vendor in ("nvidia", "amd")
    }
    assert parts["nvidia"] - parts["amd"] == {"dcgm_exporter"}


def test_gpus_of_amd_are_watched_as_nvidias_are(recipe_data):
    def targets(vendor):
        plan = plan_for(recipe_data, vendor, gpus=2)
        return next(s.value for s in plan.settings if s.name == "monitoring_targets")

    assert targets("amd") == targets("nvidia")


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_a_job_asks_its_own_vendors_gpus(recipe_data, tmp_path, vendor):
    output = OutputDir(tmp_path)
    output.prepare()
    recipe_data["job"]["infrastructure"]["gpus"] = 1
    site = Site(name="s", scheduler="slurm", gpu_vendor=vendor, modules=["ROCm"])
    plan = make_plan(parse_recipe(recipe_data), site)
    ollamaService.setup_ollama(Deployment("test", plan, output))
    (script,) = (tmp_path / "scripts").glob("*ollama*")
    text = script.read_text()
    assert f"--gpu-vendor {vendor}" in text
    assert ("start_dcgm" in text) == (vendor == "nvidia")
