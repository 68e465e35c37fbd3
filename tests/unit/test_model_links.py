"""Files of models behind symbolic links, as Hugging Face's cache has them."""

import json
import re
import shutil

import pytest
from made_models import make_model

from engines.models.gguf import read_header
from hpc.recipe.links import model_file, way_to
from hpc.recipe.reading import load_recipe

FIRST = "made-00001-of-00003.gguf"


@pytest.fixture
def whole(tmp_path):
    """A model in three parts, with no link."""
    folder = tmp_path / "whole"
    folder.mkdir()
    make_model(folder / "made.gguf", "llama", layers=3, width=64, each=10)
    return folder


def cache_of(folder, root):
    """The files of a folder as the hub's cache keeps them. Returns that of the links."""
    snapshot, blobs = root / "models--a--b/snapshots/c0ffee", root / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for n, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / f"{n:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{n:064x}")
    return snapshot


@pytest.fixture
def plan(orch, tmp_path):
    """What a dry run says of a model, and its engine's script."""

    def run(model, engine="llama.cpp", **site):
        (tmp_path / "site.json").write_text(json.dumps({"name": "s", "scheduler": "local", **site}))
        job = {"service": {"model": str(model), "engine": engine}, "monitoring": {"enabled": False}}
        (tmp_path / "recipe.json").write_text(json.dumps({"job": job}))
        code, out, err = orch("recipe.json", "--site", "./site.json", "--dry-run")
        assert code == 0, out + err
        (script,) = (tmp_path / "output" / "scripts").glob("*.llamacpp.sh")
        return out, script.read_text()

    return run


def line(said, setting):
    return next(line for line in said.splitlines() if line.startswith(setting))


def test_of_several_files_behind_links_all_are_counted(plan, whole, tmp_path):
    snapshot = cache_of(whole, tmp_path / "hub")
    said, script = plan(snapshot / FIRST, staging="local", local_disk="/tmp")
    assert f"WEIGHTS={snapshot / FIRST}\n" in script
    weights = re.search("[0-9.]+ MiB weights", line(said, "memory"))
    shutil.rmtree(tmp_path / "output")
    assert weights and weights[0] in line(plan(whole / FIRST)[0], "memory")
    assert read_header(snapshot / FIRST) == read_header(whole / FIRST)


def test_a_container_sees_the_links_and_what_they_lead_to(plan, whole, tmp_path):
    snapshot = cache_of(whole, tmp_path / "hub")
    _, script = plan(snapshot / FIRST, runtime="apptainer")
    for folder in (snapshot, snapshot.parents[1] / "blobs"):
        assert f"--bind {folder}:{folder}:ro" in script


def test_a_store_may_be_such_a_cache(plan, whole, tmp_path):
    snapshot = cache_of(whole, tmp_path / "hub")
    name = f"{snapshot.relative_to(tmp_path / 'hub')}/{FIRST}"
    said, script = plan(name, model_store=str(tmp_path / "hub"))
    assert "the model store" in line(said, "model_from")
    assert f"WEIGHTS={snapshot / FIRST}\n" in script


def test_a_link_under_another_name_leads_to_the_first_of_them(whole, tmp_path):
    link, alone = tmp_path / "latest.gguf", tmp_path / "other-00001-of-00003.gguf"
    for one in (link, alone):
        one.symlink_to(whole / FIRST)
        assert model_file(one) == whole / FIRST


def test_a_part_that_the_cache_lacks_is_named(whole, tmp_path):
    snapshot = cache_of(whole, tmp_path / "hub")
    (snapshot / FIRST.replace("1-of", "2-of")).unlink()
    assert model_file(snapshot / FIRST) == snapshot / FIRST


def test_a_way_over_several_links_is_shown_with_each_folder(whole, tmp_path):
    """As one's home is a link on many clusters."""
    snapshot = cache_of(whole, tmp_path / "disk" / "hub")
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    here = tmp_path / "here"
    here.mkdir()
    by_home = tmp_path / "home" / snapshot.relative_to(tmp_path / "disk")
    (here / FIRST).symlink_to(by_home / FIRST)
    folders = [path.parent for path in way_to(here / FIRST)]
    assert folders == [here, by_home, snapshot, snapshot.parents[1] / "blobs"]


def test_links_in_a_circle_are_refused_in_a_sentence(orch, tmp_path, recipe_data):
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    recipe_data["job"]["service"]["model"] = "./loop.gguf"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    code, _, err = orch("recipe.json", "--dry-run")
    assert code == 2 and "cannot be read: Too many levels of symbolic links" in err


def test_one_file_behind_a_link_is_named_by_where_it_is(whole, tmp_path, recipe_data):
    snapshot = cache_of(whole, tmp_path / "hub")
    (snapshot / "one.gguf").symlink_to(f"../../blobs/{0:064x}")
    recipe_data["job"]["service"]["model"] = str(snapshot / "one.gguf")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    model = load_recipe(tmp_path / "recipe.json").job.service.model
    assert model == str(snapshot.parents[1] / "blobs" / f"{0:064x}")


def test_ollama_which_imports_one_file_alone_is_given_no_parts(orch, whole, tmp_path, recipe_data):
    """It takes the first one without a word, and then cannot load it."""
    recipe_data["job"]["service"]["model"] = str(whole / FIRST)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    code, _, err = orch("recipe.json", "--dry-run")
    assert code == 2 and "join them" in err and '"engine": "llama.cpp"' in err


def test_a_later_part_is_refused_with_the_first_ones_name(orch, whole, tmp_path, recipe_data):
    second = whole / FIRST.replace("1-of", "2-of")
    recipe_data["job"]["service"] |= {"model": str(second), "engine": "llama.cpp"}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    code, _, err = orch("recipe.json", "--dry-run")
    assert code == 2 and f"name the first, {whole / FIRST}" in err
