"""A deployment that ends when nobody asks, and who is told of it; with a real Ollama."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from events import PATIENCE_S
from place import SMALL, http, wait_for

IDLE_S = 8
QUERY = {"prompt": "Hi", "options": {"num_predict": 4}}


def test_it_lives_as_long_as_somebody_asks_and_then_ends_by_itself(place):
    """Looks how things stand keep nothing alive."""
    told = place.folder / "told"
    words = ["bash", "-c", f'echo "$ORCH_STATE $ORCH_REASON" >>{told}']
    recipe = place.recipe(model=str(SMALL), idle_timeout=f"{IDLE_S}s", notify={"command": words})
    record = place.deploy(recipe)
    url, begun = record["endpoints"]["client"], time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        while time.monotonic() < begun + 1.5 * IDLE_S:
            assert http("POST", f"{url}/query", QUERY)[0] == 200
        asked_for_long = time.time()
        looking = beside.submit(place.records)
        while not looking.done():  # on a busy machine that takes as long as it may be idle
            assert http("POST", f"{url}/query", QUERY)[0] == 200
    (before,) = looking.result()
    assert before["state"] == "ready"
    assert before["idle"]["timeout_s"] == IDLE_S
    assert asked_for_long - 2 * IDLE_S < before["idle"]["last_request"] < before["idle"]["ends"]

    def ended():
        (now,) = place.records()
        with contextlib.suppress(OSError):  # nobody is there any more
            http("GET", f"{url}/health")
        return now["state"] == "ended" and now

    after = wait_for(ended, PATIENCE_S)
    assert after["job_states"] == dict.fromkeys(
        ("ollama", "client"), f"ended: idle for {IDLE_S} seconds"
    )
    wait_for(lambda: len(told.read_text().splitlines()) == 2, PATIENCE_S)
    assert told.read_text() == f"ready \nended idle for {IDLE_S} seconds\n"
    assert not list((place.output / "deployments").glob("*.idle.json"))
    place.assert_nothing_left()
