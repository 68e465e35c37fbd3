"""The table of figures: each latency in it is in every output, by the table alone."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import made_runs
import pytest
from hand_made import judged, measured_of, options_of, part, record
from prometheus_client import CollectorRegistry, generate_latest

from client import metrics as client_metrics
from client.api import openapi
from contracts.figures import DRAWN, FIGURES, MAIN
from contracts.histograms import BUCKETS, Tally
from contracts.knobs import SLO_NAMES
from contracts.summary import Sweep, SweepPoint, SweepPoints
from hpc.following.answers import Result, read
from hpc.following.report import benchmark_lines
from loadgen.compare import changes
from loadgen.flags import limits_of
from loadgen.load.child_process import read_result
from loadgen.measure import self_check, summarise
from loadgen.outputs import html, push, results, run_files

ROOT = Path(__file__).resolve().parents[2]
each = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.key)
main = pytest.mark.parametrize("figure", MAIN, ids=lambda figure: figure.key)


def thinking(*times):
    """A request whose first chunk is not of the answer itself."""
    made = record(*times)
    made.answer.thoughts = 1
    return made


def run(folder, shift=0.0):
    """A run in which the model thinks, written into a folder: its summary."""
    records = [thinking(n, at := 10.0 + n // 2, at + 0.2 + shift, at + 0.9) for n in range(120)]
    options = options_of(requests=len(records), out=folder, goodput={f.key: 9.0 for f in MAIN})
    measured = measured_of(part(records, lags=(0.0001,) * 200))
    origin = made_runs.summary_of([])["provenance"]
    origin["options"]["requests"] = len(records)
    summary = replace(self_check.withhold(judged(measured, options)), provenance=origin)
    folder.mkdir()
    run_files.write_files(options, measured, summary)
    return summary


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder / "a", folder / "b"


@pytest.fixture(scope="module")
def summary(folders):
    run(folders[1], 0.1)
    return run(folders[0])


@pytest.fixture(scope="module")
def page(folders, summary):
    return html.run_page(results.read_summary(folders[0]), results.read_requests(folders[0]))


def test_a_key_and_a_label_stand_for_one_figure():
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    assert len({figure.label for figure in FIGURES}) == len(FIGURES)


@each
def test_summary_and_requests_have_it(figure, folders, summary):
    found = json.loads((folders[0] / "summary.json").read_text())
    assert found["latency_seconds"][figure.key]["n"] >= 120
    assert found["definitions"][figure.key] == figure.definition
    request = results.read_requests(folders[0])[0]
    assert request[figure.recorded]
    row = next(csv.DictReader((folders[0] / "requests.csv").open()))
    value = row["mean_gap" if figure.each else figure.key]
    assert float(value) == pytest.approx(figure.of(thinking(0, 10.0, 10.2, 10.9)))


@each
def test_people_see_it(figure, summary, page):
    assert f"\n{figure.label} " in run_files.table(summary)
    assert f'<th scope="row">{figure.label}</th>' in page
    assert f"<dt>{figure.key}</dt>" in page
    assert (f'aria-label="{figure.label}: distribution"' in page) == figure.drawn
    assert (f'aria-label="{figure.label} over time"' in page) == (figure.drawn and not figure.each)
    assert (f'<p class="name">{figure.name}</p>' in page) == figure.drawn


@main
def test_it_is_compared_and_less_is_better(figure, folders, summary):
    sides = [results.read_side([folder]) for folder in folders]
    compared = {it.label: it.better for it, _ in changes.sections(*sides)[0].changes}
    for name in figure.compared:
        assert compared[f"{figure.label} {name} [ms]"] == "lower"


@main
def test_a_sweep_shows_it(figure, tmp_path, summary):
    out = run_files.sweep_table([(options_of(), summary)])
    assert all(f" {figure.label} {stat}" in out for stat in figure.of_point)
    points = SweepPoints("clients", [SweepPoint(1, "clients-1", summary)])
    page = html.sweep_page(Sweep(points, summary.validity, summary.provenance))
    assert (f">{figure.label} p99 [ms]<" in page) == figure.drawn
    assert (f'aria-label="{figure.label}"' in page) == figure.drawn


@main
def test_other_programs_get_it(figure, folders, summary):
    registry = CollectorRegistry()
    registry.register(push._Figures(summary))
    told = generate_latest(registry).decode()
    assert f'orch_benchmark_latency_seconds{{figure="{figure.key}",stat="p50"}}' in told
    schema = openapi.document()["components"]["schemas"]["Latencies"]
    assert figure.key in schema["required"]
    assert figure.label in schema["properties"][figure.key]["description"]
    lines = benchmark_lines(read(Result, read_result(folders[0]).told), folders[0])
    assert any(line.startswith(f"  {figure.label} [s]") for line in lines)


@main
def test_goodput_can_ask_for_it(figure, summary):
    assert figure.key in SLO_NAMES
    assert limits_of(f"{figure.key}:0.5") == {figure.key: 0.5}
    assert summary.goodput.share == 1
    strict = options_of(requests=1, goodput={figure.key: 1e-6})
    found = summarise.summarise(measured_of(part([record(0, 10.0, 10.2, 10.9)])), strict)
    assert found.goodput.share == 0


def test_benchmark_results_have_those_of_each_request(folders, summary):
    line = read_result(folders[0]).told["results"][0]
    assert line["request_time"] == pytest.approx(0.9)
    for figure in FIGURES:
        assert figure.each or figure.key == "e2e" or line[figure.key] is not None


def test_those_that_are_live_have_a_histogram():
    tally, request = Tally(), record(0, 10.0, 10.2, 10.9)
    tally.succeed(request.answer, 10.0, 10.9)
    assert {key: it.sum for key, it in tally.histograms.items()} == {
        figure.key: pytest.approx(sum(figure.values(request))) for figure in FIGURES if figure.live
    }
    assert tally.histograms.keys() == BUCKETS.keys()
    families = client_metrics._of_requests({"query": client_metrics.Counted(tally, 0)})
    assert {figure.live.metric for figure in FIGURES if figure.live} <= {it.name for it in families}


@pytest.mark.parametrize("figure", DRAWN, ids=lambda figure: figure.key)
def test_runs_from_before_it_are_shown_as_they_are(figure, folders, summary, tmp_path):
    found = asdict(summary)
    del found["latency_seconds"][figure.key]
    lines = results.read_requests(folders[0])
    for line in lines:
        line[figure.recorded] = [] if figure.each else None
    older = made_runs.write(tmp_path / "older", lines, found)
    page = html.run_page(results.read_summary(older), results.read_requests(older))
    assert f'<p class="name">{figure.name}</p>' not in page and "All figures" in page
    sides = [results.read_side([folder]) for folder in (older, folders[0])]
    labels = [it.label for it, _ in changes.sections(*sides)[0].changes]
    assert "requests/s, all clients" in labels
    assert not any(label.startswith(f"{figure.label} ") for label in labels)
    points = SweepPoints("clients", [SweepPoint(1, "older", results.parse(found))])
    page = html.sweep_page(Sweep(points, summary.validity, summary.provenance))
    assert f">{figure.label} p99" not in page and f'aria-label="{figure.label}"' not in page


def test_without_thinking_there_is_no_second_first_token(tmp_path):
    records = [record(n, 10.0, 10.2, 10.9) for n in range(2)]
    measured, options = measured_of(part(records)), options_of()
    found = judged(measured, options)
    assert "TTFO" not in run_files.table(found) and "TTFT" in run_files.table(found)


@each
def test_the_documentation_says_what_it_is(figure):
    assert f"\n| {figure.label} |" in (ROOT / "docs" / "measurement.md").read_text()
    assert f"`{figure.key}`" in (ROOT / "docs" / "results.md").read_text()
