"""Recipe and site put together: what is asked of the scheduler, and who decided it."""

import math

import pytest
from programs import munge_is

from contracts.errors import UsageError
from hpc.planning.parts import client_cpus
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.scheduler.interface import Partition
from hpc.scheduler.slurm.directives import options
from hpc.site import Site, load_site

TWO_PARTITIONS = [
    Partition("batch", default=True, has_nodes_without_gpus=True, cpus_per_node=64),
    Partition("accel", has_gpus=True, cpus_per_node=4),
]


def directives(job):
    return dict(options(job.resources))


def plan_for(data, site="slurm", partitions=()):
    return make_plan(parse_recipe(data), load_site(site), partitions)


def setting(plan, name):
    return next(s for s in plan.settings if s.name == name)


def test_meluxina_asks_as_that_cluster_wants_it(recipe_data):
    plan = plan_for(recipe_data, "meluxina")
    assert tuple(options(plan.engine.resources)) == (
        ("--partition", "gpu"),
        ("--account", "research"),
        ("--qos", "default"),
        ("--time", "00:10:00"),
        ("--signal", "B:TERM@60"),
        ("--nodes", "1"),
        ("--ntasks-per-node", "1"),
        ("--cpus-per-task", "8"),
        ("--mem", "8G"),
        ("--gpus-per-node", "1"),
    )
    assert directives(plan.client)["--partition"] == "cpu"
    assert "--gpus-per-node" not in directives(plan.client)


def test_generic_slurm_finds_partitions_by_their_gpus(recipe_data):
    del recipe_data["job"]["infrastructure"]["partition"]
    plan = plan_for(recipe_data, partitions=TWO_PARTITIONS)
    assert directives(plan.engine)["--partition"] == "accel"
    assert directives(plan.engine)["--gres"] == "gpu:1"
    assert directives(plan.engine)["--cpus-per-task"] == "4", "no more than the nodes have"
    assert directives(plan.client)["--partition"] == "batch"


def test_no_gpu_is_asked_for_in_a_cpu_partition(recipe_data):
    recipe_data["job"]["infrastructure"]["partition"] = "batch"
    plan = plan_for(recipe_data, partitions=TWO_PARTITIONS)
    assert plan.gpus == 0
    assert "--gres" not in directives(plan.engine)
    assert directives(plan.engine)["--cpus-per-task"] == "16"


def test_client_goes_where_its_time_limit_fits(recipe_data):
    short = Partition("short", default=True, has_nodes_without_gpus=True, max_seconds=60)
    long = Partition("long", has_nodes_without_gpus=True, max_seconds=math.inf)
    plan = plan_for(recipe_data, partitions=[short, long])
    assert directives(plan.client)["--partition"] == "long"


def test_recipe_beats_site_and_the_plan_says_so(recipe_data):
    site = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"], account="theirs", qos="low")
    plan = make_plan(parse_recipe(recipe_data), site)
    assert directives(plan.engine)["--account"] == "research"
    assert directives(plan.engine)["--qos"] == "low"
    assert setting(plan, "account").source == "recipe"
    assert setting(plan, "qos").source == "site"


@pytest.mark.parametrize(
    ("request_", "directive"),
    [
        ("--gres=gpu:{n}", ("--gres", "gpu:2")),
        ("--gres=gpu:a100:{n}", ("--gres", "gpu:a100:2")),
        ("--gpus-per-node={n}", ("--gpus-per-node", "2")),
    ],
)
def test_ways_to_ask_for_gpus(recipe_data, request_, directive):
    recipe_data["job"]["infrastructure"]["gpus"] = 2
    site = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"], gpu_request=request_)
    assert directive in options(make_plan(parse_recipe(recipe_data), site).engine.resources)


def test_short_jobs_are_not_signalled_early(recipe_data):
    recipe_data["job"]["infrastructure"]["time"] = "5"
    assert "--signal" not in directives(plan_for(recipe_data).engine)


def test_parallel_slots_follow_the_clients_up_to_eight(recipe_data):
    assert plan_for(recipe_data).num_parallel == 4
    recipe_data["job"]["service"]["n_clients"] = 1000
    plan = plan_for(recipe_data)
    assert plan.num_parallel == 8
    assert plan.max_queue >= 1000, "Ollama must not turn our own clients away"


@pytest.mark.parametrize(("asked", "shown"), [(None, "its cores"), (6, 6)])
def test_plan_says_how_many_threads_ollama_takes(recipe_data, asked, shown):
    if asked:
        recipe_data["job"]["service"]["num_thread"] = asked
    (setting,) = [s for s in plan_for(recipe_data).settings if s.name == "num_thread"]
    assert setting.value == shown


@pytest.mark.parametrize(("clients", "cpus"), [(1, 2), (128, 2), (129, 3), (10_000, 16)])
def test_client_cpus(clients, cpus):
    assert client_cpus(clients) == cpus


@pytest.mark.parametrize(
    ("recipe", "site", "tls"),
    [(None, None, False), (None, True, True), (True, None, True), (False, True, False)],
)
def test_tls_is_the_recipes_else_the_sites(recipe_data, recipe, site, tls):
    recipe_data["job"]["tls"] = recipe
    profile = load_site("local").model_copy(update={"tls": site})
    plan = make_plan(parse_recipe(recipe_data), profile)
    assert plan.tls is tls
    assert [s.source for s in plan.settings if s.name == "tls"] == (
        ["site" if recipe is None else "recipe"] if tls else []
    )


@pytest.mark.parametrize(
    ("recipe", "site", "shared"),
    [
        (None, None, ()),
        (None, ["user:root"], ("user:root",)),
        (["group:root"], ["user:root"], ("group:root",)),
        ([], ["user:root"], ()),
    ],
)
def test_it_is_shared_with_whom_the_recipe_names_else_the_site(
    recipe_data, monkeypatch, recipe, site, shared
):
    munge_is(monkeypatch)
    recipe_data["job"]["share"] = recipe
    profile = load_site("local").model_copy(update={"share": site})
    plan = make_plan(parse_recipe(recipe_data), profile)
    assert plan.share == shared
    assert [(s.value, s.source) for s in plan.settings if s.name == "share"] == (
        [(", ".join(shared), "site" if recipe is None else "recipe")] if shared else []
    )


@pytest.mark.parametrize(
    ("share", "security", "there", "words"),
    [
        (["user:nobody-at-all"], "token", True, "knows no user 'nobody-at-all'"),
        (["user:root", "group:no-group"], "token", True, "knows no group 'no-group'"),
        (["user:root"], "none", True, 'security is "none"'),
        (["user:root"], "token", False, "no unmunge on PATH"),
    ],
)
def test_what_cannot_be_shared_is_refused(recipe_data, monkeypatch, share, security, there, words):
    munge_is(monkeypatch, there)
    recipe_data["job"] |= {"share": share, "security": security}
    with pytest.raises(UsageError, match=words):
        make_plan(parse_recipe(recipe_data), load_site("local"))


def test_tls_with_nothing_that_could_speak_it_is_refused(recipe_data):
    recipe_data["job"] |= {"tls": True, "security": "none"}
    with pytest.raises(UsageError, match=r'tls is true \(recipe\), but security is "none"'):
        plan_for(recipe_data, "local")
