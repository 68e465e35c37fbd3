"""orch.py --ingest: which deployment it goes to, and what it says."""

from pathlib import Path

import pytest

from hpc.deployments.records import create_record
from hpc.ingest import Telling, outcome_lines
from hpc.recipe.reading import parse_recipe
from retrieval.documents import Skipped
from retrieval.ingest import IngestProgress


def deployment(folder, recipe_data, state="stopped", retrieval=None):
    if retrieval is not None:
        recipe_data["job"]["service"]["retrieval"] = retrieval
    facts = {
        "recipe": parse_recipe(recipe_data).model_dump(mode="json", by_alias=True),
        "site": {"name": "local", "scheduler": "local"},
        "state": state,
    }
    (folder / "output" / "deployments").mkdir(parents=True)
    return create_record(folder / "output", "d-1", facts)


@pytest.mark.parametrize(
    ("state", "retrieval", "arguments", "words"),
    [
        ("stopped", {}, [".", "d-1"], "d-1 is stopped; start a new deployment"),
        ("stopped", {}, ["."], "is live; start one with a recipe"),
        ("submitting", None, [".", "d-1"], "lacks job.service.retrieval"),
        ("submitting", {}, [".", "d-1"], "not ready; wait with --attach"),
        ("stopped", {}, [".", "nobody"], "there is no deployment 'nobody'"),
        ("stopped", {}, [".", "d-1", "more"], "takes one path and at most one deployment"),
    ],
)
def test_a_deployment_that_cannot_take_documents_is_named(
    orch, recipe_data, tmp_path, state, retrieval, arguments, words
):
    deployment(tmp_path, recipe_data, state, retrieval)
    code, _, err = orch("--ingest", *arguments)
    assert code == 2 and words in err, err


def test_progress_is_told_now_and_then():
    said, now = [], [0.0]
    telling = Telling(said.append, lambda: now[0])
    progress = IngestProgress(files=20)
    for second in range(120):
        now[0], progress.added = float(second), second * 3
        progress.done = min(19, second // 5)
        telling.take(progress)
    assert said[0] == "1 of 20 files, 27 chunks added"
    assert len(said) == 13 and said[-1].startswith("19 of 20 files")
    header, cells = telling.rows()
    assert dict(zip(header, cells, strict=True))["rate"] == "3.0 chunks/s"


def test_a_batch_that_takes_long_is_told_of_as_well():
    said, now = [], [0.0]
    telling = Telling(said.append, lambda: now[0], files=20)
    for second in range(1, 46):
        now[0] = float(second)
        telling.tick()
    assert len(said) == 5
    assert said[-1] == "0 of 20 files, 0 chunks added, nothing new for 45 s"


def test_what_was_left_out_is_named_up_to_a_number():
    skipped = [Skipped(f"/f{n}", "binary", "it is binary, not text") for n in range(30)]
    progress = IngestProgress(files=40, done=40, unchanged=3, added=5, removed=2, truncated=1)
    progress.skipped = skipped
    first, *lines, last = outcome_lines(progress)
    assert first == (
        "ingested: 10 files, 3 unchanged; 5 chunks added; 2 of earlier versions removed; "
        "1 are longer than the embedding model reads (lower chunk_tokens)"
    )
    assert len(lines) == 20 and lines[0].endswith("/f0: binary: it is binary, not text")
    assert last == "  skipped 10 more files"


def test_a_path_that_is_not_there_is_a_wrong_use(tmp_path):
    from contracts.errors import UsageError
    from hpc.console import Console
    from hpc.ingest import ingest_paths
    from hpc.recipe.sections import Retrieval

    with pytest.raises(UsageError, match=r"there is no .*none; name a file or a folder"):
        ingest_paths("http://x", [Path(tmp_path / "none")], Retrieval(), Console())
