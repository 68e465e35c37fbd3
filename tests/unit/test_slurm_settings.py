"""Settings that users export for Slurm: each counts, or is named as left out; partition lists."""

import json

import pytest

from contracts.errors import UsageError
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.scheduler.interface import Exported, Partition, Setting
from hpc.scheduler.slurm.directives import options
from hpc.scheduler.slurm.environment import clean_environment, controller, exported
from hpc.site import Site


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("SLURM_CONF", "SLURM_JOB_ID", "SBATCH_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)


def site(**changes):
    plain = {"name": "s", "scheduler": "slurm"}
    return Site(**{**plain, **changes})


def plan_for(recipe_data, monkeypatch, at=None, partitions=(), **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return make_plan(parse_recipe(recipe_data), at or site(), partitions, False, exported())


def asked(plan, option):
    return [dict(options(job.resources)).get(f"--{option}") for job in (plan.engine, plan.client)]


def source(plan, name):
    return next((s.source for s in plan.settings if s.name == name), None)


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("SBATCH_ACCOUNT", "account"),
        ("SBATCH_QOS", "qos"),
        ("SBATCH_PARTITION", "partition"),
        ("SBATCH_RESERVATION", "reservation"),
        ("SBATCH_CONSTRAINT", "constraint"),
        ("SBATCH_WCKEY", "wckey"),
        ("SLURM_CLUSTERS", "clusters"),
        ("SBATCH_CLUSTERS", "clusters"),
    ],
)
def test_setting_counts_for_every_job_and_its_source_is_named(
    recipe_data, monkeypatch, variable, option
):
    recipe_data["job"]["infrastructure"] = {}
    plan = plan_for(recipe_data, monkeypatch, **{variable: "mine"})
    assert asked(plan, option) == ["mine", "mine"]
    assert source(plan, option) == f"${variable}"
    assert plan.left_out == ()
    assert variable not in clean_environment(), "sbatch would put it before our scripts' lines"


def test_recipe_and_site_go_before_a_variable(recipe_data, monkeypatch):
    at = site(qos="theirs", directives=["--reservation=school", "--cluster north"])
    plan = plan_for(
        recipe_data, monkeypatch, at,
        SBATCH_ACCOUNT="mine", SBATCH_PARTITION="mine", SBATCH_QOS="mine",
        SBATCH_RESERVATION="mine", SLURM_CLUSTERS="mine",
    )  # fmt: skip
    assert "mine" not in str(plan.engine)
    assert asked(plan, "account") == ["research", "research"]
    assert asked(plan, "partition") == ["gpu", "mine"], "the client's is nobody else's"
    assert {name: source(plan, name) for name in ("account", "qos", "reservation", "clusters")} == {
        "account": "recipe", "qos": "site", "reservation": "site: directives",
        "clusters": "site: directives",
    }  # fmt: skip


def test_what_changes_our_jobs_or_what_we_read_is_left_out_and_named(monkeypatch):
    left_out = ("SACCT_FORMAT", "SBATCH_EXCLUSIVE", "SBATCH_TIMELIMIT", "SCANCEL_INTERACTIVE",
                "SINFO_FORMAT", "SLURM_TIME_FORMAT", "SQUEUE_FORMAT")  # fmt: skip
    for name in left_out:
        monkeypatch.setenv(name, "x")
    assert exported() == Exported({}, left_out)
    environment = clean_environment()
    assert environment.pop("SLURM_TIME_FORMAT") == "standard"
    assert not set(left_out) & set(environment)


