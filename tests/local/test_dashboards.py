"""Every question of the dashboards has an answer, asked of a real Prometheus.

Prometheus, Pushgateway and node exporter are real; client service, Ollama's exporter and GPU are
stand-ins.
"""

import math
import re
import time

import pytest
import standins
from dashboards import queries
from events import PATIENCE_S
from monitored import COLLECTORS, Monitoring, push, send
from place import wait_for
from programs import needed

VARIABLES = {"deployment": "d-1", "run": "run-1", "__range": "1m", "__rate_interval": "20s"}


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory):
    exporter = needed("prometheus-node-exporter", "prometheus-node-exporter")
    gateway = needed("prometheus-pushgateway", "prometheus-pushgateway")
    monitoring = Monitoring(tmp_path_factory.mktemp("monitoring"))
    with monitoring.stack as stack:
        monitoring.start()
        for kind, lines in (("client", standins.client), ("ollama", standins.ollama)):
            monitoring.add(kind, kind, stack.enter_context(standins.served(lines)))
        monitoring.add("gpu", "ollama", stack.enter_context(standins.served(standins.gpu)))
        only_ours = [f"--collector.{name}" for name in COLLECTORS]
        node = monitoring.run(exporter, "--collector.disable-defaults", *only_ours)
        monitoring.add("node", "ollama", node)
        gateway = monitoring.run(gateway, "--persistence.file=")  # not where Debian puts it
        monitoring.add("pushgateway", "pushgateway", gateway)
        now = time.time()
        lines = list(standins.pushed(now - 30, now))
        monitoring.open_to_nobody = [
            push(gateway, "d-1", "nobodys", lines),
            *(send("GET", f"http://{at}/metrics") for at in (gateway, node, monitoring.address)),
            send("GET", f"http://{monitoring.address}/api/v1/query?query=up"),
        ]
        assert push(gateway, "d-1", "run-1", lines, monitoring.login.header.read_text()) == 200
        yield monitoring


def test_who_has_no_login_sees_and_pushes_nothing(monitoring):
    assert monitoring.open_to_nobody == [401] * 5
    gone = monitoring.query('orch_benchmark_valid{run="nobodys"}')
    assert gone == []


def test_every_target_is_up_and_says_what_it_belongs_to(monitoring):
    kinds = ["client", "gpu", "node", "ollama", "prometheus", "pushgateway"]

    def found():
        samples = monitoring.query('up{deployment="d-1", job_id="7", node="n1"}')
        return {labels["job"]: up for labels, up in samples}

    wait_for(lambda: found() == dict.fromkeys(kinds, 1.0), PATIENCE_S, lambda: f"found: {found()}")


def test_what_is_pushed_keeps_the_labels_of_its_run(monitoring):
    def pushed():
        return monitoring.query('orch_benchmark_valid{job="benchmark", run="run-1"}')

    ((labels, valid),) = wait_for(pushed, PATIENCE_S)
    assert (labels["deployment"], valid) == ("d-1", 1.0)


def test_every_query_of_every_dashboard_has_an_answer(monitoring):
    waiting = list(queries(**VARIABLES))
    assert len(waiting) > 60

    def all_answered():
        while waiting and has_data(monitoring, waiting[-1]):
            waiting.pop()
        return not waiting

    wait_for(all_answered, PATIENCE_S, lambda: f"no data: {waiting[-1]}")


def has_data(monitoring, query):
    return any(not math.isnan(value) for _, value in monitoring.query(query.expr))


def test_an_alert_fires_and_says_what_to_do(monitoring):
    """The stand-in's job ends in five minutes; all else is well."""

    def the_one():
        """One that fires, and no other: on a busy machine a target may be late, for a moment."""
        found = monitoring.alerts()
        return [one["state"] for one in found] == ["firing"] and found

    (alert,) = wait_for(the_one, PATIENCE_S, monitoring.alerts)
    assert alert["labels"]["alertname"] == "JobNearTimeLimit"
    assert alert["annotations"]["summary"] == "Job 7 (ollama) of d-1 ends soon"
    assert re.search(r"is reached in [345]m \d+s\.", alert["annotations"]["description"])
