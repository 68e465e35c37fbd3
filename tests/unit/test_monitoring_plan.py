"""Which parts of the monitoring a deployment gets, and what is said of the others."""

import pytest

from contracts.errors import UsageError
from hpc.planning.monitoring import OFF, PROGRAMS, plan_monitoring
from hpc.recipe.sections import Monitoring
from hpc.site import Site

ALL = frozenset(PROGRAMS)


def site(scheduler="slurm", **more):
    return Site(name="s", scheduler=scheduler, **more)


def boxes(**images):
    return site(runtime="apptainer", images=images)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Write programs of these names, the only ones on PATH."""

    def write(*names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return write


def test_programs_on_path_are_taken_under_their_authors_and_debians_names(programs):
    programs("prometheus", "prometheus-pushgateway", "node_exporter", "grafana-server")
    plan = plan_monitoring(Monitoring(), site(), wanted=True)
    assert plan.parts == ALL - {"dcgm_exporter"}
    assert plan.missing == ()


def test_each_missing_part_is_named_with_what_is_lost(programs):
    programs("prometheus")
    plan = plan_monitoring(Monitoring(), site(), wanted=True)
    assert plan.parts == {"prometheus"}
    assert plan.missing == (
        "there is no pushgateway or prometheus-pushgateway on PATH: the figures of benchmarks do "
        "not reach Prometheus",
        "there is no grafana or grafana-server on PATH: there are no dashboards; Prometheus has a "
        "page of its own",
        "there is no node_exporter or prometheus-node-exporter on PATH: CPU and memory of the "
        "nodes are not measured",
    )


def test_without_prometheus_nothing_is_started_and_one_sentence_says_so(programs):
    programs("grafana", "node_exporter")
    plan = plan_monitoring(Monitoring(), site(), wanted=True)
    assert not plan.on and plan.parts == frozenset()
    assert plan.missing == (
        "there is no prometheus on PATH: nothing is measured beside the benchmark",
    )
    assert plan.targets(nodes=4, gpus=1) == 0


def test_what_is_required_and_cannot_be_had_is_an_error(programs):
    programs("prometheus", "grafana", "node_exporter")
    with pytest.raises(UsageError, match="requires the monitoring") as error:
        plan_monitoring(Monitoring(required=True), site(), wanted=True)
    assert "no pushgateway" in error.value.details[0]
    programs("pushgateway")
    assert plan_monitoring(Monitoring(required=True), site(), wanted=True).on


def test_images_of_a_registry_are_there_until_the_contrary_is_seen(tmp_path):
    assert plan_monitoring(Monitoring(), boxes(), wanted=True).parts == ALL
    image = tmp_path / "p.sif"
    image.write_text("")
    plan = plan_monitoring(
        Monitoring(), boxes(prometheus=str(image), grafana="/nowhere/g.sif", pushgateway=None), True
    )
    assert plan.parts == ALL - {"grafana", "pushgateway"}
    assert plan.missing[0].startswith("the site profile names no image for it (images.pushgateway)")
    assert plan.missing[1].startswith("the image /nowhere/g.sif (images.grafana) cannot be read")


def test_modules_may_bring_any_program(programs):
    programs()
    assert plan_monitoring(Monitoring(), site(modules=["Prometheus"]), wanted=True).parts == ALL


@pytest.mark.parametrize(
    ("asked", "wanted"), [(Monitoring(enabled=False), True), (Monitoring(), False)]
)
def test_it_is_off_by_the_recipe_or_the_command_line(asked, wanted):
    assert plan_monitoring(asked, boxes(), wanted) == OFF


def test_there_is_one_node_exporter_on_each_node():
    plan = plan_monitoring(Monitoring(), boxes(), wanted=True)
    # node exporters of 2 replicas, client and monitoring; Ollama's and the GPUs' of 2 replicas;
    # client, Prometheus, Pushgateway
    assert plan.targets(nodes=2, gpus=4) == 4 + 2 + 2 + 3
    assert plan.targets(nodes=2, gpus=0) == 4 + 2 + 3
    here = plan_monitoring(Monitoring(), site("local", modules=["x"]), wanted=True)
    assert here.targets(nodes=2, gpus=0) == 1 + 2 + 3
    assert [job for job in ("ollama", "client", "monitoring") if "node_exporter" in
            here.parts_in(job)] == ["client"]  # fmt: skip
