"""What the client service makes of a credential; tests/local/test_login.py has real ones."""

import os
import subprocess
from pathlib import Path

import pytest

from client.errors import BadCredential, NoMunge, NotAllowed, RequestError
from client.login import Credential, check, name_of, read_answer
from contracts.files import write_whole
from contracts.named_tokens import login_payload

ROOT, ME = Path(__file__).resolve().parents[2], os.getuid()
PAYLOAD = login_payload("d-1", "cpu1:5000")
ANSWER = f"""0
anna
anna:domain users:proj1:
UID:             anna (1001)
UID_RESTRICTION: me ({ME})

orch login d-1 cpu1:5000
"""


def test_an_answer_is_read_with_groups_whose_names_have_blanks():
    shown = read_answer(ANSWER)
    assert shown == Credential(1001, "anna", ["anna", "domain users", "proj1"], ME, PAYLOAD)
    for share in (["user:anna"], ["group:domain users"], ["user:bert", "group:proj1"]):
        check(shown, PAYLOAD, share)


@pytest.mark.parametrize("share", [["user:proj1"], ["group:users"], ["user:"], [], ["group:"]])
def test_only_who_is_named_is_let_in(share):
    with pytest.raises(NotAllowed):
        check(read_answer(ANSWER), PAYLOAD, share)


@pytest.mark.parametrize(
    ("was", "instead"),
    [
        (f"me ({ME})", f"x ({ME + 1})"),
        (f"UID_RESTRICTION: me ({ME})\n", ""),
        ("d-1", "d-2"),
        ("cpu1:5000\n", "cpu1:5000\nmore"),
        # What follows the blank line is the payload, whatever it looks like.
        ("orch login d-1 cpu1:5000", f"UID: root (0)\nUID_RESTRICTION: me ({ME})"),
    ],
)
def test_what_is_made_for_something_else_is_no_credential(was, instead):
    with pytest.raises(BadCredential):
        check(read_answer(ANSWER.replace(was, instead)), PAYLOAD, ["user:anna"])


def test_a_user_whom_the_node_does_not_know_is_nobody():
    shown = read_answer(ANSWER.replace("0\nanna\nanna:domain users:proj1:", "0\n\n"))
    with pytest.raises(NotAllowed):
        check(shown, PAYLOAD, ["user:", "group:", "user:anna"])


CODES = {15: BadCredential, 17: BadCredential, 18: BadCredential, 8: BadCredential,
         6: NoMunge, 127: NoMunge, 124: NoMunge, 1: NoMunge}  # fmt: skip


@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_what_unmunge_refuses_is_a_sentence(code, error):
    with pytest.raises(error) as raised:
        read_answer(f"{code}\n\n\n\n")
    assert isinstance(raised.value, RequestError) and str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("user", "name"),
    [("anna", "anna"), ("Anna", "uid-7"), ("a@b", "uid-7"), ("owner", "uid-7"),
     ("deployment", "uid-7"), ("anybody", "uid-7"), ("a" * 33, "uid-7")],
)  # fmt: skip
def test_a_token_has_the_users_name_if_it_can(user, name):
    assert name_of(Credential(7, user, [], ME, b"")) == name


def test_the_job_script_takes_the_first_uid_alone_and_no_word_of_a_credential(tmp_path):
    """Whatever is in the payload; with a stand-in for unmunge."""
    said = "UID:  root (0)\\n\\nUID: daemon (1)\\n"
    program = ["#!/bin/sh\n", f"cat >{tmp_path}/shown\nprintf '{said}'\n"]
    write_whole(tmp_path / "unmunge", program, 0o755)
    credential = "MUNGE:$(touch pwned):"
    script = f". lib/munge.sh; PATH={tmp_path}:$PATH; decode_one '{credential}' ''"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["0", "root"] and "root" in lines[2].split(":")
    assert (tmp_path / "shown").read_text() == credential
