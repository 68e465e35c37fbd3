"""A campaign's report: each cell, its intervals and links, what differs, and what became worse."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import made_runs
import pytest
from made_campaigns import MODEL, RATE, SLOTS, VARY, make_campaign

from campaign.cells import Cell
from campaign.design import product
from campaign.report import against, grids, options, plots, tables
from campaign.report.__main__ import main
from campaign.report.against import compare
from campaign.report.page import in_short
from campaign.report.page import page as page_of
from campaign.report.plots import Range, Spot
from campaign.report.reading import read_campaign
from campaign.report.results import results_of
from contracts.errors import UsageError
from hpc.campaigns import reporting
from hpc.console import Console
from loadgen.measure.run_figures import BY_KEY, MAIN_FIGURES
from loadgen.outputs import results as run_results

ROOT = Path(__file__).resolve().parents[2]
KEYS = [cell.key for cell in product(VARY)]
WHY = "the job ended before it was ready <out of memory>; ask for more."
TOKENS = MAIN_FIGURES[0].key


class Page(HTMLParser):
    """The text of a page, and its links."""

    def __init__(self, document):
        super().__init__()
        self.links, self.texts = [], []
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A campaign with a cell that failed, one that lacks a repetition, and an SLO."""
    folder = tmp_path_factory.mktemp("output") / "campaigns" / "slots"
    broken = {(KEYS[3], block): ("failed", WHY) for block in (1, 2, 3)}
    make_campaign(folder, broken=broken, missing=[(KEYS[1], 3)], slo="ttft:0.5,itl:0.05")
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def test_the_page_says_which_cell_is_best_and_what_is_wrong(page):
    assert f"Cell 3 ({KEYS[2]}) is best, among the cells whose repetitions keep" in page.text
    assert "Cells that failed: 4." in page.text
    assert "Cells that lack some of their repetitions: 2." in page.text
    assert f"4: {KEYS[3]} failed 1, 2, 3 {WHY}" in page.text


def test_the_page_has_each_cell_with_its_intervals(folder, page):
    cells = json.loads((folder / "results.json").read_text())["cells"]
    assert [cell["cell"] for cell in cells] == KEYS
    for cell in cells[:3]:
        for figure in MAIN_FIGURES:
            found = cell["figures"][figure.key]
            assert found["low"] < found["value"] < found["high"]
        found = cell["figures"][TOKENS]
        assert f"{found['value']:.0f} {found['low']:.0f} to {found['high']:.0f}" in page.text


def test_links_lead_to_the_reports_of_runs_and_nowhere_else(folder, page):
    places = {link for link in page.links if not link.startswith("#")}
    runs = [row["run"] for row in rows_of(folder)]
    assert places == {f"../../benchmarks/{run}/report.html" for run in runs}
    document = (folder / "report.html").read_text()
    assert not re.findall(r"(?:https?:)?//[a-z]|@import|url\((?!#)", document)


def rows_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_repetition(folder):
    rows = rows_of(folder)
    assert len(rows) == 4 * 3 - 1
    assert [row["order"] for row in rows] == [str(n) for n in range(1, 12)]
    assert {row["state"] for row in rows if row["cell"] == KEYS[3]} == {"failed"}
    assert rows[0][SLOTS] == "4"
    assert 100 < float(rows[0][TOKENS]) < 140


def test_json_has_what_the_page_says(folder):
    found = json.loads((folder / "results.json").read_text())
    assert [cell["state"] for cell in found["cells"]] == ["done", "partly", "done", "failed"]
    assert found["best"]["cell"]["cell"] == KEYS[2]
    assert found["cost"]["gpu_hours"] == pytest.approx(2 * 2)  # two deployments, each 2 GPUs, 1 h
    assert found["cells"][0]["gpu_hours"] == pytest.approx(3 * 30 * 2 / 3600)
    real = {(d["cell"], d["against"]) for d in found["differences"] if d["real"]}
    assert (KEYS[2], KEYS[0]) in real
    assert found["against"] is None


