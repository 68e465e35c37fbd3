"""A deployment outlives its jobs: the next ones take over, and who asks sees nothing of it."""

from events import PATIENCE_S
from place import http, wait_for

QUESTION = {"prompt": "Say hello", "options": {"num_predict": 8}}


def test_the_next_jobs_take_over_and_every_request_is_answered(place):
    record = place.deploy(place.recipe(time="1:30", until="stopped"))
    old, first = record["endpoints"]["client"], record["jobs"]
    token = place.token_file(record).with_name("user.token").read_text().strip()
    statuses = []

    def moved():
        status, answer = http("POST", f"{old}/query", QUESTION)
        statuses.append(status)
        return answer["error"]["address"] if status == 307 else None

    new = wait_for(moved, PATIENCE_S, lambda: f"never moved: {statuses}")
    assert set(statuses[:-1]) == {200}, "at the old address, while the engines changed"
    assert http("POST", f"{new}/query", QUESTION, token=token)[0] == 200
    assert place.records()[-1]["state"] == "ready"
    record = place.records()[-1]
    assert record["endpoints"]["client"] == new
    assert record["jobs"].keys() == first.keys() and record["jobs"] != first
    ended = place.output / "logs" / f"{first['ollama']['id']}.rc"
    assert ended.read_text() == "0\nits successor serves\n"
    assert "of at most" not in place.orch("--status", record["id"]).stdout
    assert http("GET", f"{new}/health", token=token)[1]["handover"]["dark_s"] is None
    place.stop_all()
    place.assert_nothing_left()
