"""Qdrant as a job of its own in a deployment that outlives its jobs: the next one opens the storage
that the one before has closed, and no point is lost. The server is a stand-in
(tests/qdrant_server.py), which opens a storage that another one has open as little as Qdrant's."""

import http.client
import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from events import PATIENCE_S
from place import TINY, wait_for

pytestmark = pytest.mark.long
#: Of each job: a minute and a half.
TIME, JOB_S = "1:30", 90


@pytest.fixture
def deployed(place):
    """A chain of short jobs, with Qdrant's beside them."""
    place.on_path("qdrant", "qdrant_server.py")
    section = {"collection": "shelf", "embedding_model": str(TINY), "chunk_tokens": 64,
               "chunk_overlap": 8}  # fmt: skip
    recipe = place.recipe(time=TIME, until="stopped", retrieval=section)
    return place.deploy(recipe)


class Writer:
    """Somebody who stores one chunk after another at the address that he knows, follows where he is
    sent, and asks again if he is refused."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        self.stored, self.refused, self.other, self.pauses = [], [], [], []
        self._end = threading.Event()

    def post(self, **body):
        """The answer, once there is one."""
        began = time.monotonic()
        while True:
            answer, said = self._post(body)
            if answer.status == 200:
                if (took_s := time.monotonic() - began) > 1:
                    self.pauses.append(round(took_s, 1))
                return said
            if answer.status == 307:
                self.url = said["error"]["address"]
                continue
            told = (answer.status, said["error"]["type"], answer.getheader("Retry-After"))
            (self.refused if told == (503, "qdrant_unreachable", "5") else self.other).append(told)
            assert time.monotonic() < began + PATIENCE_S, said
            time.sleep(0.1)

    def _post(self, body):
        at = urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=PATIENCE_S)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        try:
            connection.request("POST", "/points", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer, json.loads(answer.read())
        finally:
            connection.close()

    def _of(self, number, *chunks):
        document = {"source": f"/{number}.txt", "version": "one", "count": 1}
        return self.post(**document, chunks=chunks)

    @contextmanager
    def storing(self):
        def loop():
            while not self._end.is_set():
                number = len(self.stored)
                chunk = {"position": 0, "text": f"chunk {number}", "heading": "", "metadata": {}}
                assert self._of(number, chunk)["complete"]
                self.stored.append(number)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(2 * PATIENCE_S)

    def lost(self):
        """What was acknowledged, and is not there."""
        return [number for number in self.stored if self._of(number)["points"] != 1]


def writer_of(place, record):
    token = place.token_file(record).with_name("user.token").read_text().strip()
    return Writer(record["endpoints"]["client"], token)


def qdrant_of(place):
    return place.records()[-1]["jobs"]["qdrant"]["id"]


def serves_after(place, before):
    """Wait until the next job's Qdrant has the storage; its id."""

    def found():
        record = place.records()[-1]
        job = record["jobs"]["qdrant"]["id"]
        return job != before and record["endpoints"]["qdrant"] and job

    return wait_for(found, JOB_S + 2 * PATIENCE_S, lambda: f"none after {before}")


def test_every_point_that_was_acknowledged_is_found_after_two_hand_overs(place, deployed):
    writer, first = writer_of(place, deployed), qdrant_of(place)
    with writer.storing():
        second = serves_after(place, first)
        serves_after(place, second)
        so_far = len(writer.stored)
        wait_for(lambda: len(writer.stored) > so_far + 5, PATIENCE_S)
    assert writer.other == [], "a refusal says that it passes"
    assert writer.refused, "one at a time has the storage"
    assert writer.stored and writer.lost() == []
    print(len(writer.stored), "stored, refused for", writer.pauses, "s")
    for job in (first, second):
        assert (place.output / "logs" / f"{job}.rc").read_text() == "0\nits successor serves\n"
    place.stop_all()
    place.assert_nothing_left()


def test_a_qdrant_that_is_killed_while_the_next_one_waits_gives_it_way(place, deployed):
    writer, first = writer_of(place, deployed), qdrant_of(place)
    with writer.storing():
        wait_for(lambda: [*place.output.glob("logs/*.prepared")], JOB_S + PATIENCE_S)
        kill_job(place, first)
        serves_after(place, first)
        so_far = len(writer.stored)
        wait_for(lambda: len(writer.stored) > so_far + 5, PATIENCE_S)
    assert writer.other == []
    assert writer.stored and writer.lost() == []
    print(len(writer.stored), "stored, refused for", writer.pauses, "s")
    place.stop_all()
    place.assert_nothing_left()


def kill_job(place, job):
    """Its script and its server, which write nothing down any more."""
    state = json.loads((place.output / "local_jobs" / f"{job}.json").read_text())
    os.killpg(os.getpgid(state["pid"]), signal.SIGKILL)
