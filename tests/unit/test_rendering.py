"""Nothing that comes from outside reaches bash unquoted."""

import os
import subprocess
import sys

import pytest
from programs import munge_is

import clientServiceHandler
import ollamaService
from hpc.commands.deploy import render_all
from hpc.commands.stack import render_stack
from hpc.console import Console
from hpc.deployment import Deployment
from hpc.deployments.records import create_record
from hpc.endpoints import OutputDir
from hpc.planning.plan import make_plan
from hpc.recipe.reading import parse_recipe
from hpc.rendering import Raw, comment, environment_of, quote
from hpc.scheduler.slurm.directives import directive
from hpc.site import Site
from orch import services

EVIL = "$(touch pwned) `touch pwned`; touch pwned 'x' \"y\" \\ %j & > pwned"


@pytest.mark.parametrize("text", ["plain", "a b", EVIL, "", "'", "a\nb"])
def test_quoted_text_is_one_word_of_bash(text, tmp_path):
    echo = f"printf %s {quote(text)}"
    result = subprocess.run(["bash", "-c", echo], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout == text
    assert not (tmp_path / "pwned").exists()


def test_only_text_and_numbers_reach_a_script():
    with pytest.raises(TypeError):
        quote(["a"])
    with pytest.raises(TypeError):
        quote(None)
    assert quote(Raw("$HOME")) == "$HOME"


def test_directives_stay_on_their_line():
    assert directive(("--mem", "8G")) == "#SBATCH --mem=8G"
    assert directive(("--exclusive", None)) == "#SBATCH --exclusive"
    assert directive(("--output", "/a b/%j")) == '#SBATCH --output="/a b/%j"'
    with pytest.raises(ValueError, match="does not fit on a line"):
        directive(("--comment", "a\n#SBATCH --uid=0"))


@pytest.mark.parametrize("line", ["touch pwned", "#SBATCH --x=a\ntouch pwned", ""])
def test_a_schedulers_lines_are_comments_to_bash(line):
    with pytest.raises(ValueError, match="is not a line of comment"):
        comment(line)


def evil_deployment(recipe_data, tmp_path, modules, retrieval=False):
    output = OutputDir(tmp_path / EVIL.replace("/", ""))
    output.prepare()
    model = tmp_path / f"{EVIL}.gguf"
    model.write_bytes(b"GGUF")
    recipe_data["job"]["service"]["model"] = str(model)
    if retrieval:
        recipe_data["job"]["service"]["retrieval"] = {"embedding_model": str(model)}
    site = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"], modules=modules,
                proxy={"http": EVIL}, directives=[f"--comment={EVIL}"])  # fmt: skip
    plan = make_plan(parse_recipe(recipe_data), site)
    return Deployment("test", plan, output)


@pytest.mark.parametrize("retrieval", [False, True], ids=["plain", "retrieval"])
@pytest.mark.parametrize("modules", [[EVIL], []], ids=["modules", "no modules"])
def test_evil_values_execute_nothing(recipe_data, tmp_path, modules, retrieval):
    """Run both scripts, with an `ollama` that fails; the client's job finds that it has ended."""
    deployment = evil_deployment(recipe_data, tmp_path, modules, retrieval)
    output = deployment.output.path
    ollamaService.setup_ollama(deployment)
    clientServiceHandler.setup_client_service(deployment)
    folder, binaries = tmp_path / "run", tmp_path / "bin"
    folder.mkdir()
    binaries.mkdir()
    (binaries / "ollama").write_text("#!/bin/sh\necho started; exit 1\n")
    (binaries / "ollama").chmod(0o755)
    (output / "logs" / "1.rc").write_text(f"1\n{EVIL}\n")
    environment = {"PATH": f"{binaries}:/usr/bin:/bin"}
    for name in ("ollama", "client"):
        command = ["bash", output / "scripts" / f"test.{name}.sh", "1"]
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 1
        expected = "no 'module'" if modules else {"ollama": "started", "client": "has ended"}[name]
        assert expected in result.stdout + result.stderr
    assert list(folder.iterdir()) == []
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize(
    ("reason", "code"), [("its successor serves", 0), ("killed", 1)], ids=["handed over", "failed"]
)
def test_a_client_queued_again_when_its_successor_serves_has_not_failed(
    recipe_data, tmp_path, reason, code
):
    """Its node went down: the engine has been told to end meanwhile."""
    output = OutputDir(tmp_path / "output")
    output.prepare()
    recipe_data["job"]["infrastructure"]["until"] = "stopped"
    site = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"])
    deployment = Deployment("test", make_plan(parse_recipe(recipe_data), site), output)
    ollamaService.setup_ollama(deployment)
    clientServiceHandler.setup_client_service(deployment)
    (output.path / "logs" / "1.rc").write_text(f"{code}\n{reason}\n")
    command = ["bash", output.path / "scripts" / "test.client.sh", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, f"exit code {code}: " in done.stdout) == (code, True), done
    assert reason in done.stdout


