"""Links that work once, and sessions: files that open something, each for as long as it may."""

from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.page.passes import MOST_OF_A_NAME, Pass, links_of
from contracts.named_tokens import NamedToken, digest_of

NOW = 1000.0


def a_pass(user: str = "anna", token: str | None = "a" * 64, left_s: float = 60.0) -> Pass:
    return Pass(user=user, token=token, created=time.time(), expires=time.time() + left_s)


def a_token(
    word: str = "a" * 64, expires: float | None = None, *, revoked: bool = False
) -> NamedToken:
    return NamedToken(sha256=word, created=0.0, expires=expires, revoked=revoked)


def test_one_of_many_that_ask_at_once_has_what_a_word_stands_for(tmp_path: Path) -> None:
    links = links_of(tmp_path)
    word = links.add(a_pass())
    with ThreadPoolExecutor(16) as several:
        found = list(several.map(lambda _: links_of(tmp_path).take(word), range(64)))
    assert [one.user for one in found if one] == ["anna"]
    assert links.take("../../etc/passwd") is None


def test_nobody_else_reads_them_and_no_word_is_kept(tmp_path: Path) -> None:
    word = links_of(tmp_path).add(a_pass())
    [file] = (tmp_path / "links").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert word not in file.name + file.read_text()
    assert file.stem == digest_of(word)


def test_of_one_name_there_are_so_many_and_what_has_expired_goes(tmp_path: Path) -> None:
    links = links_of(tmp_path)
    of_bert, expired = links.add(a_pass("bert")), links.add(a_pass("carl", left_s=-1))
    words = [links.add(a_pass()) for _ in range(MOST_OF_A_NAME + 3)]
    there = links.all()
    assert {digest_of(word) for word in (of_bert, *words[3:])} == set(there)
    assert digest_of(expired) not in there


def test_a_damaged_file_opens_nothing(tmp_path: Path) -> None:
    links = links_of(tmp_path)
    word = links.add(a_pass())
    (tmp_path / "links" / f"{digest_of(word)}.json").write_text("{")
    assert links_of(tmp_path).all() == {}
    assert links.take(word) is None


@pytest.mark.parametrize(
    ("token", "opens"),
    [
        (a_token(), True),
        (None, False),
        (a_token("b" * 64), False),  # another one of the same name
        (a_token(revoked=True), False),
        (a_token(expires=NOW - 1), False),
    ],
)
def test_it_ends_with_the_token_that_it_was_asked_for_by(
    token: NamedToken | None, opens: bool
) -> None:
    one = Pass(user="anna", token="a" * 64, created=0.0, expires=NOW + 1)
    assert one.valid(NOW, {"anna": token} if token else {}) is opens
    assert not one.valid(NOW + 2, {"anna": a_token()})


def test_the_owner_needs_no_other_token() -> None:
    assert Pass(user="owner", created=0.0, expires=NOW + 1).valid(NOW, {})
