"""What a deployment's record says of where it runs, for the report."""

import json
import subprocess
from pathlib import Path

import pytest

from client.benchmarks import place_of

LIBRARY = Path(__file__).resolve().parents[2] / "lib" / "service.sh"
NVIDIA_SMI = """#!/bin/sh
# Stands in for nvidia-smi on a node with two GPUs of a kind.
echo "NVIDIA A100-SXM4-40GB, 550.54.15"
echo "NVIDIA A100-SXM4-40GB, 550.54.15"
"""


def note_gpus(output, path):
    script = f". {LIBRARY}; JOB_ID=7 OUTPUT={output.path} SERVICE=ollama; note_gpus"
    subprocess.run(["bash", "-uc", script], check=True, env={"PATH": f"{path}:/usr/bin:/bin"})


def test_gpus_and_driver_are_noted_by_the_job(output, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(NVIDIA_SMI)
    smi.chmod(0o755)
    note_gpus(output, tmp_path)
    assert output.gpus("7") == {
        "gpu_names": ["NVIDIA A100-SXM4-40GB"],
        "driver_versions": ["550.54.15"],
    }
    assert output.gpus("77")["gpu_names"] == []


def test_amds_gpus_are_noted_by_amd_smi(output, tmp_path):
    """As it answers since 26.0, and before."""
    asic = {"market_name": "AMD Instinct MI300X", "target_graphics_version": "gfx942"}
    driver = {"name": "amdgpu", "version": "6.19.14"}
    gpus = [{"gpu": number, "asic": asic, "driver": driver} for number in range(2)]
    smi = tmp_path / "amd-smi"
    for answer in (json.dumps({"gpu_data": gpus}, indent=4), json.dumps(gpus)):
        smi.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        smi.chmod(0o755)
        note_gpus(output, tmp_path)
        assert output.gpus("7") == {
            "gpu_names": ["AMD Instinct MI300X"],
            "driver_versions": ["6.19.14"],
        }
        (output.path / "logs" / "7.gpus").unlink()


def test_without_nvidia_smi_nothing_is_noted(output, tmp_path):
    note_gpus(output, tmp_path)
    assert output.gpus("7") == {"gpu_names": [], "driver_versions": []}


def test_the_host_of_a_job_is_where_its_script_began(output):
    assert output.host("7") is None
    (output.path / "logs" / "7.started").write_text("gpu1\n")
    assert output.host("7") == "gpu1"


@pytest.mark.parametrize(
    ("gpus", "allow_cpu", "place"), [(1, False, "gpu"), (1, True, None), (0, False, None)]
)
def test_where_gpus_are_asked_for_the_model_is_to_sit_there(tmp_path, gpus, allow_cpu, place):
    record = {"gpus": gpus, "recipe": {"job": {"service": {"allow_cpu": allow_cpu}}}}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert place_of(path) == place


def test_a_file_that_is_no_record_says_nothing_of_places(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("[]")
    assert place_of(path) is None
