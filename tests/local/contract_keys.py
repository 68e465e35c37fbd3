"""The keys of all that users' scripts read: what there was is there still, more may come.

`PYTHONPATH=tests .venv/bin/python tests/local/contract_keys.py` records those of today anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from place import SMALL, Place, http

RECORDED = Path(__file__).with_suffix(".json")
#: What is named by its content, not by the program.
NAMED_BY_CONTENT = ("jobs", "names", "job_states", "nodes", "images", "environment")


def found(place: Place) -> dict[str, list[str]]:
    """The keys of each answer and file of a deployment that is ready and was measured."""
    there = json.loads(place.orch("--status", "--json").stdout)
    (record,) = (one for one in there if one["state"] == "ready")
    client = record["endpoints"]["client"]
    query = {"prompt": "Hi", "options": {"num_predict": 4}}
    body = {"n_clients": 2, "n_requests_per_client": 2, "num_predict": 4, "id": "keys"}
    answers = {
        "--status --json": record,
        "GET /health": http("GET", f"{client}/health")[1],
        "GET /slots": http("GET", f"{client}/slots")[1],
        "POST /query": http("POST", f"{client}/query", query)[1],
        "POST /query: an error": http("POST", f"{client}/query", {})[1],
        "POST /benchmark": http("POST", f"{client}/benchmark", body)[1],
        "GET /benchmark/ID": http("GET", f"{client}/benchmark/keys")[1],
    }
    folder = place.output / "benchmarks" / "keys"
    for name in ("summary.json", "request.json"):
        answers[name] = json.loads((folder / name).read_text())
    answers["requests.jsonl"] = json.loads((folder / "requests.jsonl").read_text().split("\n")[0])
    keys = {name: sorted(set(keys_of(value))) for name, value in answers.items()}
    keys["requests.csv"] = (folder / "requests.csv").read_text().split("\n")[0].split(",")
    keys["benchmarks/ID/"] = sorted(path.name for path in folder.iterdir() if path.is_file())
    return keys


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """The path of each key; what is in a list counts once."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item, f"{path}[]")
    if isinstance(value, dict):
        for key, inner in value.items():
            by_content = path.rpartition(".")[2] in NAMED_BY_CONTENT
            here = f"{path}.{'*' if by_content else key}".lstrip(".")
            yield here
            if key != "context":  # the deployment's record, which is listed for itself
                yield from keys_of(inner, here)


def record() -> None:
    """Write down what is there today."""
    with TemporaryDirectory() as folder:
        place = Place(Path(folder))
        try:
            place.deploy(place.recipe(model=str(SMALL)))
            RECORDED.write_text(json.dumps(found(place), indent=1) + "\n")
        finally:
            place.orch("--stop", "all")


if __name__ == "__main__":
    record()
