"""A wrong recipe ends in exit code 2 and one clear block, and reaches nothing that executes it."""

import json

import pytest

from contracts.errors import UsageError
from hpc.recipe.reading import parse_recipe

EVIL = [
    "a; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "a\r\n#SBATCH --uid=0",
    "a'b",
    'a"b',
    "../up",
    "a b",
    "-rf",
    "a|b",
    "a&b",
    "a\0b",
    "é",
    "",
    "x" * 65,
]
NAME_PATHS = [
    "job.name",
    "job.infrastructure.partition",
    "job.infrastructure.client_partition",
    "job.infrastructure.account",
    "job.infrastructure.qos",
]
OTHER = [
    ("job.infrastructure.nodes", -1, "must be at least 1"),
    ("job.infrastructure.nodes", 0, "must be at least 1"),
    ("job.infrastructure.nodes", 10**30, "must be at most"),
    ("job.infrastructure.nodes", "1", "must be a whole number"),
    ("job.infrastructure.nodes", 1.5, "must be a whole number"),
    ("job.infrastructure.nodes", True, "must be a whole number"),
    ("job.infrastructure.gpus", -1, "must be at least 0"),
    ("job.infrastructure.cpus", 0, "must be at least 1"),
    ("job.infrastructure.mem_gb", "64", "must be a whole number"),
    ("job.infrastructure.mem_gb", -64, "must be at least 1"),
    ("job.infrastructure.mem_gb", [], "must be a whole number"),
    ("job.infrastructure.time", "", "must be a time"),
    ("job.infrastructure.time", "0", "more than 0"),
    ("job.infrastructure.time", "00:00:00", "more than 0"),
    ("job.infrastructure.time", "-5", "must be a time"),
    ("job.infrastructure.time", "1:2:3:4", "must be a time"),
    ("job.infrastructure.time", "01:61:00", "must be a time"),
    ("job.infrastructure.time", "1-24", "more than 23 hours"),
    ("job.infrastructure.time", "99999-00", "365 days"),
    ("job.infrastructure.time", "999999999999", "must be a time"),
    ("job.infrastructure.time", "UNLIMITED", "must be a time"),
    ("job.infrastructure.time", "1h", "must be a time"),
    ("job.infrastructure.time", "01:00:00\n", "must be a time"),
    ("job.infrastructure.time", "\u0661:\u0660\u0660", "must be a time"),
    ("job.infrastructure.time", 60, "must be a string"),
    ("job.infrastructure.time", "$(touch pwned)", "must be a time"),
    ("job.infrastructure.partiton", "gpu", "did you mean job.infrastructure.partition?"),
    ("job.infrastructure.model", "x", "did you mean job.service.model?"),
    ("job.infrastructure", [], "must be an object"),
    ("job.service", None, "must be an object"),
    ("job.service.type", "training", "must be 'inference'"),
    ("job.service.model", None, "must be a string"),
    ("job.service.model", "", "must not be empty"),
    ("job.service.model", "../../etc/passwd", "No such file"),
    ("job.service.model", "tiny:../../etc", "must be a model's name"),
    ("job.service.model", "tiny@sha256:0123", "has a digest, which Ollama takes in no name"),
    ("job.service.model", "tiny:", "the tag of 'tiny:' is empty"),
    ("job.service.model", "a/b/c/d", "has more parts than HOST/NAMESPACE/MODEL:TAG"),
    ("job.service.model", "https://ollama.com/library/tiny", "write tiny:latest"),
    ("job.service.model", "tiny\x7f", "without control characters"),
    ("job.service.model", "mistral; touch pwned", "must be a model's name"),
    ("job.service.model", "$(touch pwned)", "must be a model's name"),
    ("job.service.model", 'a"b', "must be a model's name"),
    ("job.service.model", "a\nb.gguf", "without control characters"),
    ("job.service.precision", "f; touch pwned", "must match"),
    ("job.service.precision", 16, "must be a string"),
    ("job.service.require_precision", "yes", "must be true or false"),
    ("job.service.keep_alive", "5m; touch pwned", "must match"),
    ("job.service.think", "much", "must be true, false, low, medium or high"),
    ("job.service.think", 1, "must be true, false, low, medium or high"),
    ("job.service.format", "yaml", "must be json, or a JSON Schema"),
    ("job.service.format", {}, "must be json, or a JSON Schema"),
    ("job.service.context_length", 0, "must be at least 64"),
    ("job.service.num_parallel", 0, "must be at least 1"),
    ("job.service.num_thread", 0, "must be at least 1"),
    ("job.service.num_thread", 1025, "must be at most 1024"),
    ("job.service.num_thread", "4", "must be a whole number"),
    ("job.service.n_clients", 0, "must be at least 1"),
    ("job.service.n_clients", 10_001, "must be at most 10000"),
    ("job.service.n_clients", "100", "must be a whole number"),
    ("job.service.n_requests_per_client", -1, "must be at least 0"),
    ("job.service.n_requests_per_client", 1_000_000, "must be at most 1000000 requests"),
    ("job.service.prompt", "", "must not be empty"),
    ("job.service.prompt", " \n", "not blank"),
    ("job.service.prompt", "\0", "without NUL"),
    ("job.service.clients", 3, "unknown key"),
    ("job.service.retrieval", True, "must be an object"),
    ("job.service.retrieval", {"colection": "x"}, "did you mean job.service.retrieval.collection?"),
    ("job.service.retrieval", {"collection": "../up"}, "must match the pattern"),
    ("job.service.retrieval", {"embedding_model": "a; touch pwned"}, "must be a model's name"),
    ("job.service.retrieval", {"documents": "docs"}, "must be a list"),
    ("job.service.retrieval", {"documents": [""]}, "must not be empty"),
    ("job.service.retrieval", {"top_k": 0}, "must be at least 1"),
    ("job.service.retrieval", {"chunk_tokens": 8}, "must be at least 16"),
    ("job.service.retrieval", {"chunk_tokens": 64, "chunk_overlap": 33}, "at most half of chunk_t"),
    ("job.service.retrieval", {"top_k": 100}, "top_k x chunk_tokens is 25600, but must be less"),
    ("job.service.retrieval", {"benchmark": 1}, "must be true or false"),
    ("job.service.retrieval", {"documents": ["none.md"]}, "there is no /"),
    ("job.service.retrieval", {"embedding_model": "none.gguf"}, "No such file"),
    ("job.share", "user:abc", "must be a list"),
    ("job.share", ["abc"], 'must be "user:NAME" or "group:NAME"'),
    ("job.share", ["host:abc"], 'must be "user:NAME" or "group:NAME"'),
    ("job.share", ["user:"], 'must be "user:NAME" or "group:NAME"'),
    ("job.share", ["group:a:b"], 'must be "user:NAME" or "group:NAME"'),
    ("job.share", ["user:a\nb"], 'must be "user:NAME" or "group:NAME"'),
    ("jobs", {}, "did you mean job?"),
]
FILES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "not JSON": (b"{job: 1}", "is not valid JSON"),
    "cut": (b'{"job": {"name": "x"', "is not valid JSON"),
    "comment": (b'{"job": {} // x\n}', "is not valid JSON"),
    "byte-order mark": (b"\xef\xbb\xbf{}", "byte-order mark"),
    "UTF-16": ('{"job": {}}'.encode("utf-16"), "is not UTF-8"),
    "Latin-1": ('{"job": "é"}'.encode("latin-1"), "is not UTF-8"),
    "binary": (bytes(range(256)), "is not UTF-8"),
    "NaN": (b'{"job": {"service": {"n_clients": NaN}}}', "NaN is not a number"),
    "Infinity": (b'{"job": {"service": {"n_clients": -Infinity}}}', "-Infinity is not a number"),
    "overflow": (
        b'{"job": {"service": {"temperature": 1e400}}}',
        "1e400 is too large for a number",
    ),
    "duplicate keys": (b'{"job": {"name": "a", "name": "b"}}', "'name' is given twice"),
    "deep": (b"[" * 200_000, "nested too deeply"),
    "long number": (b'{"job": ' + b"9" * 5000 + b"}", "is not usable"),
    "huge": (b'{"job": "' + b"x" * 2_000_000 + b'"}', "larger than"),
    "list": (b"[]", "must be an object"),
    "null": (b"null", "must be an object"),
    "no service": (b'{"job": {"name": "x"}}', "job.service: is missing"),
}


