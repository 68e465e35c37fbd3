"""A wrong campaign ends in exit code 2 and all its errors at once; nothing is submitted."""

from __future__ import annotations

import copy
import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from campaign.file import CampaignFile
from campaign.units import LEDGER, Planned, as_json
from contracts.files import PROJECT, FileError
from hpc.campaigns.deploying import Deployer
from hpc.campaigns.grouping import is_name_of, name_of
from hpc.campaigns.processes import process_of
from hpc.campaigns.reading import load_campaign
from hpc.campaigns.settings import problem_of
from hpc.recipe.docs import generated
from ledger.journal import Journal

Orch = Callable[..., tuple[int, str, str]]

RIGHT: dict[str, Any] = {
    "recipe": {"job": {"service": {"model": "mistral:7b", "n_requests_per_client": 4}}},
    "vary": {"job.service.num_parallel": [1, 4], "load.n_clients": [1, 2, 8]},
    "exclude": [{"job.service.num_parallel": 1, "load.n_clients": 8}],
    "repetitions": 3,
    "seed": 1,
    "budget": {"gpu_hours": 10, "jobs": 20},
    "baseline": {"job.service.num_parallel": 1, "load.n_clients": 1},
    "slo": "ttft:0.5,itl:0.05",
    "parallel": 2,
}


