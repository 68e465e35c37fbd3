"""orch.py --connect at home: a host that comes to the cluster by ssh to its login node alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, opened, program, says
from project import PROXY, Project
from slurmcluster import NAMESPACE, HostProcess, wait_until

HOME, LOGIN, PORT = "head", "login1", 2222
PATIENCE_S = 120.0

SSHD = """ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
{more}
"""
CONFIG = """Host login
  HostName login1
  Port {port}
Host *
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking accept-new
"""
#: A door that answers all with its name, at a port that it prints.
NEXT = """
import http.server
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"next")
server = http.server.ThreadingHTTPServer(("", 0), Answers)
print("at", server.server_port, flush=True)
server.serve_forever()
"""
#: Asks one stream after another, by turns on a connection that it keeps and on a new one, until a
#: file is there. Prints how many came to their end, and what became of the others.
STREAMS = """
import http.client, json, pathlib, sys
from urllib.parse import urlsplit
url, token, stop = sys.argv[1:]
authorization = "Bearer " + pathlib.Path(token).read_text().strip()
body = json.dumps({"prompt": "Hi", "stream": True, "options": {"num_predict": 100}})
headers = {"Authorization": authorization, "Content-Type": "application/json"}
def connection():
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
def ask(at):
    at.request("POST", "/query", body, headers)
    answer = at.getresponse()
    lines = answer.read().splitlines()
    if answer.status == 200 and lines and json.loads(lines[-1]).get("done"):
        return None
    return [answer.status, str(answer.headers), str(lines[-1:])]
kept, done, failed = connection(), 0, []
while not pathlib.Path(stop).exists():
    for at in (kept, connection()):
        try:
            said = ask(at)
        except (OSError, ValueError, http.client.HTTPException) as error:
            said = repr(error)
        done += said is None
        failed += [said] if said else []
print(json.dumps([done, failed]))
"""


class Ssh:
    """The login node's sshd, and ssh at home with a configuration that leads there."""

    def __init__(self, project: Project) -> None:
        self.project, self.cluster = project, project.cluster
        self.folder = project.folder / "ssh"
        self.daemons: dict[str, HostProcess] = {}
        make = f"""umask 077; rm -rf {self.folder}; mkdir -p {self.folder}/bin; cd {self.folder}
            ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host_key
            printf '#!/bin/sh\\nexec /usr/bin/ssh -F {self.folder}/config "$@"\\n' >bin/ssh
            chmod 700 bin/ssh"""
        self.cluster.on(LOGIN, "bash", "-c", make, check=True)
        self._write("config", CONFIG.format(folder=self.folder, port=PORT))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def serve(self, host: str = LOGIN, port: int = PORT, more: str = "") -> None:
        """Start sshd on a host, and wait until it listens."""
        config = self._write(f"sshd_{host}", SSHD.format(folder=self.folder, more=more))
        command = ["/usr/sbin/sshd", "-D", "-e", "-p", str(port), "-f", str(config)]
        self.daemons[host] = self.cluster.popen(host, *command)
        wait_until(lambda: port in self.cluster.listening(host), PATIENCE_S, f"sshd on {host}")

    def kill(self, host: str = LOGIN) -> None:
        """End sshd there, and all its connections."""
        self.cluster.on(host, "pkill", "-KILL", "sshd", user="root")
        self.daemons.pop(host).end()

    def connect(self, *options: str) -> HostProcess:
        """orch.py --connect at home."""
        path = {"PATH": f"{self.folder}/bin:/usr/bin:/bin"}
        command = ["python3", "-u", str(self.project.folder / "orch.py"), "--connect", *options]
        command += ["--via", f"login:{self.project.folder}", "--json"]
        return self.cluster.popen(HOME, *command, env={**PROXY, **path}, cwd="/")

    def left_at_home(self) -> list[str]:
        """ssh's processes, and folders of ours."""
        folders = self.cluster.seen_by(HOME, "/tmp").glob("orch-*")
        return [*self.processes_at_home(), *map(str, folders)]

    def processes_at_home(self) -> list[str]:
        return self.cluster.on(HOME, "pgrep", "-ax", "ssh").stdout.splitlines()


@pytest.fixture
def ssh(project: Project) -> Iterator[Ssh]:
    it = Ssh(project)
    yield it
    for host in list(it.daemons):
        it.kill(host)


