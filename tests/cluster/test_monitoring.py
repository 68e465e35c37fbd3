"""The monitoring stack on real Slurm: Prometheus, Pushgateway and node exporter are Debian's;
Grafana and NVIDIA's driver are stand-ins."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from events import kill_all
from images import Images
from project import HOME, PROXY, USER, Project
from slurmcluster import PATIENCE_S, wait_until
from standin_nvml import LIBRARY, Gpu, stand_in
from test_containers import prepare, site_of

from contracts.job_files import monitoring_login

HERE = Path(__file__).parent
#: From ready on, as long as targets may take to be scraped; two scrapes are 10 s, but exporters are
#: niced, and on a machine whose cores others want they take minutes to start.
UP_S = 4 * PATIENCE_S
FORGOTTEN_S = 2 * PATIENCE_S


class Prometheus:
    """The Prometheus of a deployment, asked from the login node."""

    def __init__(self, project: Project, url: str) -> None:
        self._project = project
        self.url = url

    def get(self, path: str) -> Any:
        header = monitoring_login(self._project.output).header
        return self._project.curl(f"{self.url}/api/v1/{path}", "-H", f"@{header}")["data"]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("targets?state=active")["activeTargets"]
        return found

    def down(self) -> list[str]:
        return [f"{t['labels']['job']}: {t['lastError']}" for t in self.targets()
                if t["health"] != "up"]  # fmt: skip

    def value(self, expr: str) -> float:
        """The sum of an expression's samples; 0 where it has none."""
        result = self.get(f"query?query={urllib.parse.quote('sum(' + expr + ')')}")["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def fired(self) -> set[str]:
        """The alerts that there have been."""
        expr = 'max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[30m]))'
        result = self.get(f"query?query={urllib.parse.quote(expr)}")["result"]
        return {series["metric"]["alertname"] for series in result}

    def firing(self) -> set[str]:
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def kinds(prometheus: Prometheus) -> list[str]:
    return sorted(target["labels"]["job"] for target in prometheus.targets())


def assert_all_up(prometheus: Prometheus, planned: int, since: float) -> None:
    def up() -> bool:
        return len(prometheus.targets()) == planned and not prometheus.down()

    wait_until(up, UP_S - (time.monotonic() - since), f"{planned} targets: {prometheus.down()}")


@pytest.fixture
def boxes(project: Project, images: Images) -> str:
    """A site with images for all but Grafana and DCGM's exporter."""
    monitoring = str(images.monitoring)
    names = ("prometheus", "pushgateway", "node_exporter")
    return site_of(
        project, ollama=str(images.ollama), client=str(images.client()),
        **dict.fromkeys(names, monitoring), grafana=None, dcgm_exporter=None,
    )  # fmt: skip


def test_every_target_is_up_and_counts_are_the_load_generators(
    project: Project, boxes: str
) -> None:
    recipe = project.recipe(monitoring={}, gpus=0, n_clients=4, n_requests_per_client=25)
    result = project.orch_monitored(recipe, "--site", boxes)
    project.assert_benchmarked(result)
    assert "images.grafana): there are no dashboards" in result.stdout + result.stderr
    record = project.records()[-1]
    prometheus = Prometheus(project, record["endpoints"]["prometheus"])
    planned = record["settings"]["monitoring_targets"]
    assert planned == 7
    assert_all_up(prometheus, planned, time.monotonic())
    assert kinds(prometheus) == ["client", "node", "node", "node", "ollama", "prometheus",
                                 "pushgateway"]  # fmt: skip
    _assert_counts(prometheus, record)
    _assert_seen(project, record["endpoints"]["client"])
    assert project.orch("--stop", record["id"]).returncode == 0
    assert list((project.output / "prometheus_assets").iterdir()) == []
    project.assert_nothing_left()


def _assert_counts(prometheus: Prometheus, record: dict[str, Any]) -> None:
    """To the request and to the token, once the last scrape has been."""
    requests = record["benchmark"]["requests"]
    run = f'deployment="{record["id"]}",source="benchmark"'
    counted = f'orch_requests_total{{{run},outcome="ok"}}'
    wait_until(
        lambda: prometheus.value(counted) >= requests["succeeded"], PATIENCE_S, "the last scrape"
    )
    assert prometheus.value(counted) == requests["succeeded"] == 100
    for name in ("time_to_first_token", "e2e_request_latency"):
        assert prometheus.value(f"orch_{name}_seconds_count{{{run}}}") == 100
    lines = (Path(record["benchmark"]["folder"]) / "requests.jsonl").read_text().splitlines()
    tokens = sum(json.loads(line)["output_tokens"] for line in lines)
    assert prometheus.value(f"orch_generation_tokens_total{{{run}}}") == tokens
    pushed = f'orch_benchmark_requests{{deployment="{record["id"]}",outcome="ok"}}'
    wait_until(lambda: prometheus.value(pushed) == 100, PATIENCE_S, "the pushed figures")


def _assert_seen(project: Project, client: str) -> None:
    """A run keeps what Prometheus saw of its time; the first may be over before it saw any."""
    body = json.dumps({"id": "seen", "prompt": "hello", "num_predict": 4})
    project.curl(f"{client}/benchmark", "-H", "Content-Type: application/json", "-d", body)
    metrics = json.loads((project.output / "benchmarks" / "seen" / "metrics.json").read_text())
    assert {"memory", "in_flight"} <= {series["name"] for series in metrics["series"]}


@pytest.fixture
def gpu_tools(project: Project) -> Iterator[None]:
    """A stand-in for NVIDIA's driver, which the project's Python has loaded when it begins: a job's
    environment is not ours."""
    driver = stand_in(project.folder, Gpu("GPU-a", "NVIDIA A100-SXM4-40GB", watts=250))
    (packages,) = (project.folder / ".venv" / "lib").glob("python3*/site-packages")
    hook = packages / "standin_nvml.pth"
    hook.write_text(
        f"import ctypes, os; os.environ['STANDIN_NVML'] = {driver['STANDIN_NVML']!r}; "
        f"ctypes.CDLL({str(project.folder / LIBRARY)!r})\n"
    )
    yield
    hook.unlink()


def test_a_killed_job_is_alerted_and_then_forgotten(project: Project, gpu_tools: None) -> None:
    recipe = project.recipe(monitoring={}, n_requests_per_client=0)
    result = project.orch(recipe)
    assert result.returncode == 0, result.stdout + result.stderr
    record = project.records()[-1]
    prometheus = Prometheus(project, record["endpoints"]["prometheus"])
    assert record["settings"]["monitoring_targets"] == 8, "with the GPU's"
    assert_all_up(prometheus, 8, time.monotonic())
    assert prometheus.value("DCGM_FI_DEV_POWER_USAGE") > 0
    job_id = record["jobs"]["ollama"]["id"]
    kill_all(project.cluster.pids("gpu1"))
    wait_until(
        lambda: all(t["labels"]["job_id"] != job_id for t in prometheus.targets()),
        FORGOTTEN_S,
        "the targets to go",
    )
    assert {"TargetDown", "OllamaDown"} <= prometheus.fired()
    wait_until(
        lambda: "OllamaReplicasOut" in prometheus.firing(), PATIENCE_S, "the alert that stays"
    )
    left = [path.name for path in (project.output / "prometheus_assets").iterdir()]
    assert not [name for name in left if job_id in name], left
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


@pytest.fixture
def grafana(project: Project) -> dict[str, str]:
    """An environment on whose PATH there is the stand-in for Grafana."""
    folder = HOME / "grafana"
    folder.mkdir(exist_ok=True)
    shutil.copy(HERE / "standin_grafana.py", folder / "grafana")
    (folder / "grafana").chmod(0o755)
    shutil.chown(folder, USER)
    return {**PROXY, "PATH": f"/usr/local/bin:/usr/bin:/bin:{folder}"}


def test_nobody_sees_grafana_or_its_password(project: Project, grafana: dict[str, str]) -> None:
    recipe = project.recipe(monitoring={"required": True}, gpus=0, n_requests_per_client=0)
    result = project.orch(recipe, env=grafana)
    assert result.returncode == 0, result.stdout + result.stderr
    record = project.records()[-1]
    job_id = record["jobs"]["monitoring"]["id"]
    url, folder = record["endpoints"]["grafana"], project.output / "grafana_data" / job_id
    password = (folder / "password").read_text().strip()
    assert len(password) == 24
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert _status(project, url) == "401"
    assert _status(project, url, "-u", "admin:admin") == "401"
    assert _status(project, url, "-u", f"admin:{password}") == "200"
    assert f"password in {folder}/password" in result.stdout
    assert password not in result.stdout + result.stderr
    _assert_secret(project, record, password, folder / "password")
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()


def _status(project: Project, url: str, *options: str) -> str:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, url]
    return project.cluster.on("cpu2", *command, user="hpcother", check=True).stdout