def test_in_a_job_only_its_own_are_dropped(monkeypatch):
    theirs = {"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_NAME": "x",
              "SBATCH_MEM_BIND": "none", "SLURM_CLUSTER_NAME": "here"}  # fmt: skip
    users = {"SLURM_CONF": "/x.conf", "SLURM_JWT": "token", "SLURM_CLUSTERS": "north",
             "SBATCH_ACCOUNT": "mine", "SQUEUE_FORMAT": "%i"}  # fmt: skip
    for name, value in {**theirs, **users}.items():
        monkeypatch.setenv(name, value)
    found = exported()
    assert found.chosen == {
        "clusters": Setting("clusters", "north", "$SLURM_CLUSTERS"),
        "account": Setting("account", "mine", "$SBATCH_ACCOUNT"),
    }
    assert found.left_out == ("SQUEUE_FORMAT",)
    environment = clean_environment()
    assert (environment["SLURM_CONF"], environment["SLURM_JWT"]) == ("/x.conf", "token")
    assert not set(theirs) & set(environment)


def test_token_is_in_no_record(monkeypatch):
    monkeypatch.setenv("SLURM_JWT", "secret")
    monkeypatch.setenv("SLURM_CONF", "/x.conf")
    assert controller() == {"SLURM_CONF": "/x.conf"}


def test_controller_of_a_nodes_own_file_is_asked_by_this_hosts_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_CONF", "/mine.conf")
    assert "SLURM_CONF" not in clean_environment({})
    assert clean_environment({"SLURM_CONF": "/no/such"})["SLURM_CONF"] == "/mine.conf"
    assert clean_environment({"SLURM_CONF": str(tmp_path)})["SLURM_CONF"] == str(tmp_path)


def test_value_that_fits_on_no_line_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "a\n#SBATCH --uid=0")
    with pytest.raises(UsageError, match=r"\$SBATCH_ACCOUNT"):
        exported()


def test_dry_run_says_where_settings_come_from_and_which_are_left_out(
    orch, recipe_data, tmp_path, monkeypatch
):
    for name in ("sbatch", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'gpu|up|1-00:00:00|8|gpu:1'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SBATCH_QOS", "night")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    code, out, err = orch(tmp_path / "recipe.json", "--site", "slurm", "--dry-run")
    assert code == 0
    assert ["qos", "night", "$SBATCH_QOS"] in [line.split() for line in out.splitlines()]
    assert "not passed on to Slurm's commands: $SBATCH_TIMELIMIT" in out + err


# --- lists of partitions -------------------------------------------------------------------------

PARTITIONS = [
    Partition("cpu", default=True, has_nodes_without_gpus=True, cpus_per_node=64),
    Partition("gpu", has_gpus=True, cpus_per_node=32),
    Partition("gpu_short", has_gpus=True, cpus_per_node=4),
]


@pytest.mark.parametrize(
    ("partition", "gpus", "cpus"),
    [("gpu,gpu_short", 1, 4), ("gpu", 1, 8), ("cpu,gpu", 1, 8), ("cpu", 0, 16)],
)
def test_partition_list_is_judged_as_a_whole(recipe_data, monkeypatch, partition, gpus, cpus):
    recipe_data["job"]["infrastructure"]["partition"] = partition
    plan = plan_for(recipe_data, monkeypatch, partitions=PARTITIONS)
    assert asked(plan, "partition")[0] == partition
    assert (plan.gpus, asked(plan, "cpus-per-task")[0]) == (gpus, str(cpus))


def test_partition_list_may_come_from_site_and_variable(recipe_data, monkeypatch):
    recipe_data["job"]["infrastructure"] = {}
    at = site(gpu_partitions=["gpu,gpu_short"])
    plan = plan_for(recipe_data, monkeypatch, at, SBATCH_PARTITION="a,b")
    assert asked(plan, "partition") == ["gpu,gpu_short", "a,b"]
    assert plan.gpus == 1


@pytest.mark.parametrize(
    "value", ["gpu,", ",gpu", "gpu,,cpu", "gpu, cpu", "gpu,-x", "a," + 65 * "x"]
)
def test_each_name_of_a_partition_list_is_checked(recipe_data, value):
    recipe_data["job"]["infrastructure"]["partition"] = value
    with pytest.raises(UsageError) as error:
        parse_recipe(recipe_data)
    assert "commas between" in error.value.details[0]
