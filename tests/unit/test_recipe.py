"""What a recipe may say, and what it comes to."""

import json
from pathlib import Path

import pytest

from hpc import recipe_docs
from hpc.recipe import full_model_name, load_recipe, models_of, ollama_name, parse_recipe
from hpc.timelimit import format_time, parse_time

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
    assert recipe.total_requests == 1000
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
    for path, text in recipe_docs.generated().items():
        assert path.read_text() == text, f"{path.name}: run python3 -m hpc.recipe_docs"


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


def test_model_names_get_ollamas_default_tag():
    assert full_model_name("mistral") == "mistral:latest"
    assert full_model_name("mistral:7b") == "mistral:7b"
    assert full_model_name("hf.co:443/a/b") == "hf.co:443/a/b:latest"
