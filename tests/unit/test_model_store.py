"""model_store of a site: models that others keep are served from where they are."""

import json
import re
import shlex
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from kept_models import everything, keep
from test_threads import bash

from engines.models.gguf import Header
from hpc.planning.model_files import find_model
from hpc.planning.origins import origin_of

PLACE, MODEL = "registry.ollama.ai/some/smol/1b", "some/smol:1b"
GGUF = b"GGUF" + b"\0" * 60


@pytest.fixture
def store(tmp_path):
    """A store with one model of Ollama's and one file."""
    folder = tmp_path / "the 'group's models"
    keep(folder, PLACE, GGUF, template=b"{{ .Prompt }}")
    (folder / "org").mkdir()
    (folder / "org" / "name.gguf").write_bytes(GGUF)
    return folder


@pytest.fixture
def plan(orch, tmp_path, store):
    """What a dry run says of a recipe at a site with that store, and the engine's script."""

    def run(model=MODEL, engine="ollama", site=None, **service):
        keys = {"name": "s", "scheduler": "local", "model_store": str(store), **(site or {})}
        (tmp_path / "site.json").write_text(json.dumps(keys))
        job = {"service": {"model": model, "engine": engine, **service},
               "monitoring": {"enabled": False}}  # fmt: skip
        (tmp_path / "recipe.json").write_text(json.dumps({"job": job}))
        code, out, err = orch("recipe.json", "--site", "./site.json", "--dry-run")
        found = sorted((tmp_path / "output" / "scripts").glob("*.[ol]l*a*.sh"))
        script = found[-1].read_text() if found else ""
        return SimpleNamespace(code=code, said=out + err, script=script)

    return run


def settings(said):
    return {line.split()[0]: line for line in said.splitlines() if line.strip()}


# --- what it has ---------------------------------------------------------------------------------


def test_a_model_that_is_whole_there_is_served_from_there(plan, store):
    found = plan()
    assert found.code == 0 and "WARNING" not in found.said
    assert f"the model store {store}" in settings(found.said)["model_from"]
    assert f"STORED=({PLACE})\n" in found.script


def test_what_was_fetched_before_goes_first(plan, store, tmp_path):
    keep(tmp_path / "output" / "ollama_models", PLACE, GGUF)
    found = plan()
    assert f"{tmp_path}/output/ollama_models" in settings(found.said)["model_from"]
    assert "STORED=()\n" in found.script


def test_what_it_does_not_have_is_fetched_without_a_word(plan):
    found = plan("some/other:1b")
    assert "registry.ollama.ai: its job fetches it" in settings(found.said)["model_from"]
    assert "WARNING" not in found.said and "STORED=()\n" in found.script


def remove_blob(store):
    next(store.glob("blobs/*")).unlink()


def shorten_blob(store):
    blob = max(store.glob("blobs/*"), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1])


def spoil_manifest(store):
    (store / "manifests" / PLACE).write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove_blob, r"only a part of some/smol:1b \(blobs/sha256-\w{64}: No such file"),
        (shorten_blob, r"\(blobs/sha256-\w{64} has \d+ bytes in place of \d+\)"),
        (spoil_manifest, "its manifest names no GGUF file"),
        (shutil.rmtree, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_broken_store_is_a_warning_and_the_model_is_fetched(plan, store, spoil, words):
    spoil(store)
    found = plan()
    (warning,) = [line for line in found.said.splitlines() if "WARNING" in line]
    assert found.code == 0 and re.search(words, warning), warning
    assert "ask who keeps the store" in warning and str(store) in warning
    assert "STORED=()\n" in found.script


def test_with_a_broken_store_llamacpp_has_nothing(plan, store):
    remove_blob(store)
    found = plan(engine="llama.cpp")
    assert found.code == 2 and "is given a GGUF file" in found.said
    assert "has only a part of some/smol:1b" in found.said


def test_llamacpp_is_given_the_stores_blob(plan, store):
    blob = max(store.glob("blobs/*"), key=lambda path: path.read_bytes() == GGUF)
    assert str(blob) in plan(engine="llama.cpp").said


# --- files by their names there ------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ollama", "llama.cpp"])
def test_a_file_is_named_by_where_it_is_in_the_store(plan, store, engine):
    found = plan("org/name.gguf", engine)
    assert found.code == 0, found.said
    assert f"recipe: {store}/org/name.gguf" in settings(found.said)["model"]
    assert f"the model store {store}" in settings(found.said)["model_from"]


def test_the_recipes_folder_goes_first(plan, store, tmp_path):
    (tmp_path / "org").mkdir()
    shutil.copy(store / "org" / "name.gguf", tmp_path / "org")
    assert f"recipe: {tmp_path}/org/name.gguf" in plan("org/name.gguf").said


@pytest.mark.parametrize(
    "name", ["../outside.gguf", "org/../../outside.gguf", "./org/name.gguf", "org/none.gguf"]
)
def test_a_name_leads_nowhere_else(plan, store, name):
    found = plan(name)
    assert found.code == 2 and "cannot be read: No such file or directory" in found.said
    assert ("in the model store" in found.said) == (name == "org/none.gguf")


def test_a_name_that_leads_out_by_dots_is_not_looked_for(store, tmp_path):
    from hpc.recipe.reading import in_store

    (tmp_path / "outside.gguf").write_bytes(GGUF)
    assert (store / "../outside.gguf").exists()
    assert in_store("../outside.gguf", store) is None
    assert in_store("org/../../outside.gguf", store) is None


def test_a_store_is_named_by_its_whole_path(plan):
    found = plan(site={"model_store": "models"})
    assert found.code == 2 and "model_store = 'models': must be an absolute path" in found.said


# --- memory --------------------------------------------------------------------------------------


def test_what_it_takes_is_known_by_the_stores_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "hpc.planning.model_files.read_header",
        lambda path: asked.append(path) or Header({}, {}, {}, 5),
    )
    store = tmp_path / "store"
    blob = keep(store, PLACE, GGUF, projector=b"12345")
    found = find_model(origin_of(MODEL, tmp_path / "own", store))
    assert (asked, found.further, found.here) == ([blob], 5, True)


