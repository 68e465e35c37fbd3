"""A benchmark under a real Prometheus, Pushgateway and node exporter, from the client service to
the report. Ollama is a stand-in with known times, and so is NVIDIA's driver.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from urllib.parse import urlencode

import pytest
from events import PATIENCE_S
from paced_server import Pace, running
from place import PROJECT, http, wait_for
from served import gunicorn
from standin_nvml import Gpu, stand_in

from contracts.histograms import BUCKETS
from contracts.job_files import MONITORING_USER, monitoring_login
from hpc.endpoints import OutputDir
from hpc.web import NoAnswer, call

LOAD = {"n_clients": 4, "n_requests_per_client": 12, "id": "watched"}


def needed(program):
    """Its path; without it the test is skipped, and with CI=true failed, by its name."""
    path = shutil.which(program)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is not installed (Debian's package has its name)", pytrace=False)
    return path or pytest.skip(f"{program} is not installed")


class Watched:
    """Programs on free ports of this machine, which end with the test."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.addresses = {}
        output = OutputDir(folder)
        output.prepare()
        self.login = monitoring_login(folder)

    def start(self, name, *command, option="--web.listen-address", **how):
        """Start one; its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.addresses[name] = f"127.0.0.1:{probe.getsockname()[1]}"
        log = self.stack.enter_context((self.folder / f"{name}.log").open("w"))
        if option == "--web.listen-address":
            command = [*command, f"--web.config.file={self.login.hashed}"]
        command = [*command, f"{option}={self.addresses[name]}"]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log, **how)
        self.stack.callback(process.wait, PATIENCE_S)
        self.stack.callback(process.terminate)
        return self.addresses[name]

    def query(self, expression):
        """The samples of an expression, now: values by their labels but job and instance."""
        url = (
            f"http://{self.addresses['prometheus']}/api/v1/query?{urlencode({'query': expression})}"
        )
        try:
            answer = call("GET", url, header_file=self.login.header)
        except NoAnswer:  # it has only begun
            return {}
        if answer.status == 503:
            return {}
        assert answer.status == 200, answer
        return {
            tuple(sorted(each["metric"].items())): float(each["value"][1])
            for each in answer.json["data"]["result"]
        }

    def value(self, expression):
        """The one value of an expression; None: there is none yet."""
        return next(iter(self.query(expression).values()), None)


def configuration(targets, login):
    """Of Prometheus: what it scrapes, every second, with the labels of the deployment."""
    labels = {"deployment": "d-1", "node": "n1"}
    jobs = [
        {
            "job_name": job,
            "honor_labels": job == "pushgateway",
            "static_configs": [{"targets": [address], "labels": labels}],
            "basic_auth": {"username": MONITORING_USER, "password_file": str(login.password)},
        }
        for job, address in targets.items()
    ]
    return json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A benchmark that has run; the watchers, its folder and its result."""
    folder = tmp_path_factory.mktemp("watched")
    programs = {
        name: needed(f"prometheus{suffix}")
        for name, suffix in (("node", "-node-exporter"), ("pushgateway", "-pushgateway"))
    }
    with contextlib.ExitStack() as stack:
        watched = Watched(folder, stack)
        watched.start("node", programs["node"])
        # Debian's keeps what it has in /var/lib, and begins with what is there, unless it is told.
        watched.start("pushgateway", programs["pushgateway"], "--persistence.file=")
        ollama = stack.enter_context(running(Pace(ttft=0.2, itl=0.05, tokens=16)))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            gpu = f"127.0.0.1:{probe.getsockname()[1]}"
        exporters = [sys.executable, "-m", "exporters", f"--gpu-listen={gpu}"]
        exporters.append(f"--login={watched.login.header}")
        driver = {**os.environ, **stand_in(folder, Gpu("GPU-a", watts=250, busy=(42, 7)))}
        url = f"--ollama=http://127.0.0.1:{ollama.port}"
        watched.start("ollama", *exporters, url, option="--listen", env=driver)
        stack.enter_context(_environment(ORCH_DEPLOYMENT="d-1", ORCH_MONITORING_JOB="43"))
        service = stack.enter_context(gunicorn(ollama, folder))
        targets = {**watched.addresses, "gpu": gpu, "client": f"127.0.0.1:{service.port}"}
        (folder / "prometheus.yml").write_text(configuration(targets, watched.login))
        watched.start(
            "prometheus",
            needed("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        )
        for name in ("prometheus", "pushgateway"):
            (folder / f"{name}_ip_43.txt").write_text(f"{watched.addresses[name]}\n")
        (folder / "deployments" / "d-1.json").write_text(json.dumps({"id": "d-1"}))
        wait_for(lambda: len(watched.query("up == 1")) == len(targets), PATIENCE_S)
        wait_for(lambda: watched.value("DCGM_FI_DEV_GPU_UTIL") == 42, PATIENCE_S)
        # a rate needs samples from before the run
        wait_for(lambda: (watched.value("min(count_over_time(up[1m]))") or 0) >= 3, PATIENCE_S)
        status, result = http("POST", f"http://{targets['client']}/benchmark", LOAD)
        assert status == 200, result
        yield watched, folder / "benchmarks" / "watched", result


@contextlib.contextmanager
def _environment(**names):
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def test_the_counts_in_prometheus_are_the_load_generators_own(measured):
    watched, _, result = measured
    assert result["successful"] == 48

    def ended():
        return watched.value('orch_requests_total{source="benchmark",outcome="ok"}')

    wait_for(lambda: ended() == 48, PATIENCE_S, lambda: f"Prometheus has {ended()}")
    values = {
        "orch_time_to_first_token_seconds": ("ttft", [r["ttft"] for r in result["results"]]),
        "orch_e2e_request_latency_seconds": ("e2e", [r["request_time"] for r in result["results"]]),
    }

    def buckets(name):
        return {
            float(dict(labels)["le"]): value
            for labels, value in watched.query(f'{name}_bucket{{source="benchmark"}}').items()
        }

    # Of what was not scraped within its second Prometheus says nothing until the next time.
    for name, (figure, seconds) in values.items():
        expected = {limit: sum(s <= limit for s in seconds) for limit in BUCKETS[figure]}
        expected[float("inf")] = 48
        wait_for(lambda: buckets(name) == expected, PATIENCE_S,  # noqa: B023
                 lambda: f"{name}: {buckets(name)}, not {expected}")  # noqa: B023 # fmt: skip
    tokens = 'orch_generation_tokens_total{source="benchmark"}'
    wait_for(lambda: watched.value(tokens) == sum(r["tokens"] for r in result["results"]),
             PATIENCE_S, lambda: f"Prometheus has {watched.value(tokens)} tokens")  # fmt: skip


def test_the_figures_of_the_run_come_by_the_pushgateway(measured):
    watched, _, result = measured
    run = '{deployment="d-1",job="benchmark",run="watched"}'
    wait_for(lambda: watched.value(f"orch_benchmark_valid{run}") is not None, PATIENCE_S)
    assert watched.value(f"orch_benchmark_valid{run}") == result["validity"]["valid"]
    p50 = watched.value(
        run.replace("{", 'orch_benchmark_latency_seconds{figure="ttft",stat="p50",')
    )
    assert p50 == pytest.approx(result["latency_seconds"]["ttft"]["p50"])


def test_the_snapshot_shows_what_was_there_while_it_ran(measured):
    _, folder, result = measured
    found = json.loads((folder / "metrics.json").read_text())
    assert "problem" not in found
    series = {each["name"]: each for each in found["series"]}
    by_source = {each["labels"].get("source"): each for each in found["series"]}
    assert set(series) == {
        "gpu", "gpu_memory", "gpu_power", "gpu_temperature", "cpu", "memory", "in_flight", "tokens",
    }  # fmt: skip
    assert series["gpu"]["labels"] == {"node": "n1", "gpu": "0", "UUID": "GPU-a"}
    assert {value for _, value in series["gpu_power"]["points"]} == {250.0}
    assert series["gpu_memory"]["points"][-1][1] == pytest.approx(1024 * 2**20)
    assert all(0 <= value <= 100 for _, value in series["cpu"]["points"])
    assert by_source["benchmark"]["points"][-1][0] == pytest.approx(result["total_time"], abs=0.01)
    busy = [
        e for e in found["series"] if e["name"] == "in_flight" and e["labels"]["source"] != "query"
    ]
    assert max(value for _, value in busy[0]["points"]) == 4


def test_the_report_shows_it_beside_the_latencies(measured):
    _, folder, _ = measured
    # Drawn at the lowest priority: on a machine that is busy that takes its time.
    wait_for(lambda: (folder / "report.html").exists(), 5 * PATIENCE_S)
    page = (folder / "report.html").read_text()
    for title in (
        "E2E over time",
        "GPU utilisation",
        "GPU power",
        "CPU utilisation",
        "Memory used",
    ):
        assert title in page