def test_a_campaign_of_many_cells_has_a_page_that_can_be_read(tmp_path):
    """Of 120 cells neither 7,140 pairs nor 120 rows and numbers are drawn."""
    folder = make_campaign(
        tmp_path / "c", vary={SLOTS: list(range(1, 13)), RATE: list(range(1, 11))}
    )
    assert main([str(folder)]) == 0
    found = json.loads((folder / "results.json").read_text())
    best = found["best"]["cell"]["cell"]
    assert len(found["differences"]) == 119 * len({it["figure"] for it in found["differences"]})
    assert {it["against"] for it in found["differences"]} == {best}
    assert found["comparisons"] > 120 * 119 / 2 * 4
    document = (folder / "report.html").read_text()
    text = Page(document).text
    assert "Of more than 100 cells those with one cell are shown." in text
    assert f"the best ({best})" in text and "of the front alone" in text
    assert "All pairs of cells" not in text and "differs-" not in document


def test_a_campaign_that_has_measured_nothing_has_a_page(tmp_path):
    everything = [(key, 1) for key in KEYS]
    folder = make_campaign(tmp_path / "c", repetitions=1, missing=everything)
    command = [sys.executable, "-m", "campaign.report", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(folder / "report.html")
    assert (
        "Cells that were not measured so far: 1, 2, 3, 4."
        in Page((folder / "report.html").read_text()).text
    )


def test_a_figure_is_where_summary_json_has_it():
    summary = run_results.parse(made_runs.summary_of(made_runs.closed_loop()))
    for key, figure in BY_KEY.items():
        value = asdict(summary)
        for part in key.split("."):
            value = value.get(part) if value else None
        if key != "requests.failed_share":  # which is made of two that are there
            assert value == figure.of(summary)


# --- against another campaign ---


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A campaign, and one of a machine that is 10 % slower."""
    folder = tmp_path_factory.mktemp("campaigns")
    make_campaign(folder / "old", repetitions=5)
    make_campaign(folder / "new", repetitions=5, faster=0.9)
    return folder


def test_what_became_worse_is_said_and_is_a_regression(pair, capfd):
    """As orch.py has it at the end of a campaign."""
    asked = [f"--against={pair / 'old'}", "--fail-on-regression=5%"]
    worse = reporting.report(pair / "new", asked, Console())
    assert worse is not None and worse.exit_code == 7
    assert "new is worse than old by more than 5% in 16 figures" in worse.message
    assert len(worse.details) == 16
    said = capfd.readouterr().out
    assert f"{KEYS[0]}: output tokens/s, all clients -" in said
    assert f"report: {pair / 'new' / 'report.html'}" in said
    found = json.loads((pair / "new" / "results.json").read_text())["against"]
    assert {one["real"] for one in found["moved"]} == {True}
    assert "Against old" in Page((pair / "new" / "report.html").read_text()).text


def test_a_report_that_cannot_be_written_is_a_line(tmp_path, capfd):
    assert reporting.report(tmp_path / "none", [], Console()) is None
    assert "no report was written: " in capfd.readouterr().out


@pytest.mark.parametrize(("campaign", "other", "most"), [("new", "old", 0.2), ("old", "new", 0.0)])
def test_less_than_that_or_better_is_no_regression(pair, campaign, other, most):
    found = compare(read_campaign(pair / campaign), read_campaign(pair / other))
    assert len(found.real) == 16
    assert against.regressions(found, most) == []


@pytest.mark.parametrize("noise", [0.02, 0.0])
def test_an_equal_campaign_moves_nothing(tmp_path, noise):
    """Nor does one without noise, whose means differ by the computer's rounding at most."""
    one = read_campaign(make_campaign(tmp_path / "a", repetitions=5, noise=noise))
    other = read_campaign(make_campaign(tmp_path / "b", repetitions=5, noise=noise * 1.05))
    assert compare(one, other).real == []


def test_noise_without_end_is_no_error(tmp_path):
    """Of two repetitions that differ by a factor, an interval may be of any width."""
    one = read_campaign(make_campaign(tmp_path / "a", repetitions=2, noise=0.3))
    other = read_campaign(make_campaign(tmp_path / "b", repetitions=2, noise=0.29))
    found = results_of(one, compare(one, other))
    json.dumps(found.as_json(), allow_nan=False)
    assert found.against.real == []


def test_single_repetitions_are_shown_and_never_called_real(tmp_path):
    one = read_campaign(make_campaign(tmp_path / "a", repetitions=1))
    other = read_campaign(make_campaign(tmp_path / "b", repetitions=1, faster=0.5))
    found = compare(other, one)
    assert all(moved.low is None and not moved.real for moved in found.moved)
    assert len(found.moved) == 16


def test_cells_of_one_campaign_alone_are_named(tmp_path):
    one = read_campaign(make_campaign(tmp_path / "a"))
    more = read_campaign(make_campaign(tmp_path / "b", vary={SLOTS: [4, 16], RATE: [1, 2.0]}))
    found = compare(more, one)
    assert found.only_then == [KEYS[2], KEYS[3]]
    assert found.only_now == ["num_parallel=16 rate=1", "num_parallel=16 rate=2.0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/none"], "holds no campaign"),
        (["{}/a", "--against", "none"], "holds no campaign"),
        (["{}/a", "--against", "c"], "no cell with the same settings"),
        (["{}/a", "--against", "a", "--fail-on-regression", "much"], "'much' is no part"),
        (["{}/a", "--fail-on-regression", "5%"], "is for --against OLD alone"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, capfd, arguments, said):
    make_campaign(tmp_path / "a", repetitions=1)
    make_campaign(tmp_path / "c", vary={MODEL: ["x", "y"]}, repetitions=1)
    assert main([word.format(tmp_path) for word in arguments]) == UsageError.exit_code
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(("text", "part"), [("5%", 0.05), ("5 %", 0.05), ("0.05", 0.05), ("0", 0)])
def test_parts(text, part):
    assert options.part_of(text) == pytest.approx(part)


