"""Logging in: who shows by MUNGE who he is, and is among those whom the owner shares the deployment
with, gets a token of his own."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, request

from client.api.bodies import Login
from client.api.json_body import read, sent
from client.api.login_answers import LoggedIn, LoginPlace
from client.errors import BadCredential, NameInUse, NoMunge, NotAllowed, NotShared
from client.named_tokens import NamedTokens
from client.self_benchmark import own_url
from client.settings import ServiceSettings
from contracts.named_tokens import (
    NAME,
    RESERVED,
    Barred,
    NamedToken,
    NameTaken,
    digest_of,
    keep_login,
    login_payload,
    new_token,
    tokens_folder,
)
from engines.servers.deployable import DEPLOYED

#: How long a token of a login is valid; all are gone with their deployment.
VALID_S = 7 * 86400
_MAX_BODY_BYTES = 4096  # as in lib/door.cfg
#: lib/munge.sh has an answer in 10 s, or says that MUNGE had none.
_DECODED_S, _LOOK_S = 15.0, 0.02
#: Exit codes of unmunge (munge_err_t in its munge.h), and what is said of them.
_REFUSED: Mapping[int, str] = {
    15: "it is too old: clocks are apart, or it was long on its way",
    16: "it is from the future: clocks are apart",
    17: "it was used before: make another one",
    18: "it is not for the owner of this deployment",
}
_BAD_CODES = range(8, 19)


@dataclass(frozen=True)
class Credential:
    """What a credential says; `groups` are those of its user by now."""

    uid: int
    user: str
    groups: Sequence[str]
    restricted_to: int | None
    payload: bytes


def add_login_routes(app: Flask, settings: ServiceSettings, tokens: NamedTokens | None) -> None:
    """Add GET and POST /login, which alone need no token; without a door nobody logs in."""
    logins = Logins(settings, tokens) if tokens and settings.share else None

    def there() -> Logins:
        if logins is None:
            raise NotShared("Nobody logs in to this deployment: its owner gives tokens.")
        return logins

    @app.get("/login")
    def login_place() -> tuple[Response, int]:
        return sent(there().place())

    @app.post("/login")
    def login() -> tuple[Response, int]:
        request.max_content_length = _MAX_BODY_BYTES
        asked = read(Login)
        return sent(there().login(asked.credential))


class Logins:
    """Gives tokens to those whom a deployment is shared with."""

    def __init__(self, settings: ServiceSettings, tokens: NamedTokens) -> None:
        """`tokens` tells the door of them."""
        self._settings, self._tokens = settings, tokens
        self._deployment = str(settings.deployment)
        self._door = settings.door or Path()
        self._one_at_a_time = threading.Lock()

    def place(self) -> LoginPlace:
        """Return what a credential must be made for."""
        return LoginPlace(deployment=self._deployment, owner=os.getuid())

    def login(self, credential: str) -> LoggedIn:
        """Return a token for whose credential this is. Raises BadCredential, NotAllowed, NameInUse,
        NoMunge, NotPublished."""
        address = own_url(self._settings).partition("://")[2]
        with self._one_at_a_time:
            shown = read_answer(self._decode(credential))
            check(shown, login_payload(self._deployment, address), self._settings.share)
            return self._give(shown)

    def _give(self, shown: Credential) -> LoggedIn:
        name, word, now = name_of(shown), new_token(), time.time()
        token = NamedToken(
            sha256=digest_of(word), created=now, expires=now + VALID_S, uid=shown.uid
        )
        try:
            keep_login(tokens_folder(self._settings.output, self._deployment), name, token)
        except Barred as error:
            raise NotAllowed(_NOT_ALLOWED) from error
        except NameTaken as error:
            raise NameInUse(
                f"The owner of this deployment has given a token of the name {name!r}: take that, "
                "or ask the owner to revoke it."
            ) from error
        self._tokens.look()
        queries = self._settings.server is None
        return LoggedIn(
            token=word,
            name=name,
            expires=now + VALID_S,
            queries=queries,
            ollama=queries and DEPLOYED[self._settings.engine].api == "ollama",
        )

    def _decode(self, credential: str) -> str:
        """What lib/munge.sh says of a credential. Raises NoMunge."""
        name = uuid.uuid4().hex
        answer = self._door / f"login.{name}"
        how = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            pipe = os.open(self._door / "credentials", how)
            try:
                os.write(pipe, f"{name} {credential}\n".encode())  # short enough to go in whole
            finally:
                os.close(pipe)
        except OSError as error:  # nobody reads there
            raise NoMunge(_no_munge("what decodes credentials has ended")) from error
        wait, deadline = threading.Event(), time.monotonic() + _DECODED_S
        while time.monotonic() < deadline:
            try:
                text = answer.read_text("utf-8", "replace")
            except FileNotFoundError:
                wait.wait(_LOOK_S)
                continue
            answer.unlink()
            return text
        raise NoMunge(_no_munge("MUNGE does not answer"))


def _no_munge(why: str) -> str:
    return (
        f"Nobody can log in now: {why} on {os.uname().nodename}; ask the owner of this deployment "
        "for a token (orch.py --token add NAME)."
    )


_NOT_ALLOWED = "This deployment is not shared with you; ask its owner."


def read_answer(text: str) -> Credential:
    """Return the credential of an answer of lib/munge.sh. Raises BadCredential, NoMunge."""
    code, user, groups, found = text.split("\n", 3)
    if int(code) in _BAD_CODES:
        why = _REFUSED.get(int(code), "MUNGE's key on your host is another one, or it is damaged")
        raise BadCredential(f"The credential is not taken: {why}.")
    if int(code) != 0:
        raise NoMunge(_no_munge("MUNGE's daemon does not answer, or there is no unmunge"))
    metadata, _, payload = found.partition("\n\n")
    uids = dict(re.findall(r"^(\w+):.*\((\d+)\)$", metadata, re.MULTILINE))
    restricted = uids.get("UID_RESTRICTION")
    return Credential(
        uid=int(uids["UID"]),
        user=user,
        groups=groups.split(":")[:-1],
        restricted_to=None if restricted is None else int(restricted),
        payload=payload.encode().rstrip(b"\n"),
    )


def check(shown: Credential, payload: bytes, share: Sequence[str]) -> None:
    """Raises BadCredential if a credential was made for something else, NotAllowed if its user is
    not among those whom the deployment is shared with."""
    if shown.restricted_to != os.getuid():
        raise BadCredential(
            "The credential is not taken: others than the owner of this deployment could decode "
            "it; make it with --restrict-uid."
        )
    if shown.payload != payload:
        raise BadCredential(
            "The credential is not taken: it is for another deployment, or another address than "
            "this one's; ask at the address that the deployment's record has."
        )
    wanted = {f"user:{shown.user}", *(f"group:{group}" for group in shown.groups)}
    if not shown.user or not wanted & set(share):
        raise NotAllowed(_NOT_ALLOWED)


def name_of(shown: Credential) -> str:
    """Return the name of a login's token: the user's, if that can be one."""
    if NAME.fullmatch(shown.user) and shown.user not in RESERVED:
        return shown.user
    return f"uid-{shown.uid}"
