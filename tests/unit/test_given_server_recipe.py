"""A recipe that measures a server which nobody starts here: what is refused, what is planned."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.endpoints import OutputDir
from hpc.planning.plan import Plan, make_plan
from hpc.recipe.reading import parse_recipe
from hpc.site import Site

Orch = Callable[..., tuple[int, str, str]]
Recipe = dict[str, Any]

URL = "https://llm.example.org/v1"


@pytest.fixture
def recipe() -> Recipe:
    service = {"model": "/models/Llama-3.1-8B", "n_clients": 2, "server": {"url": URL}}
    return {"job": {"name": "given", "service": service}}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("url", "ftp://x", "is no address of a server"),
        ("url", "https://me:secret@x", "has a user or a password in it"),
        ("url", "https://x/?key=1", "has a ? or a # in it"),
        ("url", "https://x/v1/completions", "is of an API that is not spoken here"),
        ("url", "http://a b", "has a blank"),
        ("api", "grpc", "must be 'ollama' or 'openai'"),
        ("token_file", "key", "must begin with / or ~/"),
        ("token", "sk-1", "unknown key"),
    ],
)
def test_what_cannot_be_is_refused(
    orch: Orch, recipe: Recipe, tmp_path: Path, key: str, value: str, words: str
) -> None:
    recipe["job"]["service"]["server"][key] = value
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    code, _, said = orch("r.json", "--dry-run", "--site", "local")
    assert code == 2
    assert f"job.service.server.{key}" in said and words in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "fp16"),
        ("num_parallel", 4),
        ("num_thread", 2),
        ("question", "Why?"),
        ("retrieval", {}),
    ],
)
def test_what_only_an_ollama_of_our_own_can_be_told_does_not_go_with_it(
    orch: Orch, recipe: Recipe, tmp_path: Path, key: str, value: object
) -> None:
    recipe["job"]["service"][key] = value
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    code, _, said = orch("r.json", "--dry-run", "--site", "local")
    assert code == 2 and f"does not go with job.service.{key}" in said


@pytest.mark.parametrize(("mode", "words"), [(0o644, "chmod 600"), (None, "No such file")])
def test_a_key_that_others_can_read_or_nobody_is_refused(
    orch: Orch, recipe: Recipe, tmp_path: Path, mode: int | None, words: str
) -> None:
    key = tmp_path / "key"
    if mode is not None:
        key.write_text("sk-secret\n")
        key.chmod(mode)
    recipe["job"]["service"]["server"]["token_file"] = str(key)
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    code, out, said = orch("r.json", "--dry-run", "--site", "local")
    assert code == 2 and str(key) in said and words in said
    assert "sk-secret" not in out + said


def plan_of(recipe: Recipe, scheduler: str = "slurm", runtime: str = "host") -> Plan:
    site = Site(name="s", scheduler=scheduler, runtime=runtime, cpu_partitions=["cpu"])  # type: ignore[arg-type]
    return make_plan(parse_recipe(recipe), site)


def test_nothing_is_planned_but_the_client_service(recipe: Recipe) -> None:
    plan = plan_of(recipe)
    assert (plan.engine, plan.qdrant, plan.gpus) == (None, None, 0)
    assert plan.model == "/models/Llama-3.1-8B"
    said = {setting.name: str(setting.value) for setting in plan.settings}
    assert said["server"] == f"{URL} (openai)"
    assert said["client_partition"] == "cpu"
    assert not {"partition", "gpus", "num_parallel", "num_thread", "context_length"} & said.keys()


@pytest.mark.parametrize("runtime", ["host", "apptainer"])
def test_its_script_waits_for_no_ollama(recipe: Recipe, tmp_path: Path, runtime: str) -> None:
    from hpc.commands.deploy import render_all
    from orch import services

    key = tmp_path / "it's a key"
    key.write_text("sk-secret\n")
    key.chmod(0o600)
    recipe["job"]["service"]["server"]["token_file"] = str(key)
    output = OutputDir(tmp_path / "output")
    output.prepare()
    render_all(plan_of(recipe, runtime=runtime), services(), output)
    (script,) = output.path.glob("scripts/*.client.sh")
    text = script.read_text()
    assert "ollama" not in text.lower()
    assert "sk-secret" not in text
    check = subprocess.run(["shellcheck", "-x", script], capture_output=True, text=True)
    form = subprocess.run(["shfmt", "-i", "2", "-ci", "-d", script], capture_output=True, text=True)
    assert check.stdout == form.stdout == ""
