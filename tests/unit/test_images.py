"""Container images: which sources are allowed, what tells versions apart, what can be bound."""

import json
import shutil
import subprocess

import pytest

from hpc import images
from hpc.errors import UsageError
from hpc.files import PROJECT
from hpc.site import Site, load_site


def site(**given):
    return Site(name="s", scheduler="slurm", runtime="apptainer", images=given)


@pytest.mark.parametrize(
    "source",
    ["docker://ollama/ollama:0.17.4", "docker://ghcr.io:443/a/b@sha256:" + "a" * 64, "/x/a.sif"],
)
def test_pinned_sources_are_taken(source):
    assert images.ollama_image(site(ollama=source)).source == source


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
    with pytest.raises(UsageError, match="cannot be given the folder"):
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
    commands = "RUNTIME=apptainer IMAGE=/x/o.sif CUDA_VISIBLE_DEVICES=2,3; "
    commands += "enter_image --nv; printf '%s\\n' \"${RUN_IN[@]}\""
    words = bash(tmp_path, commands).stdout.split()
    assert words[-4:] == ["--nv", "/x/o.sif", "env", "CUDA_VISIBLE_DEVICES=2,3"]
    assert "--containall" in words
