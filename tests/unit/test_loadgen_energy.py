"""The energy of a run: each GPU counts once, and where it cannot be known there is no figure."""

import pytest

from contracts.summary import ReplicaShare
from loadgen.load.energy import counters_in, places_in, used_between
from loadgen.measure.energy_shares import with_energy
from loadgen.measurements import Energy

NAME = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"


def line(value, **labels):
    return NAME + "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + f"}} {value}\n"


def gpus(*pairs):
    """An exporter's counters, of lines of (UUID, millijoules)."""
    return counters_in("".join(line(value, gpu="0", UUID=uuid) for uuid, value in pairs), "n1:9400")


def test_the_instances_of_a_gpu_in_mig_mode_have_one_counter():
    text = "# HELP x y\n# TYPE x counter\n" + "".join(
        line(1000, gpu="0", UUID="GPU-1", GPU_I_ID=number, Hostname="n1") for number in (3, 4, 5, 6)
    )
    assert counters_in(text, "n1:9400") == {"GPU-1": 1000}


@pytest.mark.parametrize("label", ["UUID", "uuid", "gpu_uuid"])
def test_exporters_have_a_gpus_identity_under_several_labels(label):
    assert counters_in(line(5, gpu="0", **{label: "GPU-1"}), "h:1") == {"GPU-1": 5}


def test_an_instances_own_identity_names_its_gpu_where_it_can():
    old = line(5, gpu="0", UUID="MIG-GPU-1/7/0") + line(5, gpu="0", UUID="MIG-GPU-1/8/0")
    assert counters_in(old, "h:1") == {"GPU-1": 5}
    new = line(5, gpu="0", UUID="MIG-a", Hostname="n") + line(
        5, gpu="0", UUID="MIG-b", Hostname="n"
    )
    assert counters_in(new, "h:1") == {"GPU 0 of n": 5}


def test_without_an_identity_a_gpu_is_its_place_in_its_host():
    text = line(5, gpu="0", Hostname="n") + line(6, gpu="1", Hostname="n") + line(7, gpu="0")
    assert set(counters_in(text, "h:1")) == {"GPU 0 of n", "GPU 1 of n", "GPU 0 of h:1"}


def test_labels_and_values_are_read_as_prometheus_has_them():
    odd = line("1.5e+03", gpu="0", UUID="GPU-1", modelName='a } b, \\"c\\" \\n')
    other = line(1, UUID="x").replace(NAME, f"{NAME}_total")
    assert counters_in(odd + other + line("NaN", UUID="GPU-2"), "h:1") == {"GPU-1": 1500}
    assert counters_in(line(7, UUID="GPU-1").strip() + " 1700000000000\n", "h") == {"GPU-1": 7}


def test_a_gpu_that_two_exporters_see_counts_once():
    """One counts from the driver's begin, the other from its own."""
    before = {"a": gpus(("GPU-1", 9_000_000)), "b": gpus(("GPU-1", 0), ("GPU-2", 10))}
    after = {"a": gpus(("GPU-1", 9_050_000)), "b": gpus(("GPU-1", 50_000), ("GPU-2", 30_010))}
    energy = used_between(before, after, "DCGM")
    assert energy.joules == 80 and "all 2 GPUs" in energy.source


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([("GPU-1", 5000)], [("GPU-1", 10)], "GPU-1 at a began anew in the run"),
        ([("GPU-1", 1), ("GPU-2", 1)], [("GPU-1", 2)], "GPU-2 at a is not there after the run"),
        ([("GPU-1", 1)], [("GPU-1", 2), ("GPU-2", 9)], "GPU-2 at a is not there before the run"),
        ([("GPU-1", 5)], [("GPU-1", 5)], "GPU-1 at a did not move in the run"),
        ([("GPU-1", 5)], [], "a has no energy counter of DCGM's"),
    ],
)
def test_a_counter_that_says_nothing_makes_no_figure(before, after, words):
    energy = used_between({"a": gpus(*before)}, {"a": gpus(*after)}, "DCGM")
    assert energy.joules is None and words in energy.why


def test_another_exporter_helps_where_one_has_lost_a_gpu():
    before = {"a": gpus(("GPU-1", 5000)), "b": gpus(("GPU-1", 0))}
    after = {"a": gpus(("GPU-1", 10)), "b": gpus(("GPU-1", 7000))}
    assert used_between(before, after, "DCGM").joules == 7


# --- of each replica ---


def replicas(*gpus):
    """What a record says of replicas on a host, and what they did: 100, 200, … tokens."""
    record = {
        "replicas": [
            {"url": f"http://h:{n}", "node": "gpu1.cluster", "cpus": "", "gpus": of_it}
            for n, of_it in enumerate(gpus, start=1)
        ]
    }
    shares = [
        ReplicaShare(f"http://h:{n}", n, n, 0, 0, output_tokens=100 * n)
        for n in range(1, len(gpus) + 1)
    ]
    return shares, record


MEASURED = Energy(
    joules=600.0,
    joules_by_gpu={"GPU-a": 100.0, "GPU-b": 200.0, "GPU-c": 300.0},
    gpus_at={("gpu1", "0"): "GPU-a", ("gpu1", "1"): "GPU-b", ("gpu1", "2"): "GPU-c"},
    seconds=10.0,
)


def shared_out(*gpus, energy=MEASURED):
    shares, record = replicas(*gpus)
    return [share.energy for share in with_energy(shares, energy, record)]


def test_each_replica_has_the_energy_of_its_own_gpus():
    first, second = shared_out("1", "0,2")
    assert (first.joules, first.watts, first.joules_per_output_token) == (200, 20, 2)
    assert (second.joules, second.watts, second.joules_per_output_token) == (400, 40, 2)
    assert first.joules_by_gpu == {"GPU-b": 200}
    assert second.joules_by_gpu == {"GPU-a": 100, "GPU-c": 300}


def test_gpus_that_the_driver_has_shared_out_are_known_by_their_uuids():
    first, second = shared_out("GPU-a", "GPU-b")
    assert (first.joules, second.joules) == (100, 200)


@pytest.mark.parametrize("gpus", [("7", "0"), ("MIG-1", "0"), ("", "0"), ("1,7", "0")])
def test_a_gpu_that_nobody_measures_makes_no_figure(gpus):
    first, second = shared_out(*gpus)
    assert first is None and second.joules == 100


def test_a_gpu_that_two_have_is_neithers():
    assert shared_out("0", "0,1") == [None, None]


def test_without_a_record_or_energy_no_replica_has_any():
    shares, _ = replicas("0", "1")
    assert with_energy(shares, MEASURED, None) == shares
    assert with_energy(shares, MEASURED, {"replicas": "odd"}) == shares
    assert shared_out("0", "1", energy=Energy(why="no counter")) == [None, None]


def test_an_exporter_says_which_gpu_has_a_number_on_its_host():
    text = line(5, gpu="0", UUID="GPU-1", Hostname="n") + line(6, gpu="1", UUID="GPU-2")
    text += line(7, gpu="2", UUID="GPU-3", Hostname="n", GPU_I_ID="1")  # a part of it
    assert places_in(text) == {("n", "0"): "GPU-1"}
