"""The login that all of the monitoring asks for.

There is one for an output directory: each of its Prometheus scrapes all that runs there.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from contracts.files import not_written, write_atomically, write_whole
from contracts.job_files import MONITORING_USER, monitoring_header, monitoring_login

#: The least that bcrypt has: nobody guesses so long a password, however fast a guess is tried.
_ROUNDS = 4


def make_login(output: Path) -> None:
    """Write what of the login is missing, or belongs to another password than that of its file.

    Raises FileError.
    """
    login = monitoring_login(output)
    password = _password(login.password)
    header = monitoring_header(password)
    with contextlib.suppress(OSError, UnicodeError):
        if login.hashed.exists() and login.header.read_text() == header:
            return
    import bcrypt  # most commands find all of it

    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS)).decode()
    users = f"basic_auth_users:\n  {MONITORING_USER}: {hashed}\n"
    write_atomically(login.hashed, users, mode=0o600)
    write_atomically(login.header, header, mode=0o600)  # the last: it stands for all


def _password(path: Path) -> str:
    """The password of the file, which is made if it is not there. Raises FileError."""
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if not path.exists():
            from contracts.named_tokens import new_token  # as seldom as bcrypt

            write_whole(own, [new_token() + "\n"], mode=0o600)
            with contextlib.suppress(FileExistsError):  # another orch was quicker
                os.link(own, path)
        return path.read_text().strip()
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        own.unlink(missing_ok=True)
