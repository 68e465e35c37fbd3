"""A model has many names and one identity, as Ollama's own types/model/name.go has it."""

import json

import pytest
from paced_server import running

from engines.names import (
    BadName,
    entry_of,
    listed_as,
    loaded_entry,
    parse,
    same_model,
    short_name,
)
from loadgen.load import servers
from loadgen.load.prompts import Texts
from loadgen.options import Options, parse_replica

HUB = "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF"
SAME = [
    "tiny",
    "tiny:latest",
    "TINY:Latest",
    "library/tiny",
    "Library/Tiny:LATEST",
    "registry.ollama.ai/library/tiny",
    "REGISTRY.ollama.ai/Library/tiny:latest",
    "https://registry.ollama.ai/library/tiny",
]


@pytest.mark.parametrize("name", SAME)
def test_all_names_of_a_model_have_one_short_form(name):
    assert short_name(name).lower() == "tiny:latest"
    assert all(same_model(name, other) for other in SAME)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("tiny:7b-q4_K_M", "tiny:7b-q4_K_M"),
        ("someone/tiny", "someone/tiny:latest"),
        (f"{HUB}:Q4_K_M", f"{HUB}:Q4_K_M"),
        (f"https://{HUB}", f"{HUB}:latest"),
        (f"{HUB}:Llama-3.2-3B-Instruct-IQ3_M.gguf", f"{HUB}:Llama-3.2-3B-Instruct-IQ3_M.gguf"),
        ("localhost:5000/ns/x:tag", "localhost:5000/ns/x:tag"),
        ("localhost:5000/ns/x", "localhost:5000/ns/x:latest"),
        ("registry.ollama.ai/someone/x", "someone/x:latest"),
        ("other.host/library/x", "other.host/library/x:latest"),
        ("_x:_1", "_x:_1"),
    ],
)
def test_the_short_form_keeps_what_is_not_ollamas_default(name, short):
    assert short_name(name) == short
    assert short_name(short) == short


@pytest.mark.parametrize(
    "other", ["tiny:7b", "someone/tiny", "hf.co/library/tiny", "tin", "tiny:latest2"]
)
def test_another_model_is_another(other):
    assert not same_model("tiny", other)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("tiny:", "the tag of 'tiny:' is empty"),
        ("/tiny", "the namespace of '/tiny' is empty"),
        ("a//tiny", "the namespace of 'a//tiny' is empty"),
        ("tiny/", "the model of 'tiny/' is empty"),
        ("ti ny", "the model 'ti ny' must be made of letters"),
        ("tiny\n", "must be made of letters"),
        ("tiny:..", "the tag '..' must be made of"),
        ("../tiny", "the namespace '..' must be"),
        ("some.one/tiny", "the namespace 'some.one' must be made of letters, digits and - _,"),
        ("a:b:c", "the tag 'b:c' must be"),
        ("é", "must be made of letters"),
        ("x" * 81, "is longer than 80 characters"),
        ("tiny:" + "x" * 81, "is longer than 80 characters"),
        ("tiny@sha256:" + "0" * 64, "has a digest, which Ollama takes in no name"),
        ("hf.co/a/b/c.gguf", "has more parts than HOST/NAMESPACE/MODEL:TAG (of a hub the file is "
         "the tag: hf.co/a/b:c.gguf)"),
        ("https://ollama.com/library/tiny", "is the address of a web page: write tiny:latest"),
        ("ollama.com/someone/tiny:v1", "is the address of a web page: write someone/tiny:v1"),
        ("ftp://host/ns/tiny", "has more parts"),
    ],
)  # fmt: skip
def test_what_ollama_takes_for_no_name_is_told_why(name, why):
    with pytest.raises(BadName) as raised:
        parse(name)
    assert why in str(raised.value)
    assert listed_as(name) == name and same_model(name, name)


def test_an_entry_is_found_by_any_name():
    listing = {"models": ["odd", {"name": None}, {"name": "tinY:latest", "digest": "1"}]}
    for name in SAME:
        assert entry_of(listing, name) == {"name": "tinY:latest", "digest": "1"}
    assert entry_of(listing, "another") is None
    assert entry_of({"models": None}, "tiny") is None and entry_of({}, "tiny") is None


def test_what_is_in_memory_under_another_name_is_found_by_its_digest():
    """Ollama lists in /api/ps the name under which a model was loaded, a copy's maybe."""
    tags = {
        "models": [{"name": "tiny:latest", "digest": "1"}, {"name": "copy:latest", "digest": "1"}]
    }
    running = {
        "models": [{"name": "big:7b", "digest": "2"}, {"name": "copy:latest", "digest": "1"}]
    }
    assert loaded_entry(tags, running, "library/tiny") == running["models"][1]
    assert loaded_entry(tags, {"models": running["models"][:1]}, "tiny") is None
    assert (
        loaded_entry({"models": [{"name": "tiny:latest"}]}, {"models": [{"name": "x"}]}, "tiny")
        is None
    )


@pytest.mark.parametrize("name", ["library/known", "Registry.Ollama.AI/library/KNOWN"])
def test_the_load_generator_finds_what_is_loaded_by_any_name(tmp_path, name):
    with running() as server:
        replica = parse_replica(f"http://127.0.0.1:{server.port}")
        (facts,) = servers.probe(
            Options(replicas=(replica,), model=name, out=tmp_path, prompts=Texts())
        )
    assert (facts.digest, facts.size) == ("known:latest", 1000)


def test_bodies_for_shells_need_no_quotes():
    """Job scripts put a name into JSON."""
    for name in (*SAME, f"{HUB}:Q4_K_M"):
        assert json.loads(f'{{"model": "{short_name(name)}"}}')["model"] == short_name(name)
