"""The login of the monitoring: files for their owner alone, which belong together."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest
import yaml

from contracts.files import FileError
from contracts.job_files import monitoring_login
from hpc.deployments.login import make_login
from hpc.endpoints import OutputDir


def files_of(output: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (output / "deployments").iterdir()}


def test_all_files_are_of_one_password_and_for_their_owner_alone(tmp_path: Path) -> None:
    OutputDir(tmp_path).prepare()
    login = monitoring_login(tmp_path)
    password = login.password.read_text().strip()
    assert len(password) == 43 and password.isalnum()
    ((user, hashed),) = yaml.safe_load(login.hashed.read_text())["basic_auth_users"].items()
    assert user == "orch" and bcrypt.checkpw(password.encode(), hashed.encode())
    sent = login.header.read_text().removeprefix("Authorization: Basic ")
    assert base64.b64decode(sent).decode() == f"orch:{password}"
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "deployments").iterdir()}
    assert modes == {0o600}


def test_a_login_that_is_there_stays(tmp_path: Path) -> None:
    OutputDir(tmp_path).prepare()
    before = files_of(tmp_path)
    OutputDir(tmp_path).prepare()
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("gone", ["password", "hashed", "header"])
def test_what_is_missing_is_made_to_fit(tmp_path: Path, gone: str) -> None:
    OutputDir(tmp_path).prepare()
    login = monitoring_login(tmp_path)
    getattr(login, gone).unlink()
    OutputDir(tmp_path).prepare()
    test_all_files_are_of_one_password_and_for_their_owner_alone(tmp_path)


def test_those_who_make_it_at_once_make_one(tmp_path: Path) -> None:
    (tmp_path / "deployments").mkdir()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_login, [tmp_path] * 8))
    test_all_files_are_of_one_password_and_for_their_owner_alone(tmp_path)
    assert len(files_of(tmp_path)) == 3


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot write .*scrape\.token: No such file"):
        make_login(tmp_path)