def write(folder: Path, campaign: object, name: str = "c.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"campaign": campaign}))
    return path


def test_one_that_is_right_has_its_cells_in_groups(tmp_path: Path) -> None:
    checked = load_campaign(write(tmp_path, RIGHT, "slots.json"))
    assert checked.name == "slots"
    assert [cell.key for cell in checked.cells] == [
        "num_parallel=1 n_clients=1", "num_parallel=1 n_clients=2", "num_parallel=4 n_clients=1",
        "num_parallel=4 n_clients=2", "num_parallel=4 n_clients=8",
    ]  # fmt: skip
    assert [(group.words, len(group.cells)) for group in checked.groups] == [
        ("num_parallel=1", 2),
        ("num_parallel=4", 3),
    ]
    assert checked.groups[1].recipe.job.service.n_clients == 8  # room for the largest
    assert checked.groups[0].recipe.job.name == f"slots-{checked.groups[0].id}"


def test_what_only_the_load_has_restarts_nothing_and_its_slots_are_those_of_the_largest(
    tmp_path: Path,
) -> None:
    campaign = {"recipe": RIGHT["recipe"], "vary": {"load.n_clients": [1, 4, 64],
                                                    "load.num_predict": [8, 16]}}  # fmt: skip
    (group,) = load_campaign(write(tmp_path, campaign)).groups
    assert len(group.cells) == 6
    assert group.recipe.job.service.num_parallel == 8


def test_which_deployment_serves_a_cell_is_looked_up_once_for_all(tmp_path: Path) -> None:
    """The plan asks it for each repetition and each deployment."""
    checked = load_campaign(write(tmp_path, RIGHT))
    assert checked.group_of is checked.group_of


def test_deployments_of_long_names_are_each_campaigns_own() -> None:
    may, june = (f"which-engine-for-how-many-clients-on-our-cluster-{m}" for m in ("may", "june"))
    assert is_name_of(may, name_of(may, "0123abcd"))
    assert not is_name_of(may, name_of(june, "0123abcd"))
    assert len(name_of("c" * 60, "0123abcd")) < 50
    assert name_of("short", "0123abcd") == "short-0123abcd"


def test_a_recipe_may_be_a_file_and_its_paths_start_there(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    model = tmp_path / "recipes" / "m.gguf"
    model.write_bytes(b"GGUF")
    recipe = {"job": {"service": {"model": "./m.gguf", "n_requests_per_client": 1}}}
    (tmp_path / "recipes" / "r.json").write_text(json.dumps(recipe))
    path = write(tmp_path, {"recipe": "recipes/r.json", "vary": {"load.n_clients": [1]}})
    assert load_campaign(path).groups[0].recipe.job.service.model == str(model)


WRONG = [
    ({"vary": {"job.service.num_paralel": [1]}}, "campaign.vary.job.service.num_paralel: unknown "
     "path; did you mean job.service.num_parallel?"),
    ({"vary": {"load.rat": [1]}}, "did you mean load.rate?"),
    ({"vary": {"num_parallel": [1]}}, "did you mean job.service.num_parallel?"),
    ({"vary": {"job.infrastructure": [1]}}, "has keys of its own; vary one of them, such as"),
    ({"vary": {"job.name": ["a", "b"]}}, "the campaign names its deployments"),
    ({"vary": {}}, "campaign.vary = dict: must have at least 1"),
    ({"vary": {"load.rate": []}}, "campaign.vary.load.rate = list: must have at least 1"),
    ({"vary": {"load.n_clients": [1, 1]}}, "campaign.vary.load.n_clients.1: 1 is given twice"),
    ({"vary": {"load.n_clients": [1], "job.service.n_clients": [2]}}, "is the same as"),
    ({"vary": {"load.n_clients": [[1]]}}, "must be a text, a number, true, false or null"),
    ({"vary": {"load.n_clients": list(range(1, 60)), "load.seed": list(range(60))}},
     "makes 3540 cells, but must make at most 1000"),
    ({"vary": {"job.service.num_parallel": [0, 1]}}, "campaign.vary.job.service.num_parallel: "
     "job.service.num_parallel = 0: must be at least 1"),
    ({"vary": {"load.rate": [1], "load.n_clients": [1]}}, "rate does not go with "),
    ({"exclude": [{"load.n_clients": 3}]}, "campaign.exclude.0: matches no cell: load.n_clients is "
     "never 3"),
    ({"exclude": [{"load.rate": 3}]}, "matches no cell: load.rate is not varied"),
    ({"exclude": [{"job.service.num_parallel": 1}, {"job.service.num_parallel": 4}]},
     "campaign.exclude: leaves no cell"),
    ({"exclude": [{}]}, "campaign.exclude.0 = dict: must have at least 1"),
    ({"baseline": {"load.n_clients": 1}}, "campaign.baseline: matches 2 cells; give it "
     "job.service.num_parallel, too"),
    ({"baseline": {"job.service.num_parallel": 1, "load.n_clients": 8}},
     "campaign.baseline: is no cell"),
    ({"slo": "ttft:0.5,itl"}, "campaign.slo = 'ttft:0.5,itl': must be FIGURE:SECONDS"),
    ({"slo": "ttft:86401"}, "campaign.slo = 'ttft:86401': must be FIGURE:SECONDS"),
    ({"repetitions": 0}, "campaign.repetitions = 0: must be at least 1"),
    ({"parallel": 0}, "campaign.parallel = 0: must be at least 1"),
    ({"budget": {"gpu_hours": 0}}, "campaign.budget.gpu_hours = 0: must be more than 0"),
    ({"budget": {"hours": 1}}, "campaign.budget.hours: unknown key"),
    ({"repetition": 3}, "campaign.repetition: unknown key; did you mean campaign.repetitions?"),
    ({"name": "../up"}, "campaign.name = '../up': must"),
    ({"recipe": "none.json"}, "none.json cannot be read"),
    ({"recipe": "~nobody-there/r.json"}, r"~nobody-there/r.json cannot be read"),
    ({"vary": {"load.rate": [1]}, "search": {"rate": [1, 9]}}, "campaign.search.rate: does not go "
     "with load.rate in vary"),
    ({"search": {"rate": [9, 1]}}, "campaign.search.rate = list: must be two numbers"),
    ({"search": {"n_clients": [0, 9]}}, "campaign.search.n_clients = list: must be two numbers"),
    ({"search": {"n_clients": [1, 2.5]}}, "campaign.search.n_clients.1 = 2.5: must be a whole num"),
    ({"search": {"n_clients": [1]}}, "campaign.search.n_clients = list: must have at least 2"),
    ({"search": {"rate": [1, 9], "n_clients": [1, 9]}}, "campaign.search: must have either rate or "
     "n_clients"),
    ({"search": {"goodput": 0.9}}, "campaign.search: must have either rate or n_clients"),
    ({"search": {"n_clients": [1, 9]}}, "campaign.search.n_clients: does not go with "
     "load.n_clients in vary"),
    ({"vary": {"load.seed": [1]}, "slo": None, "search": {"n_clients": [1, 9]}},
     "campaign.search: needs limits that a good request keeps"),
    ({"vary": {"load.seed": [1]}, "search": {"n_clients": [1, 10**6]}},
     "campaign.recipe: job.service.n_clients = 1000000: must be at most"),
    ({"vary": {"load.seed": [1]}, "search": {"rate": [1, 9]}},
     "rate goes only with n_requests or duration_seconds"),
    ({"vary": {"load.seed": [1]}, "search": {"n_clients": [1, 9]},
      "recipe": {"job": {"service": {"model": "m", "rate": 1, "n_requests": 9}}}},
     "job.service asks for no requests"),
    ({"recipe": 3}, "campaign.recipe = 3: must be a recipe, or the path of one"),
    ({"recipe": {"job": {"service": {"n_requests_per_client": 1}}}},
     "campaign.recipe: job.service.model: is missing"),
    ({"recipe": {"job": {"service": {"model": "m"}}}}, "job.service asks for no requests"),
    ({"recipe": {"job": []}}, "campaign.recipe: job = list: must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words[-40:] for _, words in WRONG])
def test_what_is_wrong_is_said_with_its_path_and_nothing_is_submitted(
    orch: Orch, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    without = {"exclude", "baseline"} - change.keys() if "vary" in change else set()
    campaign = {k: v for k, v in {**copy.deepcopy(RIGHT), **change}.items() if k not in without}
    code, out, said = orch(write(tmp_path, campaign), "--site", "local", "--yes")
    assert code == 2
    assert words in said
    assert "nothing was submitted" in said and "Traceback" not in said
    assert out == "" and not (tmp_path / "output").exists()


def test_all_that_is_wrong_is_said_at_once(orch: Orch, tmp_path: Path) -> None:
    wrong = {**RIGHT, "vary": {**RIGHT["vary"], "a": [1], "job.service.num_paralel": [2]}}
    _, _, said = orch(write(tmp_path, wrong), "--site", "local", "--yes")
    assert "2 errors" in said and "vary.a" in said and "vary.job.service.num_paralel" in said


@pytest.mark.parametrize("option", ["--detach", "--prepare", "--no-benchmark", "--keep-on-failure"])
def test_what_is_for_a_recipe_alone_is_refused(orch: Orch, tmp_path: Path, option: str) -> None:
    code, _, said = orch(write(tmp_path, RIGHT), "--site", "local", "--yes", option)
    assert code == 2 and f"{option} is for a recipe, not for a campaign" in said


def test_without_a_terminal_it_starts_only_with_yes(orch: Orch, tmp_path: Path) -> None:
    code, out, said = orch(write(tmp_path, RIGHT), "--site", "local")
    assert code == 2 and "give --yes" in said
    assert "5 cells x 3 repetitions = 15 runs" in out


def test_where_there_is_no_room_for_its_folder_it_is_one_sentence(
    orch: Orch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, make = tmp_path / "o" / "campaigns" / "c", Path.mkdir

    def full(path: Path, *given: Any, **more: Any) -> None:
        if path == folder:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        make(path, *given, **more)

    monkeypatch.setattr(Path, "mkdir", full)
    where = ["--yes", "--site", "local", "--output-dir", tmp_path / "o"]
    code, _, err = orch(write(tmp_path, RIGHT), *where)
    assert code == 4 and f"cannot make the folder {folder}: Disk quota exceeded; make room" in err


@pytest.mark.parametrize("file", ["deployment-1.log", "deployment-1.json"])
def test_where_there_is_no_room_for_what_a_deployment_says_it_is_one_sentence(
    tmp_path: Path, file: str
) -> None:
    (tmp_path / file).symlink_to(tmp_path / "none" / "x")
    deployer = Deployer([], tmp_path, threading.Event())
    with pytest.raises(FileError, match=rf"cannot write .*{file}: No such file.*; make room there"):
        deployer.deploy(tmp_path / "r.json", 1, lambda _: None)


def test_where_nothing_can_be_locked_a_second_command_is_refused_all_the_same(
    orch: Orch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    where = ["--yes", "--site", "local", "--output-dir", tmp_path / "o"]
    folder = tmp_path / "o" / "campaigns" / "c"
    folder.mkdir(parents=True)
    first = Planned(at=0, campaign={}, repetitions=1, cells=[], conditions={},
                    process=process_of(os.getppid()))  # fmt: skip
    with closing(Journal(folder / LEDGER)) as journal:
        journal.add(as_json(first))
    code, _, err = orch(write(tmp_path, RIGHT), *where)
    assert code == 2 and f"process {os.getppid()} works on {folder}; wait for its end" in err
    assert not list((tmp_path / "o" / "deployments").glob("*.json"))


def test_a_dry_run_lists_cells_by_deployment_and_block(orch: Orch, tmp_path: Path) -> None:
    code, out, _ = orch(write(tmp_path, RIGHT), "--site", "local", "--dry-run")
    assert code == 0
    assert out.count("\ndeployment ") == 2 and out.count("\nblock ") == 3
    assert out.count("num_parallel=4 n_clients=8") == 1 + 3
    assert not (tmp_path / "output").exists()


def test_the_schema_takes_what_is_right() -> None:
    text = next(text for path, text in generated().items() if path.name == "campaign.schema.json")
    asked = json.loads(text)["$defs"]["Campaign"]
    assert set(RIGHT) <= set(asked["properties"]) and asked["required"] == ["recipe", "vary"]


@pytest.mark.parametrize("name", ["slots", "engines"])
def test_an_example_is_one_and_names_its_schema(name: str) -> None:
    path = PROJECT / "recipe_ex" / "campaigns" / f"{name}.json"
    found = json.loads(path.read_text())
    assert (path.parent / found["$schema"]).resolve() == PROJECT / "campaign.schema.json"
    asked = CampaignFile.model_validate(found).campaign
    assert not isinstance(asked.recipe, str) or (path.parent / asked.recipe).exists()
    assert [problem_of(setting) for setting in asked.vary] == [None, None]
