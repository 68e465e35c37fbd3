"""orch.py --token: tokens for others, by name."""

import json
import re
import time

import pytest

from contracts.files import write_whole
from contracts.named_tokens import (
    Barred,
    NamedToken,
    NameTaken,
    Usage,
    Used,
    digest_of,
    keep_login,
    keep_token,
    read_tokens,
    tokens_folder,
    usage_file,
)
from hpc.deployments.records import create_record


@pytest.fixture
def output(tmp_path):
    """An output directory with the deployment d-1, which asks for tokens."""
    folder = tmp_path / "output"
    (folder / "deployments" / "d-1").mkdir(parents=True)
    site = {"name": "local", "scheduler": "local"}
    create_record(folder, "d-1", {"site": site, "state": "submitting"})
    return folder


def test_a_token_is_shown_once_and_only_its_digest_is_kept(orch, output):
    limits = ["--expires", "2h", "--in-flight", "4", "--per-minute", "60"]
    code, out, _ = orch("--token", "add", "anna", "d-1", *limits)
    word = out.splitlines()[-1]
    assert code == 0 and re.fullmatch("[A-Za-z0-9]{43}", word)
    folder = tokens_folder(output, "d-1")
    token = read_tokens(folder)["anna"]
    assert token.sha256 == digest_of(word)
    assert (token.in_flight, token.per_minute) == (4, 60)
    assert token.expires == pytest.approx(token.created + 7200)
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and file.stat().st_mode & 0o777 == 0o600
    assert word not in file.read_text()


def test_programs_get_a_new_token_as_json(orch, output):
    code, out, _ = orch("--token", "add", "anna", "--json")
    found = json.loads(out)
    assert code == 0 and found["name"] == "anna"
    token = read_tokens(tokens_folder(output, "d-1"))["anna"]
    assert token.sha256 == digest_of(found["token"])


def test_a_revoked_name_may_be_given_again(orch, output):
    _, first, _ = orch("--token", "add", "anna")
    assert orch("--token", "revoke", "anna")[0] == 0
    assert read_tokens(tokens_folder(output, "d-1")) == {}
    _, second, _ = orch("--token", "add", "anna", "d-1")
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "anna", "d-1"], "has a token of the name 'anna'; revoke it first"),
        (["revoke", "bert", "d-1"], "has no token of the name 'bert'; it has: anna"),
        (["add", "Anna", "d-1"], "'Anna' cannot be a token's name"),
        (["add", "../x"], "'../x' cannot be a token's name"),
        (["add", "owner"], "'owner' cannot be a token's name"),
        (["add", "anybody"], "'anybody' cannot be a token's name"),
        (["add", "bert", "nobody"], "there is no deployment 'nobody'"),
        (["add", "bert", "d-1", "more"], "--token takes: add NAME [ID]"),
        (["add"], "--token takes: add NAME [ID]"),
        (["change", "anna"], "--token takes: add NAME [ID]"),
        (["add", "bert", "--expires", "soon"], "--expires is 'soon', but must be"),
        (["add", "bert", "--expires", "999d"], "--expires is '999d', but must be"),
        (["add", "bert", "--in-flight", "0"], "--in-flight is 0, but must be from 1"),
        (["list", "--per-minute", "3"], "--per-minute is for --token add NAME alone"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(orch, output, arguments, words):
    folder = tokens_folder(output, "d-1")
    keep_token(folder, "anna", NamedToken(sha256=digest_of("x"), created=1.0))
    before = read_tokens(folder)
    code, out, err = orch("--token", *arguments)
    assert (code, out) == (2, "") and words in err
    assert read_tokens(folder) == before


def test_a_deployment_that_has_ended_has_no_tokens(orch, output):
    site = {"name": "local", "scheduler": "local"}
    create_record(output, "d-2", {"site": site, "state": "stopped"})
    code, _, err = orch("--token", "add", "anna", "d-2")
    assert code == 2 and "d-2 is stopped" in err


def test_a_deployment_without_a_door_asks_for_no_tokens(orch, output):
    site = {"name": "local", "scheduler": "local"}
    create_record(output, "d-3", {"site": site, "state": "submitting"})
    code, _, err = orch("--token", "add", "anna", "d-3")
    assert code == 2 and "d-3 asks for no tokens" in err


def test_the_list_says_who_has_used_how_much(orch, output):
    folder = tokens_folder(output, "d-1")
    now = time.time()
    anna = NamedToken(sha256=digest_of("x"), created=now, in_flight=2)
    keep_token(folder, "anna", anna)
    keep_token(folder, "bert", NamedToken(sha256=digest_of("y"), created=1.0, expires=2.0))
    used = {"anna": Used(requests=3, seconds=1.25, prompt_tokens=10, completion_tokens=7),
            "carl": Used(requests=1)}  # fmt: skip
    write_whole(usage_file(output, "d-1"), [Usage(users=used).model_dump_json()])
    code, out, _ = orch("--token", "list", "d-1", "--json")
    assert code == 0
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert list(found) == ["owner", "anna", "bert", "carl"]
    valid = {name: entry["valid"] for name, entry in found.items()}
    assert valid == {"owner": True, "anna": True, "bert": False, "carl": False}
    assert (found["anna"]["requests"], found["anna"]["completion_tokens"]) == (3, 7)
    assert "sha256" not in found["anna"] and found["anna"]["in_flight"] == 2
    _, out, _ = orch("--token", "list", "d-1")
    rows = [line.split() for line in out.splitlines()]
    assert rows[2] == ["anna", "-", "2", "-", "3", "1.2", "10", "7"]
    assert [row[1] for row in rows[3:]] == ["expired", "revoked"]


def test_a_login_that_was_revoked_stays_so_until_its_name_is_given(orch, output):
    folder = tokens_folder(output, "d-1")
    token = NamedToken(sha256=digest_of("a"), created=time.time(), uid=1001)
    keep_login(folder, "anna", token)
    assert orch("--token", "revoke", "anna")[0] == 0
    with pytest.raises(Barred):
        keep_login(folder, "anna", token)
    (row,) = [line for line in orch("--token", "list")[1].splitlines() if "anna" in line]
    assert row.split()[1] == "revoked"
    code, _, err = orch("--token", "revoke", "anna")
    assert code == 2 and "has no token of the name 'anna'; it has: none." in err
    code, out, _ = orch("--token", "add", "anna")
    assert code == 0
    kept = read_tokens(folder)["anna"]
    assert kept.sha256 == digest_of(out.splitlines()[-1]) and kept.valid(time.time())
    with pytest.raises(NameTaken):
        keep_login(folder, "anna", token)
