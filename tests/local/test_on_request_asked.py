"""An engine that is there only while somebody asks; with a real Ollama."""

import json
import urllib.request

from events import PATIENCE_S
from place import TINY, http, wait_for

IDLE_S = 8


def test_the_first_request_begins_an_engine_that_ends_when_nobody_asks(place):
    record = place.deploy(place.recipe(model=str(TINY), idle_timeout=f"{IDLE_S}s", on_request=True))
    assert list(record["jobs"]) == ["client"]
    url = record["endpoints"]["client"]

    def state():
        return http("GET", f"{url}/health")[1]["status"]

    assert state() == "sleeping"
    told = wait_for(lambda: place.records()[0]["idle"], PATIENCE_S)
    assert (told["state"], told["ends"]) == ("sleeping", None)
    status, answer = http("POST", f"{url}/query", {"prompt": "Hi", "options": {"num_predict": 4}})
    assert (status, bool(answer["response"])) == (200, True)
    wait_for(lambda: state() == "sleeping", PATIENCE_S)
    wait_for(lambda: list(place.records()[0]["jobs"]) == ["client"], PATIENCE_S)
    assert place.records()[0]["state"] == "ready"
    body = {"model": record["model"], "stream": True, "max_tokens": 4,
            "messages": [{"role": "user", "content": "Hi"}]}  # fmt: skip
    token = place.token_file(record).with_name("user.token").read_text().strip()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE_S) as stream:
        lines = [line.decode().strip() for line in stream if line.strip()]
    assert lines[0].startswith(": waits for the engine")
    assert lines[-1] == "data: [DONE]"
    place.stop_all()
    place.assert_nothing_left()
