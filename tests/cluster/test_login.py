"""A colleague turns his MUNGE credential into a token, and nobody else does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from events import until
from project import PROXY, Project
from slurmcluster import RUN, WORK
from test_containers import boxes as boxes  # a fixture
from test_nobody_else import HOSTS, OTHER

THIRD = "nobody"
CONFIG = WORK / OTHER / "config"
SOCKET = RUN / "munge" / "munge.socket.2"


def with_munge(project: Project, site: str) -> str:
    """A site profile that knows where this cluster's MUNGE is."""
    path = Path(site) if site.endswith(".json") else project.folder / "sites" / f"{site}.json"
    profile = json.loads(path.read_text())
    profile.pop("$schema", None)
    target = project.folder / f"munge-{path.name}"
    target.write_text(json.dumps({**profile, "munge_socket": str(SOCKET)}))
    return str(target)


def shared(project: Project, *with_whom: str) -> str:
    """A recipe that says with whom its deployment is shared."""
    path = Path(project.recipe("shared.json", n_requests_per_client=0))
    data = json.loads(path.read_text())
    data["job"]["share"] = with_whom
    path.write_text(json.dumps(data))
    return str(path)


def login(project: Project, named: str, site: str, user: str) -> subprocess.CompletedProcess[str]:
    """What a user is told by orch.py --login, on another host than the owner's."""
    command = ["python3", str(project.folder / "orch.py"), "--login", named, "--site", site]
    command += ["--output-dir", str(project.output)]
    environment = {**PROXY, "XDG_CONFIG_HOME": str(CONFIG if user == OTHER else "/tmp/config")}
    return project.cluster.on("cpu2", *command, user=user, env=environment, cwd="/")


def curl(project: Project, line: str) -> str:
    """The status of what a printed line of curl's asks, copied by the colleague."""
    asked = f"{line} -o /dev/null -w '%{{http_code}}'"
    return project.cluster.on("cpu2", "bash", "-c", asked, user=OTHER, cwd="/").stdout


@pytest.mark.parametrize("runtime", ["host", "images"])
def test_a_colleague_logs_in_and_nobody_else(
    project: Project, request: pytest.FixtureRequest, runtime: str
) -> None:
    boxes = "slurm" if runtime == "host" else request.getfixturevalue("boxes")
    site = with_munge(project, boxes)
    result = project.orch(shared(project, f"group:{OTHER}"), "--site", site)
    assert result.returncode == 0, result.stdout + result.stderr
    record = project.record()
    assert record["settings"]["share"] == f"group:{OTHER}"
    refused = login(project, record["id"], site, THIRD)
    assert refused.returncode == 4 and "not shared with you" in refused.stderr, refused.stderr
    assert OTHER not in refused.stderr
    assert_no_replay(project, record)
    result = login(project, record["id"], site, OTHER)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if " curl " in line]
    ask = line.strip().removeprefix("ask")
    assert curl(project, ask) == "200"
    token = CONFIG / "orch" / record["id"] / "user.token"
    assert_nobody_sees(project, record, token)
    until(lambda: entry_of(project, record, OTHER)["requests"])
    assert entry_of(project, record, OTHER)["valid"]
    revoked = project.orch("--token", "revoke", OTHER, record["id"])
    assert revoked.returncode == 0, revoked.stderr
    until(lambda: curl(project, ask) == "401")
    assert "not shared with you" in login(project, record["id"], site, OTHER).stderr
    assert project.orch("--stop", "all").returncode == 0
    project.assert_nothing_left()


def entry_of(project: Project, record: dict[str, Any], name: str) -> dict[str, Any]:
    """That of a name in the owner's list of tokens."""
    result = project.orch("--token", "list", record["id"], "--json")
    listed: list[dict[str, Any]] = json.loads(result.stdout)
    return next(one for one in listed if one["name"] == name)


def assert_nobody_sees(project: Project, record: dict[str, Any], token: Path) -> None:
    """The token is in the colleague's own files, and nowhere else."""
    word = token.read_text().strip()
    assert {f.stat().st_mode & 0o777 for f in token.parent.iterdir()} == {0o600}
    assert {f.name for f in CONFIG.rglob("*") if f.is_file() and word in f.read_text()} == {
        "user.token",
        "user.header",
    }
    assert project.files_with(word) == []
    assert project.cluster.on("cpu2", "cat", str(token), user=THIRD, cwd="/").returncode != 0
    for host in HOSTS:
        assert word not in project.cluster.on(host, "ps", "-ef", user="root", check=True).stdout


def assert_no_replay(project: Project, record: dict[str, Any]) -> None:
    """A credential is taken once, here and for this address alone."""
    url = record["endpoints"]["client"]
    owner = project.output.stat().st_uid
    munge = ["munge", f"--socket={SOCKET}", f"--restrict-uid={owner}", "--string"]
    statuses = []
    for address in (url.removeprefix("http://"), "cpu1:1"):
        payload = f"orch login {record['id']} {address}"
        made = project.cluster.on("gpu1", *munge, payload, user=OTHER, check=True).stdout.strip()
        body = json.dumps({"credential": made})
        ask = ["curl", "-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}",
               "-H", "Content-Type: application/json", "-d", body, f"{url}/login"]  # fmt: skip
        for _ in range(2):
            statuses.append(project.cluster.on("gpu1", *ask, user=THIRD, cwd="/").stdout)
    assert statuses == ["200", "401", "401", "401"]