# --- containers ----------------------------------------------------------------------------------


def test_containers_see_where_its_files_are_read_only(plan, store, tmp_path):
    """A blob that is a link leads to another folder of the store's own choice."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    blob = max(store.glob("blobs/*"), key=lambda path: path.read_bytes() == GGUF)
    shutil.move(blob, elsewhere / "weights")
    blob.symlink_to(elsewhere / "weights")
    found = plan(site={"runtime": "apptainer", "scheduler": "local"})
    quoted = shlex.quote(f"{store}/blobs")
    assert f"--bind {quoted}:{quoted}:ro" in found.script
    assert f"--bind {elsewhere}:{elsewhere}:ro" in found.script


# --- the view of a job ---------------------------------------------------------------------------


def view(models, store, script=":", stored=PLACE):
    models.mkdir(exist_ok=True)
    given = f"SERVICE=s MODELS=$1 STORE=$2 STORED=({stored}) JOB_ID=7 NUM_THREAD=3"
    return bash(
        f"{given}; begin_view; show_own_models; {script}",
        str(models),
        str(store),
    )


def test_the_view_links_to_the_store_and_copies_nothing(store, tmp_path):
    before, models = everything(store), tmp_path / "models"
    view(models, store)
    blobs = models / ".view.7" / "blobs"
    links = {path.name: str(path.readlink()) for path in blobs.iterdir() if path.is_symlink()}
    manifest = (store / "manifests" / PLACE).read_text()
    assert links == {
        name.replace(":", "-"): f"{store}/blobs/{name.replace(':', '-')}"
        for name in re.findall(r"sha256:\w+", manifest)
    }
    assert "num_thread" in "".join(
        path.read_text() for path in blobs.iterdir() if not path.is_symlink()
    )
    assert everything(store) == before
    assert sorted(path.name for path in models.iterdir()) == [".view.7", ".view.7.d"]


def test_a_node_without_the_store_says_so_and_fetches(store, tmp_path):
    given = "MODELS=$1 STORE=$2 STORED=($3) JOB_ID=7 NUM_THREAD=3"
    script = f'say() {{ echo "$*"; }}; {given}; begin_view; show_own_models'
    said = bash(script, str(tmp_path), str(store / "missing"), PLACE)
    assert re.match(rf"WARNING: \S+ cannot read {PLACE} and its blobs in the model store", said)


def test_what_was_made_of_a_model_of_the_store_is_kept_by_links(store, tmp_path):
    """And what somebody deletes in the view stays in the store."""
    before, models = everything(store), tmp_path / "models"
    copy = "registry.ollama.ai/library/mine/latest"
    script = (
        'mkdir -p "$VIEW.d/manifests/registry.ollama.ai/library/mine"; '
        f'cp "$VIEW.d/manifests/{PLACE}" "$VIEW.d/manifests/{copy}"; keep_new_models; '
        'rm -f "$VIEW"/blobs/*'
    )
    view(models, store, script)
    assert (models / "manifests" / copy).read_bytes() == (store / "manifests" / PLACE).read_bytes()
    kept = {path.name: path.resolve() for path in (models / "blobs").iterdir()}
    assert kept == {path.name: path for path in store.glob("blobs/*")}
    assert not (models / "manifests" / PLACE).exists()
    assert everything(store) == before


@pytest.mark.parametrize(
    ("engine", "more"),
    [("ollama", {}), ("ollama", {"retrieval": {"embedding_model": MODEL}}), ("llama.cpp", {})],
)
def test_a_script_that_stages_is_well_formed(plan, tmp_path, engine, more):
    path = tmp_path / "script.sh"
    path.write_text(plan(engine=engine, staging="local", **more).script)
    assert 'if [ "$MODE" != --prepare ]; then begin_staging' in path.read_text()
    for command in (["shellcheck", "-x"], ["shfmt", "-i", "2", "-ci", "-d"]):
        assert subprocess.run([*command, path], capture_output=True, text=True).stdout == ""
