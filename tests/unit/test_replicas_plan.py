"""How many replicas a node has: a number or one for each GPU, and sentences if that cannot be."""

import pytest

from contracts.errors import UsageError
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.site import Site


def plan_for(data, scheduler="slurm", at_site=None, **infrastructure):
    data["job"]["infrastructure"].update(infrastructure)
    site = Site(name="s", scheduler=scheduler, gpu_partitions=["gpu"], replicas_per_node=at_site)
    return make_plan(parse_recipe(data), site)


def said(plan, name):
    return next(((s.value, s.source) for s in plan.settings if s.name == name), None)


def test_one_replica_a_node_is_the_default(recipe_data):
    plan = plan_for(recipe_data, gpus=4, nodes=3)
    assert (plan.replicas_per_node, plan.replicas) == (1, 3)
    assert said(plan, "replicas_per_node") == (1, "default")
    assert said(plan, "each_replica") is None


@pytest.mark.parametrize(
    ("site", "recipe", "gpus", "count", "source"),
    [
        (None, "per_gpu", 4, 4, "recipe: one for each GPU"),
        (None, 2, 4, 2, "recipe"),
        ("per_gpu", None, 4, 4, "site: one for each GPU"),
        ("per_gpu", None, 0, 1, "default"),
        ("per_gpu", 1, 4, 1, "recipe"),
        (2, None, 0, 2, "site"),
        (None, 3, 0, 3, "recipe"),
    ],
)
def test_replicas_of_a_node_are_planned_and_said(recipe_data, site, recipe, gpus, count, source):
    plan = plan_for(recipe_data, at_site=site, gpus=gpus, nodes=2, cpus=8,
                    **({"replicas_per_node": recipe} if recipe else {}))  # fmt: skip
    assert (plan.replicas_per_node, plan.replicas) == (count, 2 * count)
    assert said(plan, "replicas_per_node") == (count, source)
    assert plan.engine.resources.nodes == 2, "as many nodes as before"


def test_the_share_of_each_replica_is_said(recipe_data):
    plan = plan_for(recipe_data, replicas_per_node="per_gpu", gpus=4, cpus=10, mem_gb=10)
    assert said(plan, "each_replica")[0] == "1 GPU(s), 2 to 3 core(s), 2.5 GiB"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"replicas_per_node": 3, "gpus": 4}, "4 GPU(s) per node cannot be shared out equally"),
        ({"replicas_per_node": "per_gpu", "gpus": 0}, "but no GPUs are asked for"),
        ({"replicas_per_node": 4, "gpus": 0, "cpus": 2}, "2 core(s) per node are not one for each"),
    ],
)
def test_a_node_that_cannot_be_shared_is_a_sentence(recipe_data, asked, sentence):
    recipe_data["job"]["infrastructure"].update(asked)
    with pytest.raises(UsageError) as caught:
        plan_for(recipe_data)
    assert sentence in caught.value.message
    assert str(asked["replicas_per_node"]) in caught.value.message


@pytest.mark.parametrize("value", [0, -1, "4", True, 1.5, "per_node", [2]])
def test_replicas_per_node_is_a_number_or_per_gpu(recipe_data, value):
    recipe_data["job"]["infrastructure"]["replicas_per_node"] = value
    with pytest.raises(UsageError) as caught:
        parse_recipe(recipe_data)
    assert 'must be a whole number of 1 or more, or "per_gpu"' in caught.value.details[0]


def test_this_machine_shares_what_it_has(recipe_data):
    plan = plan_for(recipe_data, scheduler="local", replicas_per_node=2, gpus=0)
    assert plan.replicas == 2
    assert said(plan, "each_replica")[0] == "as many cores as any other"


def test_the_plan_says_who_sits_on_which_cores(recipe_data):
    plan = plan_for(recipe_data, gpus=4, cpus=10, replicas_per_node=2)
    assert said(plan, "cores_of_replicas")[0] == "the 10 of its job on each node, each its own"
    cores = plan.client.resources.cores
    assert said(plan, "cores_of_load")[0] == f"the {cores} of the client's job"
    assert said(plan, "cores_of_exporters")[0] == "the replicas'"


def test_on_this_machine_they_share_them_and_that_is_said(recipe_data):
    plan = plan_for(recipe_data, scheduler="local", gpus=0)
    assert said(plan, "cores_of_replicas")[0] == "all of this machine"
    assert said(plan, "cores_of_load")[0] == "the replicas'"
    assert "shares them" in said(plan, "cores_of_load")[1]


def test_prometheus_looks_for_each_replica_and_for_each_node_once(recipe_data):
    one = plan_for(recipe_data, gpus=4, nodes=2, replicas_per_node=1)
    four = plan_for(recipe_data, gpus=4, nodes=2, replicas_per_node=4)
    before, after = (said(plan, "monitoring_targets")[0] for plan in (one, four))
    assert after - before == (6 if one.monitoring.on else 0)