def _assert_secret(project: Project, record: dict[str, Any], password: str, kept: Path) -> None:
    """In no other file, on no command line, in no environment of a process."""
    assert project.files_with(password) == [kept]
    for host in {project.host_of(job["id"]) for job in record["jobs"].values()}:
        for pid in project.cluster.pids(host):
            for name in ("cmdline", "environ"):
                assert password.encode() not in project.cluster.told_by(pid, name)


def test_the_stack_by_hand_shows_what_runs(project: Project, grafana: dict[str, str]) -> None:
    recipe = project.recipe(n_requests_per_client=0, monitoring={}, gpus=0)
    assert project.orch(recipe).returncode == 0
    command = ["sbatch", "--parsable", "-A", "research", "-p", "cpu", "monitoring_stack.sh"]
    job_id = project.cluster.on(
        "login1", *command, cwd=project.folder, env=grafana, check=True
    ).stdout.strip()
    address = project.output / f"prometheus_ip_{job_id}.txt"
    log = project.folder / f"monitoring_stack_{job_id}.out"
    wait_until(
        address.exists, PATIENCE_S, f"Prometheus: {log.read_text() if log.exists() else 'no log'}"
    )
    prometheus = Prometheus(project, f"http://{address.read_text().strip()}")
    assert_all_up(prometheus, 8, time.monotonic())
    wait_until(lambda: "Grafana at home: ssh -N -L" in log.read_text(), UP_S, "Grafana")
    assert "Prometheus at home: ssh -N -L" in log.read_text()
    project.cluster.on("login1", "scancel", job_id, check=True)
    assert project.orch("--stop", "all").returncode == 0
    project.assert_nothing_left()
    _look_again(project, job_id)
    log.unlink()