@pytest.fixture
def connected(project: Project, ssh: Ssh) -> Iterator[Callable[..., tuple[HostProcess, Any]]]:
    """Makes connections at home, and ends them: the process, and what it says of itself."""
    result = project.orch(project.recipe("connect.json", n_requests_per_client=0))
    assert result.returncode == 0, result.stderr
    made = []

    def make(*options: str) -> tuple[HostProcess, Any]:
        process = ssh.connect(*options)
        made.append(process)
        return process, json.loads(process.read_until("}"))

    yield make
    for process in made:
        process.send_signal(signal.SIGKILL)
        process.end()


def ask(project: Project, found: Any, path: str, *more: str) -> list[str]:
    """The command by which somebody at home asks through the port."""
    header = Path(found["token_file"]).with_name("user.header")
    return ["curl", "-sSN", "--noproxy", "*", "-m", "120", "-H", f"@{header}",
            *more, f"{found['url']}{path}"]  # fmt: skip


def query(tokens: int) -> list[str]:
    body = {"prompt": "Hi", "stream": True, "options": {"num_predict": tokens}}
    return ["-H", "Content-Type: application/json", "-d", json.dumps(body)]


def assert_healthy(project: Project, found: Any) -> None:
    health = project.cluster.on(HOME, *ask(project, found, "/health"), check=True).stdout
    assert json.loads(health)["status"] == "healthy"


def closed(process: HostProcess) -> str:
    """What it has said, once Ctrl-C has ended it."""
    process.send_signal(signal.SIGINT)
    ended = process.end()
    assert ended.returncode == 0, ended.stderr
    assert "closed" in ended.stderr
    return ended.stderr


def test_at_home_a_port_leads_to_the_door_and_stays_when_ssh_is_lost(
    project: Project, ssh: Ssh, connected: Callable[..., tuple[HostProcess, Any]]
) -> None:
    cluster, url = project.cluster, project.record()["endpoints"]["client"]
    assert project.orch("--address").stdout == f"{url}\n"
    ssh.serve()
    process, found = connected()
    answer = cluster.on(HOME, *ask(project, found, "/query", *query(50)), check=True).stdout
    chunks = [json.loads(line) for line in answer.splitlines()]
    assert len(chunks) > 10 and chunks[-1]["done"]
    opened = [
        "curl",
        "-s",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        found["link"],
    ]
    assert [cluster.on(HOME, *opened).stdout for _ in range(2)] == ["303", "401"]
    assert_secret(project, found)
    ssh.kill()
    asking = cluster.popen(HOME, *ask(project, found, "/health"))
    ssh.serve()
    answered = asking.end()
    assert json.loads(answered.stdout)["status"] == "healthy", answered.stderr
    said = closed(process)
    assert said.count(f"{found['url']} leads to {url}") == 2, said
    assert "ssh to login has ended" in said
    wait_until(lambda: not ssh.left_at_home(), PATIENCE_S, "nothing to be left at home")
    assert_reached_from_the_login_node(project)
    assert project.orch("--stop", "all").returncode == 0
    assert project.orch("--address", project.record()["id"]).returncode == 2
    ssh.kill()
    project.assert_nothing_left()


def assert_secret(project: Project, found: Any) -> None:
    """The token is in no argument, and in no file that others could read."""
    path = project.cluster.seen_by(HOME, found["token_file"])
    word = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for host in (HOME, LOGIN):
        assert word not in project.cluster.on(host, "ps", "-efww", user="root", check=True).stdout


def test_the_page_opens_at_home_and_does_all_that_it_does_at_the_door(
    project: Project, ssh: Ssh, connected: Callable[..., tuple[HostProcess, Any]], tmp_path: Path
) -> None:
    """In a browser there, by the link that works once."""
    ssh.serve()
    process, found = connected()
    with browser(browser_at_home(tmp_path)) as chromium, opened(chromium) as page:
        page.goto(found["link"])
        says(page, "#state", "^healthy$")
        says(page, "#jobs tbody", "ollama.*running.*client.*running")
        page.fill("#prompt-tokens", "20")
        page.press("#prompt-tokens", "Enter")
        says(page, "#prompt-figures", r"^\d+ tokens?, the first after")
        assert page.locator("#answer").inner_text()
        for field, number in (("n-clients", 2), ("n-requests", 3), ("n-tokens", 4)):
            page.fill(f"#{field}", str(number))
        page.click("#benchmark button[type=submit]")
        assert "6 answered, 0 failed" in says(page, "#benchmark-found", "answered")
        says(page, "#benchmark-now", "done, 6 of 6")
        assert all(url.startswith((f"{found['url']}/", "data:")) for url in page.asked)
        assert page.complaints == []
        with opened(chromium) as another:
            assert another.goto(found["link"]).status == 401
            assert another.goto(f"{found['url']}/").status == 401
        assert project.orch("--stop", "all").returncode == 0
        says(page, "#lost", f"does not answer.*--status {project.record()['id']}")
    process.send_signal(signal.SIGKILL)


