"""Prometheus' configuration and rules: promtool accepts them, and every alert is proven."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dashboards import MONITORING, RULES, metrics, queries, rules
from programs import needed

PAGE = MONITORING.parent / "docs" / "dashboards.md"
TESTS = Path(__file__).parent / "rules"
KINDS = ["node", "gpu", "client", "ollama", "engine", "qdrant", "pushgateway", "prometheus"]
#: What a target file says of every target, and what exporters add to it.
LABELS = {"deployment", "service", "job_id", "node", "replica", "job", "instance"}
LABELS |= {"gpu", "UUID", "modelName", "model", "queue"}


@pytest.fixture(scope="module")
def promtool():
    program = needed("promtool", "prometheus")

    def run(*arguments):
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)

    return run


def configuration():
    return yaml.safe_load((MONITORING / "prometheus.yml").read_text())


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def test_promtool_accepts_the_configuration_as_the_job_lays_it_out(promtool, tmp_path):
    for name in ("prometheus.yml", "qdrant_key", "scrape_token"):
        shutil.copy(MONITORING / name, tmp_path)
    shutil.copytree(RULES, tmp_path / "rules")
    assets = tmp_path / "assets"
    assets.mkdir()
    (tmp_path / "targets").symlink_to(assets)
    labels = {"deployment": "d", "service": "ollama", "job_id": "7", "node": "n", "replica": ""}
    for kind in KINDS:
        targets = [{"targets": ["n:9000"], "labels": labels}]
        (assets / f"{kind}_targets_7.json").write_text(json.dumps(targets))
    result = promtool("check", "config", tmp_path / "prometheus.yml")
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stdout + result.stderr  # it found every target file


def test_each_kind_of_target_is_scraped_as_a_job_of_its_name():
    found = {
        job["job_name"]: job["file_sd_configs"][0]["files"]
        for job in configuration()["scrape_configs"]
    }
    assert found == {kind: [f"targets/{kind}_targets_*.json"] for kind in KINDS}


def test_only_what_was_pushed_keeps_its_own_labels():
    jobs = configuration()["scrape_configs"]
    assert [job["job_name"] for job in jobs if job.get("honor_labels")] == ["pushgateway"]


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yml")), ids=lambda path: path.stem)
def test_promtool_accepts_the_rules(promtool, path):
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yml")), ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(promtool, path):
    result = promtool("test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", alerts())
def test_each_alert_is_proven_to_fire_and_to_be_silent(name):
    groups = yaml.safe_load((TESTS / "alerts_test.yml").read_text())["tests"]
    cases = [
        (group["name"], bool(case.get("exp_alerts")))
        for group in groups
        for case in group.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    fires = {group for group, firing in cases if firing}
    assert fires
    assert {group for group, firing in cases if not firing} - fires


@pytest.mark.parametrize("name", alerts())
def test_each_alert_says_how_severe_it_is_what_it_is_and_what_to_do(name):
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("warning", "critical")
    texts = alert["annotations"]
    assert texts.keys() == {"summary", "description"}
    assert texts["description"].endswith(".")
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(texts.values()))) <= LABELS


@pytest.mark.parametrize("name", alerts())
def test_each_alert_is_documented(name):
    row = f"| {name} | "
    severity = alerts()[name]["labels"]["severity"]
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(row)]
    assert line.endswith(f"| {severity} |")


def test_each_rule_is_used():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    values = {"deployment": "d", "run": "r", "__range": "1m", "__rate_interval": "20s"}
    asked = [query.expr for query in queries(**values)] + [rule["expr"] for rule in rules()]
    assert recorded <= set().union(*map(metrics, asked))
