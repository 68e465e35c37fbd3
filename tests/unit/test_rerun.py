"""--rerun: what a run's folder says of how it was made, and which run is meant."""

import argparse
import json
from pathlib import Path

import made_runs
import pytest
from made_campaigns import VARY, make_campaign

from campaign.design import product
from contracts.errors import UsageError
from contracts.load import RUN_ID, LoadPerClient
from hpc.campaigns.reporting import options_of
from hpc.commands.rerun import _name
from hpc.deployments.provenance import folder_of, read_run
from hpc.endpoints import OutputDir

KEYS = [cell.key for cell in product(VARY)]
SITE = {"name": "local", "scheduler": "local", "runtime": "host"}


def run_in(folder: Path, load: dict, **service) -> Path:
    """A run of a deployment, asked for `load` as /benchmark takes it."""
    folder.mkdir(parents=True)
    recipe = {"job": {"infrastructure": {"time": "10:00"}, "service": {"model": "m", **service}}}
    summary = made_runs.summary_of(made_runs.closed_loop())
    summary["provenance"]["context"] = {"id": "t-1", "recipe": recipe, "site": SITE}
    (folder / "summary.json").write_text(json.dumps(summary))
    spec = LoadPerClient.model_validate(load).run("m:1")
    (folder / "request.json").write_text(spec.model_dump_json())
    return folder


@pytest.mark.parametrize(
    "load",
    [
        {"n_clients": 4, "n_requests_per_client": 5, "num_predict": 7, "seed": 9},
        {"n_clients": 3, "duration_seconds": 2.5},
        {"rate": 2.0, "n_requests": 30, "arrivals": "constant", "goodput": {"ttft": 0.5}},
        {"rate": 2.0, "duration_seconds": 20.0, "max_concurrency": 8},
        {"prompts": ["a", "b"], "temperature": 0.0, "through": "door"},
    ],
)
def test_the_same_is_asked_again(tmp_path, load):
    """Not what the recipe asks for, which may be the load of another cell."""
    recorded = read_run(run_in(tmp_path / "a", load, n_clients=16, n_requests_per_client=2))
    asked = recorded.asked.job.service
    again = LoadPerClient.model_validate(asked.load).run("m:1")
    before = json.loads((tmp_path / "a" / "request.json").read_text())
    assert again.model_dump(mode="json") == before
    assert recorded.deployed["job"]["service"]["n_clients"] == 16
    assert recorded.site == SITE


def test_a_run_is_named_by_its_folder_or_its_name(tmp_path):
    folder = run_in(tmp_path / "benchmarks" / "t-1", {})
    output = OutputDir(tmp_path)
    assert folder_of("t-1", output) == folder_of(str(folder), output) == folder


@pytest.mark.parametrize("name", ["my run (1)", ".hidden", "Prüflauf", "a'b", "x" * 200, "run"])
def test_a_folder_of_any_name_is_repeated_under_one_that_a_run_may_have(name):
    assert RUN_ID.fullmatch(_name(Path("/tmp") / name))


def test_a_cell_is_named_by_its_number_or_its_key(tmp_path):
    """It stands for its newest run that is valid."""
    broken = {(KEYS[1], 3): ("invalid", "too slow.")}
    make_campaign(tmp_path / "campaigns" / "c", broken=broken)
    output = OutputDir(tmp_path)
    assert folder_of("c/2", output) == tmp_path / "benchmarks" / "c-5"
    assert folder_of(f"c/{KEYS[0]}", output) == tmp_path / "benchmarks" / "c-8"


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "there is no run 'nothing'"), ("c/7", "has no cell '7'; it has 1: num_parallel=4"),
     ("c/4", "has no run yet"), ("d/1", "there is no run 'd/1'")],
)  # fmt: skip
def test_what_is_not_there_is_said(tmp_path, name, said):
    make_campaign(tmp_path / "campaigns" / "c", repetitions=1, missing=[(KEYS[3], 1)])
    with pytest.raises(UsageError) as raised:
        folder_of(name, OutputDir(tmp_path))
    assert said in raised.value.message


def test_a_run_that_does_not_say_how_it_was_made_is_refused(tmp_path):
    folder = run_in(tmp_path / "a", {})
    (folder / "request.json").unlink()
    with pytest.raises(UsageError, match="does not say what the run was asked for"):
        read_run(folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["provenance"]["context"] = None
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError, match="is the run of no deployment"):
        read_run(folder)
    (folder / "summary.json").unlink()
    with pytest.raises(UsageError, match="holds no results"):
        read_run(folder)


def test_what_a_campaign_is_compared_with_is_checked_first(tmp_path):
    old = make_campaign(tmp_path / "campaigns" / "old", repetitions=1)
    new = tmp_path / "campaigns" / "new"  # which is not there yet
    given = argparse.Namespace(against=Path("old"), fail_on_regression="5%")
    assert options_of(given, new) == [f"--against={old}", "--fail-on-regression=5%"]
    given.against = Path("older")
    with pytest.raises(UsageError, match="older holds no campaign"):
        options_of(given, new)
