"""Which cores and GPUs each of a node's replicas gets, on made-up trees of /sys."""

import os
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
LIBRARY = f". {LIB}/service.sh; . {LIB}/scheduler/slurm.sh; . {LIB}/threads.sh; . {LIB}/replicas.sh"
GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def bash(script, *arguments, **environment):
    """What a script says that has sourced the library, in no job of Slurm and with no GPUs."""
    named = {name: value for name, value in os.environ.items()
             if name not in GPUS and not name.startswith("SLURM_")}  # fmt: skip
    return subprocess.run(
        ["bash", "-uc", f"{LIBRARY}; SERVICE=ollama; finish() {{ :; }}; {script}", "-", *arguments],
        env={**named, **environment},
        capture_output=True,
        text=True,
    )


def system(folder, domains, cores, threads=1):
    """A /sys of so many NUMA domains, each with so many cores of so many hardware threads. The
    first thread of each core comes first, as Linux numbers them on most machines."""
    total = domains * cores
    for domain in range(domains):
        cpus = []
        for core in range(domain * cores, (domain + 1) * cores):
            siblings = [core + total * thread for thread in range(threads)]
            for cpu in siblings:
                topology = folder / "cpu" / f"cpu{cpu}" / "topology"
                topology.mkdir(parents=True)
                (topology / "thread_siblings_list").write_text(f"{','.join(map(str, siblings))}\n")
            cpus += siblings
        node = folder / "node" / f"node{domain}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(f"{','.join(map(str, sorted(cpus)))}\n")
    return folder


def shares(count, folder, allowed):
    done = bash('core_shares "$@"', str(count), str(folder), allowed)
    assert done.stderr == ""
    return done.stdout.split()


def cpus(share):
    ends = [tuple(map(int, part.split("-"))) for part in share.split(",")]
    return [cpu for end in ends for cpu in range(end[0], end[-1] + 1)]


@pytest.mark.parametrize(("count", "each"), [(2, 8), (4, 4), (8, 2), (16, 1)])
def test_replicas_share_two_sockets_by_whole_cores(tmp_path, count, each):
    found = shares(count, system(tmp_path, 2, 8, 2), "0-31")
    assert len(found) == count
    assert sorted(cpu for share in found for cpu in cpus(share)) == list(range(32)), "each once"
    for share in map(cpus, found):
        first = [cpu for cpu in share if cpu < 16]
        assert len(first) == each
        assert share == [*first, *(cpu + 16 for cpu in first)], "both threads of each core"
        assert len({cpu // 8 for cpu in first}) == 1, "one NUMA domain"


def test_three_replicas_on_two_sockets_stay_within_them(tmp_path):
    assert shares(3, system(tmp_path, 2, 8), "0-15") == ["0-3", "4-7", "8-15"]


def test_fewer_replicas_than_domains_share_all_cores(tmp_path):
    assert shares(2, system(tmp_path, 4, 2), "0-7") == ["0-3", "4-7"]


@pytest.mark.parametrize(
    ("count", "allowed", "expected"),
    [
        (2, "0,1,2,16,17,18", ["0,16", "1-2,17-18"]),  # three cores, as a cgroup leaves them
        (2, "3,19-21", ["3,19", "20-21"]),  # of two cores the second threads alone
        (2, "0-6,8", ["0-2", "3-6"]),  # a core of another domain helps nobody
        (1, "0-3,16-17,20-23", ["0-3,20-23,16-17"]),
        (2, "5", ["5", "5"]),  # fewer cores than replicas
        (3, "2,7", ["2", "7", "2"]),
    ],
)
def test_uneven_masks_are_shared_as_far_as_they_go(tmp_path, count, allowed, expected):
    assert shares(count, system(tmp_path, 2, 8, 2), allowed) == expected


def test_cpus_that_are_off_are_in_no_share(tmp_path):
    folder = system(tmp_path, 1, 4)
    (folder / "cpu" / "cpu2" / "topology" / "thread_siblings_list").unlink()
    assert shares(3, folder, "0-3") == ["0", "1", "3"]


def test_a_system_that_tells_nothing_gives_no_shares(tmp_path):
    assert shares(2, tmp_path, "0-3") == []


@pytest.mark.parametrize(
    ("bound", "granted", "outcome"), [(16, 16, "4 1"), (16, "", "4 1"), (16, 4, "0 4")]
)
def test_cores_that_are_others_too_are_nobodys_alone(bound, granted, outcome):
    """Where jobs are not held to their cores, each would take the same for itself."""
    given = f"bound_cores() {{ echo {bound}; }}; quota_cores() {{ :; }}; " \
        f"granted_cores() {{ echo '{granted}'; }}; core_shares() {{ seq $1; }}; "  # fmt: skip
    done = bash(given + 'share_cores 4; echo "${#CORE_SHARES[@]} $SHARERS"')
    assert done.stdout.splitlines()[-1] == outcome
    assert ("not bound to cores: this job has 4" in done.stdout) == (granted == 4)


def gpu_shares(count, each, vendor="nvidia", path="", **environment):
    script = 'share_gpus "$@"; printf "%s\n" ${GPU_SHARES[@]+"${GPU_SHARES[@]}"}'
    more = {"PATH": f"{path}:{os.environ['PATH']}"} if path else {}
    return bash(script, str(count), str(each), vendor, **more, **environment)


@pytest.mark.parametrize(
    ("vendor", "environment"),
    [
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}),
        ("nvidia", {"GPU_DEVICE_ORDINAL": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}),
        ("nvidia", {"SLURM_JOB_GPUS": "4,5,6,7"}),
        ("amd", {"ROCR_VISIBLE_DEVICES": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}),
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "ROCR_VISIBLE_DEVICES": "0,1,2,3"}),
    ],
)
def test_gpus_are_those_that_the_scheduler_says(vendor, environment):
    assert gpu_shares(2, 2, vendor, **environment).stdout.split() == ["4,5", "6,7"]
    assert gpu_shares(4, 1, vendor, **environment).stdout.split() == ["4", "5", "6", "7"]


