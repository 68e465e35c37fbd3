"""Files and batches at the client service, before anything is worked off; what works them off is in
tests/local/test_batch_door.py."""

import errno
import io
import stat
from pathlib import Path

import pytest
from events import until
from flask import Flask

from client.batches import files as bounds
from client.batches import jobs
from client.batches.files import FileStore
from client.batches.jobs import Batches
from client.batches.routes import batch_routes
from client.batches.slots import Asking
from client.named_tokens import NoToken

LINES = b'{"prompt": "a"}\n{"prompt": "b"}\n'
ASKED = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


class Service:
    """The routes, of a deployment whose engines do not answer yet."""

    def __init__(self, folder):
        def never(*_):
            raise AssertionError

        self.folder = folder / "batches"
        self.moved = self.looked = False
        self.batches = Batches(
            self.folder, FileStore(self.folder), self.ready, lambda: self.moved, never
        )
        self.batches.follow()
        self.user, app = "anna", Flask(__name__)
        app.register_blueprint(batch_routes(self.batches, lambda: self.user))
        self.http = app.test_client()

    def ready(self):
        """Asked by whose turn it is."""
        self.looked = True
        return False

    def upload(self, content=LINES, name="in.jsonl", **fields):
        form = {"purpose": "batch", "file": (io.BytesIO(content), name), **fields}
        return self.http.post("/v1/files", data=form)

    def ask(self, **more):
        found = self.http.post("/v1/batches", json={**ASKED, **more})
        return found.status_code, found.json

    def get(self, path):
        found = self.http.get(path)
        return found.status_code, found.json


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_who_has_many_batches_takes_no_other_users_part_of_the_slots():
    asking = Asking()
    for number in range(3000):
        asking.share("bert", f"{number}", 8, None)
    assert asking.share("anna", None, 8, None) == 8
    few = Asking()
    few.share("bert", "a", 8, None)
    assert few.share("anna", "a", 8, None) == few.share("bert", "a", 8, None) == 4
    assert few.share("bert", "b", 8, None) == few.share("bert", "a", 8, None) == 2
    assert few.share("anna", "a", 8, 3) == 3


def test_a_file_is_its_users_alone(service):
    sent = service.upload().json
    assert (sent["bytes"], sent["filename"], sent["purpose"]) == (len(LINES), "in.jsonl", "batch")
    file = f"/v1/files/{sent['id']}"
    assert service.get(file) == (200, sent)
    assert service.http.get(f"{file}/content").data == LINES
    assert service.get("/v1/files")[1]["data"] == [sent]
    _, batch = service.ask(input_file_id=sent["id"])
    service.user = "bert"
    assert service.get("/v1/files")[1]["data"] == service.get("/v1/batches")[1]["data"] == []
    for path in (file, f"{file}/content", f"/v1/batches/{batch['id']}"):
        assert service.get(path)[0] == 404
    assert service.http.delete(file).status_code == 404
    assert service.http.post(f"/v1/batches/{batch['id']}/cancel").status_code == 404
    assert service.ask(input_file_id=sent["id"])[0] == 404


def test_what_is_kept_is_nobody_elses(service):
    service.ask(input_file_id=service.upload().json["id"])
    kept = [service.folder, *service.folder.rglob("*")]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_file()} == {0o600}


@pytest.mark.parametrize("name", ["../../up.jsonl", "/etc/passwd", "x" * 5000, ".", "%2e%2e"])
def test_what_a_client_calls_a_file_is_no_path(service, name, tmp_path):
    before = set(tmp_path.rglob("*"))
    sent = service.upload(name=name)
    assert sent.status_code == 200 and len(sent.json["filename"]) <= 255
    made = {path.name for path in set(tmp_path.rglob("*")) - before}
    file_id = sent.json["id"]
    assert made == {"batches", "files", f"{file_id}.json", f"{file_id}.jsonl"}


@pytest.mark.parametrize("name", ["..", "../files", "%2e%2e%2flock", ".json", "file-", "x" * 9999])
def test_an_id_is_no_path_either(service, name):
    service.upload()
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content", f"/v1/batches/{name}"):
        assert service.http.get(path).status_code in (404, 405)
    assert service.ask(input_file_id=name)[0] == 404


@pytest.mark.parametrize(
    ("form", "param", "code"),
    [
        ({"purpose": "batch"}, "file", "missing_required_parameter"),
        ({"file": (io.BytesIO(b"x"), "a")}, "purpose", "missing_required_parameter"),
        ({"purpose": "assistants", "file": (io.BytesIO(b"x"), "a")}, "purpose", "invalid_value"),
        (
            {"purpose": "batch", "file": (io.BytesIO(b"x"), "a"), "expires_after[seconds]": "9"},
            "expires_after[seconds]",
            "unknown_parameter",
        ),
        (
            {"purpose": "batch", "file": [(io.BytesIO(b"x"), "a"), (io.BytesIO(b"x"), "b")]},
            "file",
            "invalid_value",
        ),
    ],
)
def test_a_form_that_is_wrong_is_refused_by_name_and_leaves_nothing(service, form, param, code):
    found = service.http.post("/v1/files", data=form, content_type="multipart/form-data")
    error = found.json["error"]
    assert (found.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert not list(service.folder.glob("files/*"))


def test_a_body_that_is_no_form_or_ends_too_early_leaves_nothing(service):
    assert service.http.post("/v1/files", json={}).status_code == 400
    begun = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc'
    cut = service.http.post("/v1/files", data=begun, content_type="multipart/form-data; boundary=B")
    assert (cut.status_code, cut.json["error"]["type"]) == (400, "invalid_request_error")
    assert not list(service.folder.glob("files/*"))


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({}, "input_file_id", "missing_required_parameter"),
        ({"input_file_id": 1}, "input_file_id", "invalid_type"),
        ({"endpoint": "/v1/images"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"priority": 1}, "priority", "unknown_parameter"),
    ],
)
def test_a_body_that_is_wrong_is_refused_by_the_key(service, more, param, code):
    file_id = service.upload().json["id"]
    body = {**({"input_file_id": file_id} if more else {}), **more}
    status, said = service.ask(**body)
    assert (status, said["error"]["param"], said["error"]["code"]) == (400, param, code)