def _look_again(project: Project, job_id: str) -> None:
    """What was measured is still there, with none of its targets."""
    data = project.output / "prometheus_data" / job_id
    command = ["sbatch", "--parsable", "-A", "research", "-p", "cpu", "prometheus_service.sh"]
    again = project.cluster.on(
        "login1", *command, str(data), cwd=project.folder, check=True
    ).stdout.strip()
    address = project.output / f"prometheus_ip_{again}.txt"
    wait_until(address.exists, PATIENCE_S, "Prometheus on the saved data")
    prometheus = Prometheus(project, f"http://{address.read_text().strip()}")
    assert prometheus.value("count_over_time(up[10m])") > 0
    assert prometheus.targets() == []
    project.cluster.on("login1", "scancel", again, check=True)
    project.assert_nothing_left()
    (project.folder / f"prometheus_service_{again}.out").unlink()


def test_a_required_part_that_is_missing_is_refused(project: Project) -> None:
    recipe = project.recipe(monitoring={"required": True})
    before = len(project.records())
    result = project.orch(recipe)
    assert result.returncode == 2
    assert "there is no grafana or grafana-server on PATH" in result.stderr
    assert len(project.records()) == before


def test_images_of_all_parts_are_prepared(project: Project, images: Images, boxes: str) -> None:
    result = prepare(project, project.recipe(monitoring={}, gpus=0), boxes)
    assert result.returncode == 0, result.stdout + result.stderr
