"""Logging in by MUNGE at a real door: who gets a token, and who does not."""

import contextlib
import getpass
import grp
import json
import os
import signal
import subprocess
import time

import munged as munged_program
import pytest
from events import PATIENCE_S, until
from own_door import ROOT, Door
from place import http

from contracts.named_tokens import (
    NamedToken,
    digest_of,
    keep_token,
    login_payload,
    read_tokens,
    remove_token,
)

ME, MY_UID = getpass.getuser(), os.getuid()
FOR_ME = f"--restrict-uid={MY_UID}"
OTHER = "nobody"
as_root = pytest.mark.skipif(MY_UID != 0, reason="another user can be had by root alone")


@pytest.fixture
def munged():
    with munged_program.running() as it:
        yield it


@pytest.fixture
def share():
    return [f"user:{ME}", f"user:{OTHER}"]


class LoginDoor(Door):
    def decode(self, munged):
        """Start what decodes credentials, as the job script does."""
        script = (
            'set -uo pipefail; CHILDREN=(); say() { echo "$*"; }; fail() { say "$*"; exit 1; }\n'
            f"PROXY_FOLDER={self.folder}; . lib/munge.sh; decode_credentials {munged.socket}; wait"
        )
        child = subprocess.Popen(["bash", "-c", script], cwd=ROOT, start_new_session=True)
        self.decoder = child
        until((self.folder / "credentials").exists)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def payload(self):
        return login_payload(self.deployment, f"127.0.0.1:{self.port}").decode()

    def login(self, credential):
        return http("POST", f"{self.url}/login", {"credential": credential}, token="")

    def decode_no_more(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.decoder.pid, signal.SIGTERM)
        self.decoder.wait(PATIENCE_S)

    def close(self):
        self.decode_no_more()
        super().close()


@pytest.fixture
def door(tmp_path, monkeypatch, munged, share):
    monkeypatch.setenv("SHARED", "1" if share else "0")
    monkeypatch.setenv("ORCH_SHARE", json.dumps(share))
    monkeypatch.setenv("ORCH_JOB_ID", "42")
    made = LoginDoor(tmp_path)
    (tmp_path / "client_ip_42.txt").write_text(f"127.0.0.1:{made.port}\n")
    try:
        made.decode(munged)
        made.start()
        yield made
    finally:
        made.close()


def test_a_credential_becomes_a_token_that_opens_at_once_until_the_next_login(door, munged):
    assert http("GET", f"{door.url}/login", token="")[1] == {
        "deployment": door.deployment, "owner": MY_UID,
    }  # fmt: skip
    credential = munged.credential(door.payload, FOR_ME)
    status, first = door.login(credential)
    assert (status, first["name"]) == (200, ME)
    assert 6.9 * 86400 < first["expires"] - time.time() <= 7 * 86400
    assert door.status("GET", "/api/version", first["token"]) == 200
    status, said = door.login(credential)
    assert status == 401 and "used before" in said["error"]["message"]
    status, second = door.login(munged.credential(door.payload, FOR_ME))
    assert door.status("GET", "/api/version", second["token"]) == 200
    assert door.status("GET", "/api/version", first["token"]) == 401
    (kept,) = door.tokens.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert second["token"] not in kept.read_text()
    assert list(door.folder.glob("login.*")) == []


@as_root
@pytest.mark.parametrize("share", [["group:nogroup"], [f"user:{OTHER}"]])
def test_who_is_not_named_gets_nothing_and_is_not_told_who_is(door, munged):
    status, said = door.login(munged.credential(door.payload, FOR_ME))
    assert status == 403 and "not shared with you" in said["error"]["message"]
    assert OTHER not in str(said) and "nogroup" not in str(said)
    status, given = door.login(munged.credential(door.payload, FOR_ME, user=OTHER))
    assert (status, given["name"]) == (200, OTHER)


@pytest.mark.parametrize("share", [[f"group:{grp.getgrgid(os.getgid()).gr_name}"]])
def test_a_member_of_a_group_gets_in(door, munged):
    assert door.login(munged.credential(door.payload, FOR_ME))[0] == 200


@as_root
def test_what_is_made_for_something_else_is_refused(door, munged):
    other_place = login_payload(door.deployment, "127.0.0.1:1").decode()
    other_deployment = login_payload("other", f"127.0.0.1:{door.port}").decode()
    shown = {
        munged.credential(other_place, FOR_ME): "another address",
        munged.credential(other_deployment, FOR_ME): "another deployment",
        munged.credential(door.payload): "--restrict-uid",
        munged.credential(door.payload, "--restrict-uid=1"): "not for the owner",
        f"MUNGE:{'A' * 100}:": "damaged",
    }
    for credential, words in shown.items():
        status, said = door.login(credential)
        assert status == 401 and words in said["error"]["message"], said
    for nonsense in ("MUNGE:$(id):", "MUNGE:a\nb:", "MUNGE:::", 1):
        assert door.login(nonsense)[0] == 400
    assert not door.tokens.exists()


