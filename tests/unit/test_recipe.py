"""What a recipe may say, and what it comes to."""

import json
from pathlib import Path

import pytest

from contracts.errors import UsageError
from hpc.recipe import docs
from hpc.recipe.reading import load_recipe, models_of, ollama_name, parse_recipe
from hpc.times import format_time, parse_time

PROJECT = Path(__file__).resolve().parents[2]


def test_original_example_is_accepted_as_it_stands():
    recipe = parse_recipe(
        {
            "job": {
                "name": "ollama_inference_job",
                "infrastructure": {
                    "partition": "gpu",
                    "account": "p200981",
                    "nodes": 1,
                    "mem_gb": 64,
                    "time": "01:00:00",
                },
                "service": {
                    "type": "inference",
                    "model": "llama2",
                    "precision": "fp16",
                    "n_clients": 100,
                    "n_requests_per_client": 10,
                },
            }
        }
    )
    assert recipe.job.service.requests_planned == 1000
    assert recipe.time_seconds == 3600


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "recipe_ex").glob("*.json")), ids=lambda p: p.name
)
def test_examples_are_valid_and_name_the_schema(path):
    data = json.loads(path.read_text())
    assert data["$schema"] == "../recipe.schema.json"
    parse_recipe(data)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 60),
        ("90", 5400),
        ("05:30", 330),
        ("90:00", 5400),
        ("01:00:00", 3600),
        ("30:00:00", 108000),
        ("1-0", 86400),
        ("2-12", 216000),
        ("1-12:30", 131400),
        ("1-12:30:15", 131415),
    ],
)
def test_every_time_format_of_slurm(text, seconds):
    assert parse_time(text) == seconds
    assert parse_time(format_time(seconds)) == seconds


def test_generated_files_are_up_to_date():
    for path, text in docs.generated().items():
        assert path.read_text() == text, f"{path.name}: run python3 -m hpc.recipe.docs"


def test_model_path_is_relative_to_the_recipe_and_tagged(tmp_path, recipe_data, monkeypatch):
    (tmp_path / "My Model.Q4.gguf").write_bytes(b"GGUF one")
    recipe_data["job"]["service"]["model"] = "My Model.Q4.gguf"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    monkeypatch.chdir("/")
    model = load_recipe(tmp_path / "recipe.json").job.service.model
    assert model == str(tmp_path / "My Model.Q4.gguf")
    first = ollama_name(model)
    assert first.startswith("my-model.q4:")
    Path(model).write_bytes(b"GGUF another")
    assert ollama_name(model) != first


def test_paths_of_retrieval_are_relative_to_the_recipe(tmp_path, recipe_data, monkeypatch):
    (tmp_path / "embed.gguf").write_bytes(b"GGUF")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("text")
    recipe_data["job"]["service"]["retrieval"] = {
        "embedding_model": "embed.gguf",
        "documents": ["docs"],
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    monkeypatch.chdir("/")
    retrieval = load_recipe(tmp_path / "recipe.json").job.service.wanted_retrieval
    assert retrieval.embedding_model == str(tmp_path / "embed.gguf")
    assert retrieval.documents == [str(tmp_path / "docs")]


def test_retrieval_that_is_not_enabled_is_not_wanted(tmp_path, recipe_data):
    retrieval = {"enabled": False, "documents": ["none"]}
    recipe_data["job"]["service"]["retrieval"] = retrieval
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    recipe = load_recipe(tmp_path / "recipe.json")
    assert recipe.job.service.wanted_retrieval is None
    assert models_of(recipe) == ["mistral:7b"]


# --- a name or a path ---

HUB = "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF"


def model_of(folder, recipe_data, model):
    recipe_data["job"]["service"]["model"] = model
    (folder / "recipe.json").write_text(json.dumps(recipe_data))
    return load_recipe(folder / "recipe.json").job.service.model


@pytest.mark.parametrize(
    "model",
    [
        f"{HUB}:Llama-3.2-3B-Instruct-IQ3_M.gguf",
        f"{HUB}:Q4_K_M",
        f"https://{HUB}:a.GGUF",
        "foo.gguf:latest",
        "someone/model.gguf:v1",
        "registry.ollama.ai/library/tiny",
        "localhost:5000/ns/model.gguf:x",
    ],
)
def test_what_ends_as_a_file_does_and_has_a_tag_is_a_name(tmp_path, recipe_data, model):
    assert model_of(tmp_path, recipe_data, model) == model


@pytest.mark.parametrize("name", ["foo.gguf", "blob", "some/blob", "mistral:7b", "a b.gguf"])
def test_what_is_the_path_of_a_gguf_file_here_is_a_path(tmp_path, recipe_data, name):
    (tmp_path / "some").mkdir()
    (tmp_path / name).write_bytes(b"GGUF...")
    assert model_of(tmp_path, recipe_data, name) == str(tmp_path / name)
    assert model_of(tmp_path, recipe_data, f"./{name}") == str(tmp_path / name)


@pytest.mark.parametrize("there", ["folder", "file"])
def test_a_folder_or_another_file_of_that_name_makes_no_path_of_a_name(
    tmp_path, recipe_data, there
):
    place = tmp_path / "mistral"
    place.mkdir() if there == "folder" else place.write_text("notes")
    assert model_of(tmp_path, recipe_data, "mistral") == "mistral"


def test_a_path_from_home(tmp_path, recipe_data, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "blob").write_bytes(b"GGUF...")
    assert model_of(tmp_path, recipe_data, "~/blob") == str(tmp_path / "blob")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("foo.gguf", "foo.gguf:latest"),
        ("someone/foo.gguf", "someone/foo.gguf:latest"),
        (f"{HUB}/foo.gguf", f"{HUB}:foo.gguf"),
    ],
)
def test_what_looks_like_a_file_and_is_not_there_is_told_in_both_readings(
    tmp_path, recipe_data, model, name
):
    with pytest.raises(UsageError) as raised:
        model_of(tmp_path, recipe_data, model)
    (line,) = raised.value.details
    assert f"{tmp_path}/{model}" in line and "cannot be read: No such file or directory" in line
    assert line.endswith(f"if it is a model's name in Ollama, write it with its tag: {name}")


@pytest.mark.parametrize(
    "model", ["./mistral", "/no/such", "../x", "~nobody-of-this-name/x.gguf", "./"]
)
def test_a_plain_path_is_never_a_name(tmp_path, recipe_data, model):
    with pytest.raises(UsageError) as raised:
        model_of(tmp_path, recipe_data, model)
    (line,) = raised.value.details
    assert "cannot be read" in line or "is not a GGUF file" in line


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("library/tiny", "tiny:latest"),
        ("REGISTRY.ollama.ai/Library/tiny:LATEST", "tiny:latest"),
        (f"https://{HUB}:Q4_K_M", f"{HUB}:Q4_K_M"),
        ("someone/tiny", "someone/tiny:latest"),
    ],
)
def test_what_is_deployed_goes_by_the_name_that_ollama_lists(model, listed):
    assert ollama_name(model) == listed
