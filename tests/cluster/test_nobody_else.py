"""Another user of the cluster, on every host of it, gets nothing of a deployment's engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from events import PATIENCE_S, until
from project import Project
from test_containers import boxes as boxes  # a fixture

HOSTS = ("login1", "cpu1", "cpu2", "gpu1")
OTHER = "hpcother"

#: Asks all TCP ports of a host, and all sockets in the file system that this user may enter, for
#: whatever an engine answers. Prints what was said where, by port or path.
SCAN = r"""
import json, os, socket, sys
host, ports = sys.argv[1], json.loads(sys.argv[2])
paths = [("GET", "/api/tags"), ("GET", "/v1/models"), ("GET", "/api/ps"), ("GET", "/api/version"),
         ("POST", "/api/show"), ("POST", "/api/generate"), ("POST", "/v1/chat/completions"),
         ("DELETE", "/api/delete"), ("POST", "/api/pull"), ("GET", "/metrics"), ("GET", "/")]
def ask(family, where, method, path):
    body = json.dumps({"model": sys.argv[3], "prompt": "Hi", "stream": False})
    try:
        with socket.socket(family) as sock:
            sock.settimeout(20)
            sock.connect(where)
            sock.sendall((f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                          f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
            return sock.makefile("rb").read(100000).decode("latin-1")
    except OSError as error:
        return str(error)
said = {str(port): [ask(socket.AF_INET, (host, port), *one) for one in paths] for port in ports}
for line in open("/proc/net/unix"):
    name = line.split()[7:]
    if name and ("orch" in name[0] or "ollama" in name[0]):
        where = "\0" + name[0][1:] if name[0].startswith("@") else name[0]
        said[name[0]] = [ask(socket.AF_UNIX, where, *one) for one in paths]
print(json.dumps(said))
"""


def scan(project: Project, host: str, at: str, model: str) -> dict[str, list[str]]:
    """What a scan of a host's ports, from another one, or itself, has found."""
    ports = sorted(project.cluster.listening(at))
    command = ["python3", "-c", SCAN, at if host != at else "127.0.0.1", json.dumps(ports), model]
    result = project.cluster.on(host, *command, user=OTHER, check=True)
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def assert_nobody_else_gets_in(project: Project, record: dict[str, Any]) -> None:
    (url,) = record["endpoints"]["ollama"]
    port = url.rpartition(":")[2]
    for host in HOSTS:
        found = scan(project, host, "gpu1", record["model"])
        assert port in found
        for where, answers in found.items():
            for answer in answers:
                assert record["model"] not in answer and '"done"' not in answer, (host, where)
        assert all(answer.startswith("HTTP/1.1 401 ") for answer in found[port]), (host, found)
        assert_the_client_service_lets_nobody_in(project, record, host)
    for name in ("internal", "user"):
        assert_secret(
            project, record, project.output / "deployments" / record["id"] / f"{name}.token"
        )
    token = (project.output / "deployments" / record["id"] / "internal.token").read_text().strip()
    tags = project.curl(f"{url}/api/tags", "-H", f"Authorization: Bearer {token}")
    assert [model["name"] for model in tags["models"]] == [record["model"]]


def assert_the_client_service_lets_nobody_in(
    project: Project, record: dict[str, Any], host: str
) -> None:
    url = record["endpoints"]["client"]
    node, port = url.removeprefix("http://").split(":")
    at = project.host_of(record["jobs"]["client"]["id"])
    assert int(port) in project.cluster.listening(at)
    found = scan(project, host, at, record["model"])
    for where, answers in found.items():
        for answer in answers:
            assert record["model"] not in answer and '"done"' not in answer, (host, node, where)
    assert all(answer.startswith("HTTP/1.1 401 ") for answer in found[port]), (host, found)


def assert_secret(project: Project, record: dict[str, Any], path: Path) -> None:
    """A token is in its file alone, and as curl reads it, which nobody else can read."""
    token = path.read_text().strip()
    assert {one.parent for one in project.files_with(token)} == {path.parent}
    read = project.cluster.on("login1", "cat", str(path), user=OTHER)
    assert read.returncode != 0 and token not in read.stdout
    job_id = record["jobs"]["ollama"]["id"]
    for command in (["scontrol", "show", "job", job_id], ["squeue", "-o", "%all"]):
        assert token not in project.cluster.on("login1", *command, user=OTHER).stdout
    for host in HOSTS:
        listed = project.cluster.on(host, "ps", "-ef", user=OTHER, check=True).stdout
        assert token not in listed


def test_nobody_else_gets_in(project: Project) -> None:
    result = project.orch(project.recipe())
    project.assert_benchmarked(result)
    record = project.record()
    assert record["settings"]["security"] == "required"
    assert "sealed" not in "".join(record["warnings"])
    assert_nobody_else_gets_in(project, record)
    assert project.orch("--stop", "all").returncode == 0
    assert not (project.output / "deployments" / record["id"]).exists()
    project.assert_nothing_left()


def all_targets(project: Project, record: dict[str, Any]) -> list[str]:
    """What Prometheus is to scrape, once all of it is there; until then nothing."""
    files = list((project.output / "prometheus_assets").glob("*_targets_*.json"))
    if len(files) < record["settings"]["monitoring_targets"]:
        return []
    return [json.loads(path.read_text())[0]["targets"][0] for path in files]


def test_nor_into_the_monitoring(project: Project) -> None:
    """Neither figures nor questions nor pushes, of whatever a target file names."""
    recipe = project.recipe(monitoring={}, gpus=0, n_requests_per_client=0)
    result = project.orch_monitored(recipe)
    assert result.returncode == 0, result.stdout + result.stderr
    record = project.record()
    password = project.output / "deployments" / "scrape.token"
    assert f"user orch, password in {password}" in result.stdout
    # exporters come beside their services, and are niced
    targets = until(lambda: all_targets(project, record), 4 * PATIENCE_S)
    gateway = record["endpoints"]["pushgateway"]
    asked = [
        *(["-X", "PUT", "-d", "a 1", f"{gateway}/metrics/job/a"], [f"{gateway}/api/v1/metrics"]),
        *([f"{record['endpoints']['prometheus']}{path}"] for path in ("/api/v1/targets", "/graph")),
        *([f"http://{target}/metrics"] for target in targets),
    ]
    status = ["curl", "-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}"]
    for host in HOSTS:
        for one in asked:
            said = project.cluster.on(host, *status, *one, user=OTHER, check=True).stdout
            assert said == "401", (host, one)
    for name in ("token", "header", "users"):
        kept = password.with_suffix(f".{name}")
        assert kept.stat().st_mode & 0o777 == 0o600
        assert project.cluster.on("login1", "cat", str(kept), user=OTHER).returncode != 0
    assert_secret(project, record, password)
    assert project.files_with(password.read_text().strip()) == [password]
    header = password.with_suffix(".header")
    assert project.files_with(header.read_text().split()[-1]) == [header]
    assert project.orch("--stop", "all").returncode == 0
    project.assert_nothing_left()


def test_nor_where_services_run_from_images(
    project: Project,
    boxes: str,
) -> None:
    result = project.orch(project.recipe(), "--site", boxes)
    project.assert_benchmarked(result)
    record = project.record()
    assert (project.output / "logs" / f"{record['jobs']['ollama']['id']}.seal").read_text() == (
        "sealed\n"
    )
    assert_nobody_else_gets_in(project, record)
    assert project.orch("--stop", "all").returncode == 0
    project.assert_nothing_left()