def test_submission_forgets_what_an_earlier_job_of_that_id_left(recipe_data, tmp_path):
    class Scheduler:
        def submit(self, job):
            (tmp_path / "logs" / "7.started").write_text("a host\n")  # it begins at once
            return "7"

    output = OutputDir(tmp_path)
    output.prepare()
    for name in ("logs/7.rc", "logs/7.started", "ollama_ip_7.txt", "logs/8.rc"):
        (tmp_path / name).write_text("old")
        os.utime(tmp_path / name, (1, 1))
    site = Site(name="s", scheduler="slurm", gpu_partitions=["gpu"])
    plan = make_plan(parse_recipe(recipe_data), site)
    record = create_record(tmp_path, "test", {})
    ollamaService.setup_ollama(Deployment("test", plan, output, Scheduler(), record))
    left = {path.name for path in [*tmp_path.glob("logs/*"), *tmp_path.glob("*_ip_*")]}
    assert left == {"7.started", "8.rc"}


@pytest.mark.parametrize("monitoring", [True, False], ids=["with all", "alone"])
@pytest.mark.parametrize(("nodes", "per_node"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("runtime", ["host", "apptainer"])
@pytest.mark.parametrize("scheduler", ["slurm", "local"])
def test_rendered_scripts_pass_shellcheck(
    recipe_data, tmp_path, monkeypatch, monitoring, nodes, per_node, runtime, scheduler
):
    """All of them at once: shellcheck takes most of its time to start."""
    output = OutputDir(tmp_path)
    output.prepare()
    site = Site(name="s", scheduler=scheduler, runtime=runtime, gpu_partitions=["gpu"],
                modules=["Python"], tls=nodes == 3)  # fmt: skip
    if monitoring:
        munge_is(monkeypatch)
        recipe_data["job"]["share"] = ["user:root"]
        site = site.model_copy(update={"munge_socket": "/run/munge/it"})
    recipe_data["job"]["infrastructure"].update(nodes=nodes, replicas_per_node=per_node, gpus=2)
    if monitoring:
        recipe_data["job"]["service"]["retrieval"] = {"embedding_model": "embed:1b"}
    if nodes == 3:
        recipe_data["job"]["service"]["batch"] = {"input": "/a b/in", "output": "/out/x"}
        recipe_data["job"]["service"]["n_requests_per_client"] = 0
    elif not monitoring:
        idle = {"idle_timeout": "30m", "on_request": per_node == 1, "n_requests_per_client": 0}
        recipe_data["job"]["service"].update(idle)
        told = {"command": ["a b", "$(c)"], "webhook": "https://h/x?y=1&z"}
        recipe_data["job"]["notify"] = told
        if per_node > 1:
            recipe_data["job"]["infrastructure"]["until"] = "stopped"
    plan = make_plan(parse_recipe(recipe_data), site, monitoring=monitoring)
    render_all(plan, services(), output)
    scripts = sorted((tmp_path / "scripts").glob("*.sh"))
    assert len(scripts) == (4 if monitoring else 2)
    assert [script.read_text().count("#!/bin/bash\n") for script in scripts] == [1] * len(scripts)
    (client,) = (script.read_text() for script in scripts if script.name.endswith(".client.sh"))
    # Nobody is told of a door that cannot pass on yet what is asked there.
    assert client.index("\nawait_socket translation\n") < client.index("\npublish_address ")
    check = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True)
    assert check.stdout == ""
    form = ["shfmt", "-i", "2", "-ci", "-d", *scripts]
    assert subprocess.run(form, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("parts", [["prometheus", "grafana"], ["prometheus"], ["pushgateway"]])
def test_scripts_for_those_who_start_them_by_hand_pass_shellcheck(tmp_path, parts):
    site = Site(name="s", scheduler="slurm", modules=["Python"])
    script = render_stack(parts, site, OutputDir(tmp_path), Console())
    check = subprocess.run(["shellcheck", "-x", script], capture_output=True, text=True)
    assert check.stdout == ""


@pytest.mark.parametrize(("job", "address"), [(None, "127.0.0.1"), ("7", "0.0.0.0")])
def test_what_is_started_by_hand_is_reached_from_elsewhere_only_if_it_is_a_job(
    tmp_path, monkeypatch, job, address
):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    site = Site(name="s", scheduler="slurm", modules=["Python"])
    script = render_stack(["prometheus"], site, OutputDir(tmp_path), Console()).read_text()
    assert f"\nBIND={address}\n" in script
    assert ("\nADDRESS=127.0.0.1\n" in script) == (job is None)


def rendered_anew(templates):
    """As another process would."""
    return environment_of.__wrapped__(templates).get_template("a.j2").render()


def test_what_is_kept_of_a_template_is_not_used_when_that_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    template = tmp_path / "a.j2"
    template.write_text("one")
    assert rendered_anew(tmp_path) == "one"
    (kept,) = (tmp_path / "__pycache__").iterdir()
    assert rendered_anew(tmp_path) == "one"
    template.write_text("two")
    assert rendered_anew(tmp_path) == "two"
    kept.write_bytes(b"half a fi")
    assert rendered_anew(tmp_path) == "two"


def test_templates_of_a_folder_that_takes_nothing_are_rendered_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "a.j2").write_text("one")
    (tmp_path / "__pycache__").write_text("no folder")
    assert rendered_anew(tmp_path) == "one"
