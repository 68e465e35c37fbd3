"""A door that has a successor: what is asked here is answered there, and the client goes there."""

import contextlib
from http.client import HTTPConnection

from events import PATIENCE_S, until
from own_door import Door

from client.handover.door import Door as Told

HEAD = {"Authorization": "Bearer owners-word"}


def test_who_keeps_his_connection_is_told_and_comes_anew(tmp_path):
    """By https nobody in between could see that he is to go elsewhere: the door closes."""
    with contextlib.ExitStack() as doors:
        old, new = (Door(tmp_path / name) for name in ("old", "new"))
        for door in (old, new):
            doors.callback(door.close)
            door.start()
        at = f"http://127.0.0.1:{new.port}"
        connection = HTTPConnection("127.0.0.1", old.port, timeout=PATIENCE_S)
        doors.callback(connection.close)

        def asked():
            connection.request("GET", "/slots", headers=HEAD)
            answer = connection.getresponse()
            assert answer.read() and answer.status == 200
            return answer.headers["orch-address"], answer.will_close

        assert asked() == (None, False)
        Told(old.folder).forward(at)
        assert until(lambda: (found := asked())[0] and found) == (at, True)
        Told(old.folder).redirect(at)
        connection.request("GET", "/slots", headers=HEAD)
        moved = connection.getresponse()
        assert (moved.status, moved.headers["Location"]) == (307, f"{at}/slots")