# --- parts ---


def test_the_front_is_what_nothing_beats_in_both():
    at = {"a": (1, 9), "b": (3, 5), "c": (2, 5), "d": (4, 1)}
    spots = [Spot(name, Range(x), Range(y)) for name, (x, y) in at.items()]
    assert [spot.label for spot in plots.front(spots, x_lower=False)] == ["a", "b", "d"]
    assert [spot.label for spot in plots.front(spots, x_lower=True)] == ["a"]


def test_models_of_one_name_by_two_people_are_told_apart(tmp_path):
    one, other, base = "hub/one/llama:q4", "hub/other/llama:q4", "hub/one/base:q4"
    vary = {MODEL: [base, one, other], SLOTS: [4, 8]}
    found = results_of(read_campaign(make_campaign(tmp_path / "a", vary)))
    settings = [label for label, _ in grids.effects(found).rows if label.startswith("model")]
    assert settings == [f"model: {model} instead of base:q4" for model in (one, other)]
    assert one in Page(page_of(found)).texts


def test_factors_are_called_by_as_little_of_their_paths_as_tells_them():
    cell = Cell({"job.service.seed": 1, "load.seed": 2, "load.rate": 3})
    assert list(tables.factors([cell]).values()) == ["service.seed", "load.seed", "rate"]


@pytest.mark.parametrize(
    ("knob", "label"),
    [
        ("rate", "highest rate within the SLO [requests/s]"),
        ("n_clients", "most clients within the SLO"),
    ],
)
def test_where_loads_were_searched_they_decide(tmp_path, knob, label):
    """The other figures of each cell are of another load."""
    asked = {"slo": "ttft:0.5", "search": {knob: [1, 100], "goodput": 0.9}}
    found = results_of(
        read_campaign(make_campaign(tmp_path / "a", {SLOTS: [4, 8]}, searched=knob, **asked))
    )
    assert in_short(found).startswith(f"Cell 2 (num_parallel=8) is best: {label} 16.0 (16.0 to ")
    assert {one.figure for one in found.analysis.differences} == {f"search.{knob}"}
    assert all(one.real for one in found.analysis.differences)
    assert label in Page(page_of(found)).text


def test_results_are_those_of_the_baseline(tmp_path):
    baseline = {SLOTS: 4, RATE: 1.0}
    found = results_of(read_campaign(make_campaign(tmp_path / "a", baseline=baseline)))
    assert found.baseline == KEYS[0]
    assert {one.against for one in found.analysis.differences} == {KEYS[0]}
