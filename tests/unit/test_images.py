"""Container images: which sources are allowed, what tells versions apart, what can be bound."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess

import pytest

from contracts.errors import UsageError
from contracts.files import PROJECT
from engines.servers.deployable import DEPLOYED
from hpc import images
from hpc.endpoints import OutputDir
from hpc.site import Site, load_site


def site(**given):
    return Site(name="s", scheduler="slurm", runtime="apptainer", images=given)


@pytest.mark.parametrize(
    "source",
    ["docker://ollama/ollama:0.17.4", "docker://ghcr.io:443/a/b@sha256:" + "a" * 64, "/x/a.sif"],
)
def test_pinned_sources_are_taken(source):
    assert images.engine_image(site(ollama=source), DEPLOYED["ollama"]).source == source


@pytest.mark.parametrize(
    "source",
    ["docker://ollama/ollama", "docker://ollama/ollama:latest", "docker://host:5000/ollama",
     "ollama/ollama:0.17.4", "a.sif", "http://x/y:1", "/x/a b\n.sif", ""],
)  # fmt: skip
def test_other_sources_are_refused_with_their_path(tmp_path, source):
    profile = {"name": "s", "scheduler": "slurm", "images": {"ollama": source}}
    path = tmp_path / "site.json"
    path.write_text(json.dumps(profile))
    with pytest.raises(UsageError) as error:
        load_site(str(path))
    assert error.value.details[0].startswith("images.ollama = ")


def test_client_image_is_another_one_when_its_app_or_base_changes(tmp_path, monkeypatch):
    for name in (*images._APP, images.DEFINITION):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    monkeypatch.setattr(images, "PROJECT", tmp_path)
    stamps = [images.client_image(site()).stamp]
    (tmp_path / "client" / "errors.py").write_text("")
    stamps.append(images.client_image(site()).stamp)
    stamps.append(images.client_image(site(python="docker://python:3.11-slim")).stamp)
    assert len(set(stamps)) == 3
    assert images.client_image(site()).stamp == stamps[1]


def test_definition_names_every_file_of_the_app():
    text = (PROJECT / images.DEFINITION).read_text()
    assert all(f"    {name} /opt/orch/{name}" in text for name in images._APP)


@pytest.mark.parametrize("folder", ["/a:b", "/a,b"])
def test_folder_that_cannot_be_bound_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="cannot be given "):
        images.check_bindable(tmp_path / folder)
    images.check_bindable(tmp_path / "a b")


LIBRARY = f"set -u; . {PROJECT}/lib/service.sh; . {PROJECT}/lib/containers.sh; OUTPUT=$PWD; "


def bash(tmp_path, commands):
    return subprocess.run(
        ["bash", "-c", LIBRARY + commands], cwd=tmp_path, capture_output=True, text=True
    )


def test_message_of_a_failed_build_is_the_complaint_and_not_the_summary_of_it(tmp_path):
    (tmp_path / "log").write_text(
        "INFO: x\nERROR: No matching distribution found for flask==3\n"
        "\x1b[31mFATAL:   While performing build: while running engine: exit status 1\n"
    )
    result = bash(tmp_path, "last_words log")
    assert result.stdout == "ERROR: No matching distribution found for flask==3\n"


def test_services_in_a_container_get_the_gpus_of_their_job_and_nothing_else(tmp_path):
    commands = "RUNTIME=apptainer IMAGE=/x/o.sif CUDA_VISIBLE_DEVICES=2,3 ORCH_REPLICA=7.1; "
    commands += "enter_image --nv; printf '%s\\n' \"${RUN_IN[@]}\""
    words = bash(tmp_path, commands).stdout.split()
    assert words[-5:-2] == ["--nv", "/x/o.sif", "env"]
    assert words[-2:] == ["CUDA_VISIBLE_DEVICES=2,3", "ORCH_REPLICA=7.1"]
    assert "--containall" in words


APPTAINER = """#!/bin/sh
# Stands in for apptainer: `pull` brings an image of three bytes.
echo "$4" >>pulls
printf abc >"$3"
"""
DIGEST = hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def noted(tmp_path):
    """Has a job of that id use an image; what is then known of it."""
    output = OutputDir(tmp_path)
    output.prepare()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text(APPTAINER)
    (tmp_path / "bin" / "apptainer").chmod(0o755)

    def use(job_id, arguments):
        commands = (
            f'PATH=$PWD/bin:$PATH RUNTIME=apptainer JOB_ID={job_id}; service_begin x "$PWD" 60; '
        )
        done = bash(tmp_path, commands + f"use_image {arguments}")
        assert (done.returncode, done.stderr) == (0, "")
        return output.image(job_id)

    return use


def test_image_that_a_job_makes_is_noted_with_its_digest(noted, tmp_path):
    image = tmp_path / "containers" / "ollama-1a2b.sif"
    found = noted("7", "ollama 1a2b docker://x/y:1")
    changed = found.pop("changed")
    assert found == {"path": str(image), "sha256": DIGEST, "bytes": 3}
    assert changed.endswith("Z") and changed[:4] >= "2026"
    check = ["sha256sum", "--check", "--quiet", f"{image.name}.sha256"]
    subprocess.run(check, cwd=image.parent, check=True)
    assert [path.name for path in image.parent.glob(".*")] == [".ollama.lock"]


def test_next_job_finds_image_and_digest(noted, tmp_path):
    first = noted("7", "ollama 1a2b docker://x/y:1")
    assert noted("8", "ollama 1a2b docker://x/y:1") == first
    assert (tmp_path / "pulls").read_text() == "docker://x/y:1\n"


@pytest.mark.parametrize("locks", [True, False])
def test_what_another_job_makes_is_taken_away_if_nobody_is_at_it(noted, tmp_path, locks):
    """Which nobody knows on a file system without locks."""
    (tmp_path / "containers").mkdir(exist_ok=True)
    others = tmp_path / "containers" / ".ollama.6.sif"
    others.write_bytes(b"half of it")
    if not locks:
        (tmp_path / "bin" / "flock").write_text("#!/bin/sh\necho No locks available >&2\nexit 71\n")
        (tmp_path / "bin" / "flock").chmod(0o755)
    assert noted("7", "ollama 1a2b docker://x/y:1")
    assert others.exists() != locks


def test_a_job_that_waits_for_anothers_image_is_cancelled_at_once(tmp_path):
    """And not by SIGKILL, which would leave its folders on the node."""
    OutputDir(tmp_path).prepare()
    (tmp_path / "containers").mkdir(exist_ok=True)
    begins = (
        'JOB_ID=7 RUNTIME=apptainer; service_begin x "$PWD" 60; use_image ollama 1a docker://x/y:1'
    )
    with (tmp_path / "containers" / ".ollama.lock").open("a") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        job = subprocess.Popen(
            ["bash", "-c", LIBRARY + begins], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        try:
            assert any("waits for another job" in line for line in job.stdout)
            job.send_signal(signal.SIGTERM)
            assert job.wait(60) == 143
        finally:
            job.kill()
    assert (tmp_path / "logs" / "7.rc").read_text().startswith("143\n")


def test_image_of_the_site_is_noted_by_size_and_last_change(noted, tmp_path):
    image = tmp_path / "mine.sif"
    image.write_bytes(b"abcd")
    os.utime(image, (1_700_000_000, 1_700_000_000))
    known = {"path": str(image), "bytes": 4, "changed": "2023-11-14T22:13:20Z"}
    assert noted("7", f"client_service x {image}") == {**known, "sha256": None}
    (tmp_path / "mine.sif.sha256").write_text("no digest\n")
    assert noted("8", f"client_service x {image}") == {**known, "sha256": None}
    (tmp_path / "mine.sif.sha256").write_text(f"{DIGEST}  mine.sif\n")
    assert noted("9", f"client_service x {image}") == {**known, "sha256": DIGEST}


def test_image_named_by_its_link_is_noted_by_its_own_name(noted, tmp_path):
    made = noted("7", "ollama 1a2b docker://x/y:1")
    assert noted("8", f"ollama x {tmp_path}/containers/ollama.sif") == made


def test_job_without_an_image_has_none_noted(tmp_path):
    assert OutputDir(tmp_path).image("7") is None