def test_there_is_a_bound_on_size_and_number(service, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_FILE_BYTES", 100)
    assert service.upload(b"x" * 101).status_code == 413
    monkeypatch.setattr(bounds, "MOST_BYTES", 150)
    assert service.upload(b"x" * 100).status_code == 200
    full = service.upload(b"x" * 60)
    assert (full.status_code, full.json["error"]["code"]) == (400, "storage_limit_exceeded")
    monkeypatch.setattr(bounds, "MOST_FILES", 1)
    assert "delete some" in service.upload(b"x").json["error"]["message"]
    service.user = "bert"
    assert service.upload(b"x" * 100).status_code == 200
    assert len(list(service.folder.glob("files/*"))) == 4


def test_lists_go_on_after_an_entry(service):
    ids = [service.upload().json["id"] for _ in range(5)]
    page = service.get("/v1/files?order=asc&limit=2")[1]
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:2], True)
    page = service.get(f"/v1/files?order=asc&after={page['last_id']}")[1]
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[2:], False)
    assert service.get("/v1/files?purpose=batch_output")[1]["data"] == []
    for wrong in ("limit=0", "limit=x", f"limit={'9' * 5000}", "after=file-x"):
        status, said = service.get(f"/v1/files?{wrong}")
        assert (status, said["error"]["code"]) == (400, "invalid_value")


def test_a_batch_that_waits_is_known_to_the_next_service_and_can_be_cancelled(service, tmp_path):
    file_id = service.upload().json["id"]
    status, batch = service.ask(input_file_id=file_id, metadata={"for": "me"})
    assert (status, batch["status"], batch["metadata"]) == (200, "validating", {"for": "me"})
    assert service.http.delete(f"/v1/files/{file_id}").status_code == 409
    service.moved = True  # to the door of the next one
    after = Service(tmp_path)
    assert after.get(f"/v1/batches/{batch['id']}") == (200, batch)
    cancelled = after.http.post(f"/v1/batches/{batch['id']}/cancel").json
    assert cancelled["status"] in ("cancelling", "cancelled")
    until(lambda: after.get(f"/v1/batches/{batch['id']}")[1]["status"] == "cancelled")
    again = after.http.post(f"/v1/batches/{batch['id']}/cancel")
    assert (again.status_code, again.json["error"]["code"]) == (409, "conflict")
    assert after.http.delete(f"/v1/files/{file_id}").json["deleted"]


def test_a_batch_is_worked_off_here_again_if_the_next_service_is_lost(
    service, tmp_path, monkeypatch
):
    """The next job has died, and the door keeps what comes."""
    for name in ("AGAIN_S", "ASK_S"):
        monkeypatch.setattr(jobs, name, 0.01)
    service.ask(input_file_id=service.upload().json["id"])
    until(lambda: service.looked)
    service.moved = True
    after = Service(tmp_path)
    until(lambda: after.looked)
    service.looked, after.moved, service.moved = False, True, False
    until(lambda: service.looked)


def test_what_comes_to_the_service_before_while_the_next_one_has_its_turn_is_known_there(
    service, tmp_path
):
    """A request that began before the door sent them on may end when it does."""
    service.upload()
    upload = service.batches.files.begin("anna")
    upload.write(LINES)
    service.moved = True
    after = Service(tmp_path)
    file_id = service.batches.files.keep(upload, "anna", "late.jsonl").id
    assert after.get(f"/v1/files/{file_id}")[1]["filename"] == "late.jsonl"
    first = after.ask(input_file_id=file_id)[1]["id"]
    until(lambda: after.looked)
    batch = service.ask(input_file_id=file_id)[1]
    assert after.get(f"/v1/batches/{batch['id']}") == (200, batch)
    listed = after.get("/v1/batches")[1]["data"]
    assert [one["id"] for one in listed] == [batch["id"], first]
    assert after.http.delete(f"/v1/files/{file_id}").status_code == 409


def test_a_disk_that_fails_for_a_moment_fails_no_batch(service, monkeypatch):
    """Nor does it end who works them off."""
    file_id = service.upload().json["id"]
    batch = service.ask(input_file_id=file_id)[1]
    monkeypatch.setattr(jobs, "AGAIN_S", 0.01)
    service.batches._ready = lambda: True
    whole, tried = Path.read_bytes, []

    def failing(path):
        if path.stem != file_id:
            return whole(path)
        tried.append(path)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        until(lambda: len(tried) > 2)
        assert service.get(f"/v1/files/{file_id}")[1]["error"]["code"] == "output_not_writable"
        assert service.get(f"/v1/batches/{batch['id']}")[1]["status"] == "validating"
    begun = []
    service.batches._start = lambda *given: begun.append(given[1]) or (_ for _ in ()).throw(NoToken)
    until(lambda: begun)
    assert begun[0].read_bytes() == LINES
