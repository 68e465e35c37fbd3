"""Dashboards and Grafana's provisioning: their form, and that they ask for what there is.

Grafana itself is not run: the form is checked against what its documentation says, as far as we use
it. That every query has an answer is proven by tests/local/test_dashboards.py.
"""

import itertools
import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from dashboards import PROVISIONING, boards, metrics, queries, rules

SCHEMAS = Path(__file__).parent / "schemas"
BOARDS = boards()
VALUES = {"deployment": "d", "run": "r", "__range": "1m", "__rate_interval": "20s"}

HISTOGRAMS = """
orch_time_to_first_token_seconds orch_inter_token_latency_seconds orch_e2e_request_latency_seconds
orch_client_request_duration_seconds orch_queue_wait_seconds
"""
METRICS = """
up ALERTS

orch_prompt_tokens_total orch_generation_tokens_total orch_requests_total orch_requests_in_flight
orch_queue_length orch_queue_wait_seconds_sum orch_queue_wait_seconds_count
orch_door_replicas_up orch_user_requests_total orch_user_generation_tokens_total
orch_client_replicas orch_client_replicas_out orch_client_requests_total orch_client_retries_total
orch_client_benchmark_running orch_benchmark_requests_planned orch_benchmark_requests_done
orch_output_free_bytes orch_output_size_bytes orch_job_end_timestamp_seconds
orch_handover_dark_seconds
process_cpu_seconds_total process_resident_memory_bytes

engine_up engine_scrape_duration_seconds
ollama_up ollama_version_info ollama_models_on_disk ollama_models_loaded ollama_model_size_bytes
ollama_model_vram_bytes ollama_model_expires_timestamp_seconds ollama_scrape_duration_seconds
orch_gpus_requested

DCGM_FI_DEV_GPU_UTIL DCGM_FI_DEV_MEM_COPY_UTIL DCGM_FI_DEV_FB_USED DCGM_FI_DEV_FB_FREE
DCGM_FI_DEV_POWER_USAGE DCGM_FI_DEV_GPU_TEMP DCGM_FI_DEV_SM_CLOCK DCGM_FI_DEV_MEM_CLOCK
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION DCGM_FI_DEV_CLOCK_THROTTLE_REASONS
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE DCGM_FI_PROF_DRAM_ACTIVE

node_cpu_seconds_total node_memory_MemAvailable_bytes node_memory_MemTotal_bytes node_load1
node_network_receive_bytes_total node_network_transmit_bytes_total
node_disk_read_bytes_total node_disk_written_bytes_total

orch_benchmark_start_timestamp_seconds orch_benchmark_end_timestamp_seconds orch_benchmark_valid
orch_benchmark_requests orch_benchmark_latency_seconds orch_benchmark_requests_per_second
orch_benchmark_output_tokens_per_second
"""
#: Every name that our services and exporters give, and that may be asked for.
CONTRACT = {*METRICS.split(), *(f"{name}_bucket" for name in HISTOGRAMS.split())}


def assert_valid(schema, document):
    validator = jsonschema_rs.Draft202012Validator(json.loads((SCHEMAS / schema).read_text()))
    assert [f"{error.instance_path}: {error}" for error in validator.iter_errors(document)] == []


def test_there_is_a_dashboard_for_each_question():
    assert BOARDS.keys() == {"overview", "service", "gpu", "nodes", "benchmark"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_the_form_that_grafana_documents(name):
    assert_valid("dashboard.schema.json", BOARDS[name])


@pytest.mark.parametrize("name", BOARDS)
def test_ids_are_unique(name):
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        targets = panel.get("targets", [])
        assert len({target["refId"] for target in targets}) == len(targets), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_covers_another_or_hangs_over_the_edge(name):
    panels = BOARDS[name]["panels"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    for one, other in itertools.combinations(panels, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(a, b):
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    return not (beside or above)


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_defined_before_they_are_used(name):
    """Grafana fills each list with the values chosen in those before it."""
    known = set()
    for variable in BOARDS[name]["templating"]["list"]:
        assert all(f"${other}" not in variable["query"] for other in {"deployment", "run"} - known)
        known.add(variable["name"])
    assert known == {"datasource", "deployment"} | ({"run"} if name == "benchmark" else set())
    assert ("$run" in json.dumps(BOARDS[name]["panels"])) == ("run" in known)


@pytest.mark.parametrize(
    "query", list(queries(**VALUES)), ids=lambda q: f"{q.dashboard}: {q.panel}"
)
def test_a_query_is_about_the_chosen_deployment(query):
    assert query.panel == "variable deployment" or 'deployment=~"d"' in query.expr


def test_queries_and_rules_ask_only_for_metrics_that_we_have():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [query.expr for query in queries(**VALUES)] + [rule["expr"] for rule in rules()]
    asked = set().union(*map(metrics, expressions))
    assert asked - recorded - CONTRACT == set()


def test_metrics_are_found_in_an_expression():
    expr = 'sum by (le) (rate(a_bucket{b="c and d"}[5m] offset 1m)) / on (x) e:f:g % 3.6e6 > bool h'
    assert metrics(expr) == {"a_bucket", "e:f:g", "h"}


@pytest.mark.parametrize("kind", ["datasources", "dashboards"])
def test_provisioning_has_the_form_that_grafana_documents(kind):
    (path,) = (PROVISIONING / kind).glob("*.yml")
    assert_valid(f"{kind}.schema.json", yaml.safe_load(path.read_text()))


def test_the_dashboards_use_the_provisioned_datasource_by_default():
    (path,) = (PROVISIONING / "datasources").glob("*.yml")
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    default = {"text": source["name"], "value": source["uid"]}
    for board in BOARDS.values():
        (variable,) = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
        assert variable["current"] == default


def test_provisioning_takes_places_from_the_environment():
    """Nothing else differs from one deployment to the next, so that the files stay as they are."""
    text = "".join(path.read_text() for path in PROVISIONING.rglob("*.yml"))
    assert "url: $ORCH_PROMETHEUS_URL\n" in text
    assert "path: $ORCH_DASHBOARDS\n" in text