def test_an_old_credential_is_refused(door, munged):
    credential = munged.credential(door.payload, FOR_ME, "--ttl=1")
    # MUNGE counts whole seconds, and calls what was decoded before "replayed", not "too old":
    # so nothing may look at it, and only the clock tells when it is.
    made = time.time()
    until(lambda: time.time() > made + 2.5)
    status, said = door.login(credential)
    assert status == 401 and "too old" in said["error"]["message"]


def test_a_name_that_the_owner_has_given_is_left_to_him(door, munged):
    word = door.give(ME)
    status, said = door.login(munged.credential(door.payload, FOR_ME))
    assert status == 409 and ME in said["error"]["message"]
    assert door.status("GET", "/api/version", word) == 200


def test_who_was_revoked_logs_in_no_more_until_the_owner_lets_him(door, munged):
    _, given = door.login(munged.credential(door.payload, FOR_ME))
    remove_token(door.tokens, ME)
    until(lambda: door.status("GET", "/api/version", given["token"]) == 401)
    assert door.login(munged.credential(door.payload, FOR_ME))[0] == 403
    assert not read_tokens(door.tokens)[ME].valid(time.time())
    with pytest.raises(FileNotFoundError):
        remove_token(door.tokens, ME)
    word = "a-new-word"
    keep_token(door.tokens, ME, NamedToken(sha256=digest_of(word), created=time.time()))
    until(lambda: door.status("GET", "/api/version", word) == 200)
    remove_token(door.tokens, ME)
    assert door.login(munged.credential(door.payload, FOR_ME))[0] == 200


def test_nothing_else_is_open_to_who_has_no_token_and_logins_are_few(door):
    for path in ("/login/", "/login/x", "/Login", "/health", "/v1/models", "/x/login"):
        assert http("GET", f"{door.url}{path}", token="")[0] == 401
    assert http("POST", f"{door.url}/login", {"credential": "x" * 5000}, token="")[0] == 413
    answers = [http("GET", f"{door.url}/login", token="")[0] for _ in range(70)]
    assert answers[0] == 200 and answers[-1] == 429
    assert door.status("GET", "/health") == 200


@pytest.mark.parametrize("share", [[]])
def test_a_deployment_that_is_shared_with_nobody_has_no_logins(door, munged):
    assert http("GET", f"{door.url}/login", token="")[0] == 404
    assert door.login(munged.credential(door.payload, FOR_ME))[0] == 404


def test_without_munge_the_answer_says_so(door, munged):
    credential = munged.credential(door.payload, FOR_ME)
    munged.stop()
    status, said = door.login(credential)
    assert status == 503 and "MUNGE's daemon does not answer" in said["error"]["message"]
    munged.start()
    door.decode_no_more()
    status, said = door.login(credential)
    assert status == 503 and "decodes credentials has ended" in said["error"]["message"]


# --- a deployment --------------------------------------------------------------------------------


def test_the_lines_of_a_login_work_as_they_stand(place, munged):
    """From a recipe that shares to curl with the token of a login."""
    site = place.folder / "site.json"
    profile = json.loads((ROOT / "sites" / "local.json").read_text())
    del profile["$schema"]
    site.write_text(json.dumps({**profile, "munge_socket": str(munged.socket)}))
    recipe = place.recipe(share=[f"user:{ME}"], tls=True)
    result = place.orch(recipe, "--site", site, "--no-benchmark", "--json")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    home = {"XDG_CONFIG_HOME": str(place.folder / "config")}
    for named in (record["id"], record["endpoints"]["client"]):
        result = place.orch("--login", named, "--site", site, env=home)
        assert result.returncode == 0, result.stderr
        (curl,) = [line for line in result.stdout.splitlines() if " curl " in line]
    asked = ["bash", "-c", curl.strip().removeprefix("ask")]
    ran = subprocess.run(asked, capture_output=True, text=True, cwd=place.folder)
    assert json.loads(ran.stdout)["response"], ran
    folder = place.folder / "config" / "orch" / record["id"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {f.name: f.stat().st_mode & 0o777 for f in folder.iterdir()} == {
        "user.token": 0o600, "user.header": 0o600, "authority.pem": 0o600,
    }  # fmt: skip
    assert str(folder / "user.header") in curl
    word = (folder / "user.token").read_text().strip()
    assert subprocess.run(["grep", "-rlF", word, place.output]).returncode == 1
