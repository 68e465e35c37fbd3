"""A file of prompts, worked off by a deployment that a recipe makes for it, or by one that is
there."""

import json

from place import SMALL, TINY


def lines(path, number, tokens):
    """Write so many prompts, each with a custom_id of its own."""
    prompt = {"temperature": 0, "seed": 1, "max_tokens": tokens}
    text = [
        json.dumps({"custom_id": f"q{n}", "prompt": f"Say {n}", **prompt}) for n in range(number)
    ]
    path.write_text("\n".join(text) + "\n")
    return path


def answered(path):
    """The custom_ids of all answers, sorted."""
    return sorted(json.loads(line)["custom_id"] for line in path.read_text().splitlines())


def test_recipe_with_a_batch_is_deployed_worked_off_and_stopped(place):
    lines(place.folder / "in.jsonl", 30, 4)
    recipe = place.recipe(model=str(SMALL), batch={"input": "in.jsonl"})
    result = place.orch(recipe, "--site", "local")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "batch: 30 of 30 lines are answered, 0 have failed" in result.stdout
    assert answered(place.folder / "in.out.jsonl") == sorted(f"q{n}" for n in range(30))
    (record,) = place.records()
    assert record["state"] == "ended"
    assert (record["batch"]["state"], record["batch"]["completed"]) == ("completed", 30)
    place.assert_nothing_left()


def test_the_same_command_asks_nothing_again_and_a_deployment_works_files_off_too(place):
    """First by a recipe on the command line, then through the door of one that is there."""
    given, out = lines(place.folder / "in.jsonl", 4, 4), place.folder / "answers"
    recipe = place.recipe(n_clients=2, n_requests_per_client=2, question="Hi?")
    first = place.orch("--batch", given, "--out", out, recipe, "--site", "local", "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["state"] == "ended"
    lines(given, 6, 4)
    record = place.deploy(place.recipe("other.json", model=str(TINY)))
    second = place.orch("--batch", given, "--out", out, record["id"])
    assert second.returncode == 0, second.stderr
    assert "(4 of them before)" in second.stdout
    assert answered(out) == [f"q{n}" for n in range(6)]
    assert place.records()[-1]["state"] == "ready"
    given.write_text('{"custom_id": "q0"}\n')
    assert place.orch("--batch", given, "--out", out, record["id"]).returncode == 2