def spoil(data, path, value):
    *parents, last = path.split(".")
    for parent in parents:
        data = data[parent]
    data[last] = value


def assert_refused(result, folder, words):
    code, out, err = result
    assert code == 2
    assert words in err, err
    assert "Traceback" not in out + err
    assert err.startswith("orch: ") and err.count("orch: ") == 2
    assert "nothing was submitted" in err
    assert not (folder / "output").exists()
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize(("path", "value", "words"), OTHER)
def test_wrong_value_is_refused_with_its_path(orch, recipe_data, tmp_path, path, value, words):
    spoil(recipe_data, path, value)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    result = orch("recipe.json", "--site", "local")
    assert_refused(result, tmp_path, words)
    assert path in result[2]


@pytest.mark.parametrize("path", NAME_PATHS)
@pytest.mark.parametrize("value", EVIL)
def test_names_are_names_and_nothing_else(recipe_data, path, value):
    spoil(recipe_data, path, value)
    with pytest.raises(UsageError) as error:
        parse_recipe(recipe_data)
    assert error.value.details[0].startswith(f"{path} = ")


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_recipe_is_refused(orch, tmp_path, name):
    content, words = FILES[name]
    (tmp_path / "recipe.json").write_bytes(content)
    assert_refused(orch("recipe.json", "--site", "local"), tmp_path, words)


def test_missing_file_and_folder_are_named(orch, tmp_path):
    assert_refused(
        orch("none.json", "--site", "local"), tmp_path, "recipe none.json cannot be read"
    )
    assert_refused(orch(tmp_path, "--site", "local"), tmp_path, "Is a directory")


def test_all_errors_are_told_at_once(orch, recipe_data, tmp_path):
    spoil(recipe_data, "job.infrastructure.nodes", -1)
    spoil(recipe_data, "job.service.model", 3)
    spoil(recipe_data, "job.service.modle", "x")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_data))
    _, _, err = orch("recipe.json", "--site", "local")
    assert "3 errors" in err
    assert "job.infrastructure.nodes" in err
    assert "job.service.model = 3" in err
    assert "job.service.modle: unknown key; did you mean job.service.model?" in err


def test_a_model_file_must_be_there_and_be_gguf(orch, recipe_data, tmp_path):
    recipe = tmp_path / "recipe.json"
    spoil(recipe_data, "job.service.model", "none.gguf")
    recipe.write_text(json.dumps(recipe_data))
    assert_refused(orch(recipe, "--site", "local"), tmp_path, "No such file")
    (tmp_path / "none.gguf").write_text("not a model")
    assert_refused(orch(recipe, "--site", "local"), tmp_path, "is not a GGUF file")