def test_gpus_that_nobody_gave_out_are_the_drivers(tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("""#!/bin/sh
[ "$1" = -L ] || exit 9
echo 'GPU 0: NVIDIA H200 (UUID: GPU-00aa-1)'
echo 'GPU 1: NVIDIA H200 (UUID: GPU-00aa-2)'
""")
    smi.chmod(0o755)
    assert gpu_shares(2, 1, path=tmp_path).stdout.split() == ["GPU-00aa-1", "GPU-00aa-2"]


def test_amds_kernel_driver_knows_its_gpus(tmp_path):
    for number, identity in enumerate((0, 0, 5123, 771)):  # two CPUs, two GPUs
        node = tmp_path / "class" / "kfd" / "kfd" / "topology" / "nodes" / str(number)
        node.mkdir(parents=True)
        (node / "gpu_id").write_text(f"{identity}\n")
    assert bash(f"amd_gpus {tmp_path}").stdout.split() == ["0", "1"]
    assert bash(f"amd_gpus {tmp_path}/none").stdout.split() == []


def test_too_few_gpus_end_in_a_sentence():
    done = gpu_shares(4, 1, CUDA_VISIBLE_DEVICES="0,1")
    assert done.returncode == 1
    assert "4 replica(s) of 1 GPU(s) are to run on" in done.stderr
    assert "but the job has 2 there" in done.stderr


@pytest.mark.parametrize(
    ("vendor", "seen"),
    [
        ("nvidia", ["CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=3"]),
        ("amd", ["ROCR_VISIBLE_DEVICES=3"]),
    ],
)
def test_a_replica_sees_its_own_gpus_by_one_variable_and_in_the_drivers_order(vendor, seen):
    given = dict.fromkeys(GPUS, "0,1,2,3")
    done = bash('only_gpus "$@"', vendor, "3", "sh", "-c", "env | grep -E '^(CUDA|ROCR|HIP|GPU)_'",
                **given)  # fmt: skip
    assert sorted(done.stdout.split()) == seen