def browser_at_home(folder: Path) -> Path:
    """A program that begins it with the network of home alone."""
    path = folder / "browser"
    enter = f"nsenter --net=/run/netns/{NAMESPACE}{HOME}"
    path.write_text(f'#!/bin/sh\nexec {enter} {program()} "$@"\n')
    path.chmod(0o755)
    return path


def assert_reached_from_the_login_node(project: Project) -> None:
    process = project.start("--connect", "--json")
    found = json.loads(process.read_until("}"))
    health = project.cluster.on(LOGIN, *ask(project, found, "/health"), check=True).stdout
    assert json.loads(health)["status"] == "healthy"
    assert "ssh" not in closed(process)


@pytest.mark.long
def test_a_moved_door_is_followed_and_streams_come_to_their_end(
    project: Project, ssh: Ssh, connected: Callable[..., tuple[HostProcess, Any]]
) -> None:
    """Its job names another door, as if it had been begun again on another node."""
    cluster = project.cluster
    ssh.serve()
    process, found = connected()
    long = ["-m", "900", *query(20000)]  # a busy machine takes minutes for it
    streaming = cluster.popen(HOME, *ask(project, found, "/query", *long))
    said = streaming.read_until('"response"')
    successor = cluster.popen("gpu1", "python3", "-u", "-c", NEXT)
    port = successor.read_until("at ").split()[1]
    address = project.output / f"client_ip_{project.job_id('client')}.txt"
    address.write_text(f"gpu1:{port}\n")

    def moved() -> bool:
        answer = cluster.on(HOME, *ask(project, found, "/health"))
        assert answer.returncode == 0, answer.stderr
        return answer.stdout == "next"

    wait_until(moved, PATIENCE_S, "the next door to answer")
    said += streaming.read_until('"done":true', 900)
    chunks = [json.loads(line) for line in said.splitlines()]
    assert chunks[-1]["done"] and chunks[-1]["eval_count"] == 20000
    assert f"leads to http://gpu1:{port}" in closed(process)
    successor.send_signal(signal.SIGKILL)


@pytest.mark.long
def test_a_door_that_the_login_node_may_not_pass_on_to_is_reached_by_its_own_node(
    project: Project, ssh: Ssh, connected: Callable[..., tuple[HostProcess, Any]]
) -> None:
    """And killed by SIGKILL it leaves its folder behind, for its user alone, but no ssh."""
    node = project.record()["endpoints"]["client"].split("://")[1].split(":")[0]
    host = project.host_of(project.job_id("client"))
    ssh.serve(more=f"PermitOpen {node}:22")
    anybody = ["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"]
    project.cluster.on(host, *anybody, user="root", check=True)
    ssh.serve(host, 22)
    process, found = connected()
    assert_healthy(project, found)
    os.kill(process.command_pid(), signal.SIGKILL)
    wait_until(lambda: not ssh.processes_at_home(), PATIENCE_S, "ssh to end")
    shutil.rmtree(project.cluster.seen_by(HOME, found["token_file"]).parent)


@pytest.mark.long
def test_a_hand_over_is_followed_and_no_request_fails(
    project: Project, ssh: Ssh, connected: Callable[..., tuple[HostProcess, Any]]
) -> None:
    """Of real jobs of two minutes: three of them."""
    assert project.orch("--stop", "all").returncode == 0
    none = {"n_clients": 1, "n_requests_per_client": 0}
    result = project.orch(project.recipe("chain.json", time="2:00", until="stopped", **none))
    assert result.returncode == 0, result.stderr
    ssh.serve()
    process, found = connected()
    stop = ssh.folder / "stop"
    arguments = [found["url"], found["token_file"], str(stop)]
    streams = project.cluster.popen(HOME, "python3", "-c", STREAMS, *arguments)
    seen = {project.record()["endpoints"]["client"]}

    def moved_twice() -> bool:
        seen.add(project.record()["endpoints"]["client"])  # which the connection has refreshed
        return len(seen - {None}) > 2

    try:
        wait_until(moved_twice, 600, "two hand-overs")
    finally:
        stop.touch()
        ended, said = streams.end(), closed(process)
        print(ended.stdout, ended.stderr, said, sep="\n")  # shown if it fails
    assert ended.returncode == 0
    done, failed = json.loads(ended.stdout)
    assert (failed, done > 100) == ([], True)
    doors = {line.partition(" leads to ")[2] for line in said.splitlines()} - {""}
    assert len(doors) >= 2
