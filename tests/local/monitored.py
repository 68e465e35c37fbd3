"""A Prometheus with our configuration, and what it scrapes."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

from events import PATIENCE_S
from programs import needed

from contracts.job_files import monitoring_login
from hpc.endpoints import OutputDir
from hpc.web import call

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
COLLECTORS = ["cpu", "meminfo", "loadavg", "netdev", "diskstats", "filesystem", "uname"]
COLLECTORS += ["pressure", "time", "stat"]


class Monitoring:
    """Prometheus in a folder of its own, laid out as its job does it."""

    def __init__(self, folder):
        self.folder = folder
        self.assets = folder / "prometheus_assets"
        self.assets.mkdir()
        self.configuration = folder / "configuration"
        shutil.copytree(MONITORING / "rules", self.configuration / "rules")
        shutil.copy(MONITORING / "prometheus.yml", self.configuration)
        output = OutputDir(folder / "output")
        output.prepare()
        self.login = monitoring_login(output.path)
        (self.configuration / "scrape_token").symlink_to(self.login.password)
        (self.configuration / "targets").symlink_to(self.assets)
        self.stack = contextlib.ExitStack()

    def start(self):
        """Start it, and wait until it is ready."""
        program = needed("prometheus", "prometheus")
        config = self.configuration / "prometheus.yml"
        self.address = self.run(
            program, f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'data'}"
        )
        self.add("prometheus", "monitoring", self.address)

    def run(self, *command):
        """Start a program on a free port until the end of the test; its address once it answers."""
        address = f"127.0.0.1:{free_port()}"
        log = (self.folder / f"{Path(command[0]).name}.log").open("w")
        process = subprocess.Popen(
            [
                *command,
                f"--web.listen-address={address}",
                f"--web.config.file={self.login.hashed}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.stack.callback(process.wait, PATIENCE_S)
        self.stack.callback(process.terminate)
        deadline = time.monotonic() + PATIENCE_S
        while not answers(address):
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.05)
        return address

    def add(self, kind, service, address, replica=""):
        """Write a target file, as the services' jobs do."""
        labels = {"deployment": "d-1", "service": service, "job_id": "7", "node": "n1"}
        entry = {"targets": [address], "labels": {**labels, "replica": replica}}
        path = self.assets / f".{kind}"
        path.write_text(json.dumps([entry]))
        path.rename(self.assets / f"{kind}_targets_7.json")

    def query(self, expr):
        """The samples of an expression, now: a list of (labels, value)."""
        arguments = urllib.parse.urlencode({"query": expr})
        answer = self.get(f"query?{arguments}")
        return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    def get(self, path):
        """What Prometheus answers to who has its login."""
        url = f"http://{self.address}/api/v1/{path}"
        answer = call("GET", url, header_file=self.login.header)
        assert answer.status == 200, f"{path}: {answer.text}"
        return answer.json

    def alerts(self):
        """The alerts that fire or are about to."""
        return self.get("alerts")["data"]["alerts"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    """Whether there is a server that listens, and asks who we are."""
    try:
        return send("GET", f"http://{address}/-/ready") == 401
    except OSError:
        return False


def push(address, deployment, run, lines, header=None):
    """The status of one push to a Pushgateway, as a benchmark does it when it ends."""
    url = f"http://{address}/metrics/job/benchmark/deployment/{deployment}/run/{run}"
    return send("PUT", url, ("\n".join(lines) + "\n").encode(), header)


def send(method, url, body=None, header=None):
    """The status of one request, past any proxy. Raises OSError where nobody listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, body, method=method)
        if header is not None:
            request.add_header(*header.strip().split(": ", 1))
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
