"""The report of a run and of a sweep, and requests.csv, made of files whose truth is known."""

import csv
import io
import json
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import made_runs
import numpy as np
import pytest
from matplotlib.figure import Figure

from contracts.errors import UsageError
from contracts.summary import Distribution
from loadgen.outputs import curves, drawing, html, node_plots, plot_data, plots, requests_csv, steps
from loadgen.outputs.results import parse

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """What a browser would make of a page: elements, ids, links, text."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def page_of(requests, summary=None):
    text = html.run_page(parse(summary or made_runs.summary_of(requests)), requests)
    return text, Page(text)


def with_failures(seed=2):
    dice = random.Random(seed)
    made = made_runs.closed_loop(rounds=50)
    for at in dice.sample(range(len(made)), 20):
        made[at] = made_runs.failed(at, made[at]["sent"], dice.choice(["cut", "http_503"]))
    return made


@pytest.fixture(scope="module")
def plain():
    return page_of(made_runs.closed_loop())


def test_the_page_needs_nothing_but_itself(plain):
    text, page = plain
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in page.all("href") + page.all("src"))
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_every_reference_has_its_element(plain):
    text, page = plain
    ids = page.all("id")
    assert len(ids) == len(set(ids)) > 50
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert {link[1:] for link in page.all("href")} <= set(ids)


def test_plots_are_well_formed_and_their_text_is_text(plain):
    text, page = plain
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) == 7
    for svg in svgs:
        assert ElementTree.fromstring(svg).get("viewBox")
    assert "TTFT: distribution" in page.words and "output tokens/s" in page.words


def test_plots_take_their_colours_from_the_page(plain):
    svgs = "".join(re.findall(r"<svg.*?</svg>", plain[0], re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", svgs)
    for name in set(re.findall(r"var\((--[a-z0-9]+)\)", svgs)):
        assert plain[0].count(f"{name}: #") == 3  # light, dark, paper


def test_the_verdict_comes_first():
    made = made_runs.closed_loop()
    good, bad = (page_of(made, made_runs.summary_of(made, why))[1].words for why in ((), ("Bad.",)))
    assert good.index("Nothing speaks against") < good.index("Main figures")
    assert "NOT VALID" not in good
    assert bad.index("NOT VALID") < bad.index("Bad.") < bad.index("Main figures")


def test_notes_are_shown_with_a_valid_run():
    made = made_runs.closed_loop()
    summary = made_runs.summary_of(made)
    summary["validity"]["notes"] = ["One replica was out."]
    assert "One replica was out." in page_of(made, summary)[1].words


def test_figures_are_the_summarys():
    made = [made_runs.request(0, 0.0, 0.25), made_runs.request(1, 0.0, 0.35)]
    words = page_of(made)[1].words
    assert "300.00 ms" in words  # TTFT p50
    assert "2 of 2" in words


def test_what_servers_and_people_say_is_escaped():
    evil = '<script>alert("x")</script>'
    made = [*made_runs.closed_loop(), made_runs.failed(100, 0.1, "server_error", evil)]
    made[0] |= {"replica": "http://a.b:1/<i>"}
    summary = made_runs.summary_of(made, [evil])
    summary["provenance"]["options"]["model"] = evil
    summary["provenance"]["context"] = {"id": evil, "site": {"name": evil}}
    text, page = page_of(made, summary)
    assert "<script" not in text and "<i>" not in text
    assert page.words.count(evil) >= 5


def test_a_dollar_in_a_name_is_no_formula():
    names = ["a$b$", "c$_"]
    figures = Distribution(p50=0.1, p95=0.2)
    assert "a$b$" in curves.replicas(names, {"ttft": [figures, figures]})[0].svg


def test_a_run_without_any_answer_has_a_page():
    made = [made_runs.failed(i, i * 0.1, "connect", "refused") for i in range(5)]
    words = page_of(made, made_runs.summary_of(made, ["No request succeeded."]))[1].words
    assert "No request succeeded." in words
    assert "n/a" in words and "None" not in words and "nan" not in words


def test_a_run_without_any_request_has_a_page():
    assert "Main figures" in page_of([])[1].words


def test_one_request_makes_a_page():
    assert "1 of 1" in page_of([made_runs.request(0, 0.0)])[1].words


def test_a_percentile_that_is_null_is_not_shown_as_a_figure():
    made = made_runs.closed_loop()
    summary = made_runs.summary_of(made)
    summary["latency_seconds"]["ttft"]["p99"] = None
    text, page = page_of(made, summary)
    assert "p99 n/a" in page.words
    first = re.search(r"<svg.*?</svg>", text, re.DOTALL)[0]
    assert "p90:" in first and "p99:" not in first


def test_failures_are_listed_and_drawn():
    page = page_of(with_failures())[1]
    assert "Failures over time" in page.words and "http_503" in page.words


def test_replicas_are_compared_where_there_are_several():
    made = made_runs.closed_loop()
    assert "TTFT by replica" not in page_of(made)[1].words
    for line in made:
        line["replica"] = f"http://node{line['request'] % 2}:80"
    words = page_of(made)[1].words
    assert "TTFT by replica" in words and "http://node1:80" in words


def test_provenance_says_what_is_known_and_what_is_not():
    made = made_runs.closed_loop()
    summary = made_runs.summary_of(made)
    summary["provenance"]["server"]["after"] = [{"version": "0.18.0", "size": 4, "size_vram": 1}]
    summary["provenance"]["context"] = {
        "id": "chat-1",
        "jobs": {"ollama": {"id": "4711"}, "client": {"id": "4712"}},
        "loaded_model": {"digest": "sha256:abc", "quantization": "Q4_0"},
        "settings": {"OLLAMA_NUM_PARALLEL": "4"},
        "hardware": {"driver_version": "550.54"},
    }
    words = page_of(made, summary)[1].words
    for known in ("ollama: 4711, client: 4712", "sha256:abc", "Q4_0", "OLLAMA_NUM_PARALLEL: 4",
                  "driver 550.54", "server version 0.17.4, 0.18.0", "git commit abc1234", "seed 0",
                  "sits on 25% in GPU memory",
                  "command python3 -m loadgen --url h", "site n/a", "images n/a"):  # fmt: skip
        assert known in words


def test_provenance_names_the_images_that_ran():
    made = made_runs.closed_loop()
    summary = made_runs.summary_of(made)
    of_file = {"bytes": 1_234_567, "changed": "2026-01-02T03:04:05Z"}
    summary["provenance"]["context"] = {
        "site": {"runtime": "apptainer", "images": {"ollama": "docker://ollama/ollama:0.17.4"}},
        "images": {
            "ollama": {"path": "/o/containers/ollama-1a2b.sif", "sha256": "c0ffee", **of_file},
            "client": {"path": "/images/mine.sif", "sha256": None, **of_file},
        },
    }
    words = page_of(made, summary)[1].words
    assert "docker://ollama/ollama:0.17.4" in words
    assert "image of ollama ollama-1a2b.sif, sha256:c0ffee" in words
    assert "image of client mine.sif, 1,234,567 bytes, changed 2026-01-02T03:04:05Z" in words


def test_a_run_of_ten_thousand_requests_stays_below_a_megabyte():
    made = made_runs.closed_loop(clients=50, rounds=200)
    text, _ = page_of(made)
    assert len(text.encode()) < 1_000_000


# --- what is drawn ---


def test_an_ecdf_of_a_million_values_keeps_its_ends_and_its_shape():
    values = np.random.default_rng(1).exponential(size=1_000_000)
    x, share = plot_data.ecdf(values)
    assert len(x) <= plot_data.MOST_POINTS
    assert (x[0], x[-1], share[-1]) == (values.min(), values.max(), 1.0)
    assert np.all(np.diff(x) >= 0)
    assert np.interp(0.99, share, x) == pytest.approx(np.quantile(values, 0.99), rel=0.01)


def test_an_ecdf_of_few_values_is_exact():
    x, share = plot_data.ecdf(np.array([3.0, 1.0, 2.0, 2.0]))
    assert x.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert share.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_tokens_over_time_add_up_to_all_tokens_of_whole_requests():
    made = with_failures()
    over = plot_data.slices(made)
    found = (plot_data.tokens_per_second(made, over) * np.diff(over.edges)).sum()
    assert found == pytest.approx(sum(r["output_tokens"] for r in made if r["error"] is None))


def test_requests_in_flight_are_weighted_by_time():
    made = [made_runs.request(0, 0.0, 4.0, ()), made_runs.request(1, 1.0, 2.0, ())]
    found = plot_data.in_flight(made, plot_data.Slices(2.0, 4.0))
    assert found.tolist() == pytest.approx([1.5, 1.5])


def test_distributions_hold_the_requests_that_count_and_no_others():
    made = [made_runs.request(at, at, 0.1) for at in range(4)]
    made[0]["in_window"] = False
    made[1] = made_runs.failed(1, 1.0)
    assert plot_data.values(made, "ttft").tolist() == [0.1, 0.1]
    assert len(plot_data.values(made, "itl")) == 30


def test_what_lies_outside_the_window_is_shaded_and_said():
    made = made_runs.closed_loop()
    summary = made_runs.summary_of(made)
    assert "Shaded" not in page_of(made, summary)[1].words
    summary["seconds"] |= {"ramp_up": 1.0, "measured": 5.0}
    assert "outside the window that counts (1.00 s to 6.00 s)" in page_of(made, summary)[1].words


def test_in_an_open_loop_times_begin_at_the_intended_sending():
    late = made_runs.request(0, 3.0, 2.0, (), client=None, intended=1.0)
    assert plot_data.end_of(late) == 3.0
    assert plot_data.end_of(late | {"client": 0}) == 5.0


# --- nodes and GPUs meanwhile ---


def plots_beside(**made):
    requests = made_runs.closed_loop(rounds=120)  # about a minute
    found = made_runs.observed(**made)
    return node_plots.draw_plots(found, parse(made_runs.summary_of(requests)), requests)


def test_what_prometheus_saw_is_drawn_in_the_report(tmp_path):
    folder = made_runs.write(tmp_path / "run", made_runs.closed_loop())
    assert html.main([str(folder)]) == 0
    assert "GPU utilisation" not in (folder / "report.html").read_text()
    (folder / "metrics.json").write_text(json.dumps(made_runs.observed(12.0)))
    assert html.main([str(folder)]) == 0
    page = Page((folder / "report.html").read_text())
    for title in ("GPU utilisation", "CPU utilisation", "Memory used", "every 5 s"):
        assert title in page.words
    ids = page.all("id")
    assert len(ids) == len(set(ids))


def test_it_has_the_time_axis_of_the_latencies(monkeypatch):
    """Also where the samples begin before the run and end before it does."""
    limits = []

    def draw(name, title, fill):
        axes = Figure().add_subplot()
        fill(axes)
        limits.append((axes.get_xlim(), axes.get_xlabel()))
        return ""

    for module in (plots, drawing):
        monkeypatch.setattr(module, "draw", draw)
    requests = made_runs.closed_loop(rounds=120)
    summary = parse(made_runs.summary_of(requests))
    plots.over_time(summary, requests)
    node_plots.draw_plots(made_runs.observed(40.0), summary, requests)
    assert len(limits) == 7 and len(set(limits)) == 1
    assert limits[0][0] == (0, plot_data.slices(requests).end)


def test_gpus_are_told_apart_by_what_differs():
    def words(plot):
        return re.findall(r"GPU \d|n\d, GPU \d", plot.svg)

    one_node, two_nodes = plots_beside(gpus=2)[0], plots_beside(gpus=1, nodes=2)[0]
    assert words(one_node) == ["GPU 0", "GPU 1"]
    assert words(two_nodes) == ["n0, GPU 0", "n1, GPU 0"]
    assert plots_beside(gpus=1)[0].caption == "n0, GPU 0"


def test_more_gpus_than_can_be_told_apart_are_a_range():
    plot = plots_beside(gpus=4, nodes=4)[0]
    assert plot.caption == "Mean, least and greatest of 16."
    assert "GPU 3" not in plot.svg


def test_what_prometheus_did_not_tell_is_said_in_the_report():
    requests = made_runs.closed_loop()
    found = made_runs.observed() | {"series": [], "problem": "Prometheus at <x> does not answer."}
    page = Page(html.run_page(parse(made_runs.summary_of(requests)), requests, found))
    assert "Prometheus at <x> does not answer." in page.words


# --- sweeps and the command ---


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return made_runs.write_sweep(folder, {n: made_runs.closed_loop(n, 10) for n in (1, 2, 4)})


def test_report_makes_the_pages_of_a_sweep_again(sweep, capsys):
    assert html.main([str(sweep)]) == 0
    assert capsys.readouterr().out.strip() == str(sweep / "report.html")
    page = Page((sweep / "report.html").read_text())
    links = [href for href in page.all("href") if not href.startswith("#")]
    assert links == [f"clients-{n}/report.html" for n in (1, 2, 4)]
    for link in links:
        assert "Main figures" in Page((sweep / link).read_text()).words


def test_a_point_that_is_not_valid_is_named_in_the_sweep(sweep):
    summary = json.loads((sweep / "summary.json").read_text())
    point = summary["sweep"]["points"][1]["summary"]
    point["validity"] |= {"valid": False}
    point["latency_seconds"]["ttft"] = dict.fromkeys(point["latency_seconds"]["ttft"])
    words = Page(html.sweep_page(parse(summary))).words
    assert re.search(r"NOT VALID 4 3\.92", words), "in the row of 2 clients, before that of 4"
    assert words.count("NOT VALID") == 1


def test_report_makes_the_page_of_a_run_again(tmp_path):
    made_runs.write(tmp_path / "run", made_runs.closed_loop())
    assert html.main([str(tmp_path / "run")]) == 0
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "report.html", "requests.jsonl", "summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no results"),
        ({"summary.json": "{"}, "cannot be read"),
        ({"summary.json": "{}"}, "no summary of a run"),
        ({"summary.json": json.dumps(made_runs.summary_of([]))}, "holds no requests.jsonl"),
    ],
)
def test_a_folder_without_results_is_refused_in_a_sentence(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words) as refused:
        html.main([str(tmp_path)])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("module", ["loadgen.__main__", "orch", "clientService"])
def test_nothing_that_measures_or_orchestrates_imports_matplotlib(module):
    code = f"import {module}, sys; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- steps of retrieval ---


def with_retrieval(n=20):
    """Requests of 0.5 s, 0.02 s of which nobody accounts for; embedding the last two takes 0.5 s
    more."""
    made = []
    for index in range(n):
        embed = 0.55 if index >= n - 2 else 0.05
        server = {"embed": embed, "search": 0.02, "load": 0.01, "prefill": 0.1, "decode": 0.3}
        server |= {"total": 0.42, "queue": 0.02}
        made.append(made_runs.request(index, float(index), embed + 0.15, server=server))
    return made


def test_steps_add_up_to_e2e_and_the_rest_is_what_nobody_accounts_for():
    made = with_retrieval()
    for each, request in zip(steps.steps_of(made), made, strict=True):
        assert tuple(each) == steps.STEPS
        assert steps.total(each) == pytest.approx(request["e2e"])
        assert each["rest"] == pytest.approx(0.02)
    means = steps.mean(steps.steps_of(made))
    assert sum(means.values()) == pytest.approx(0.5 + 0.05)
    assert means["embed"] == pytest.approx(0.1)


def test_the_slowest_tenth_shows_what_makes_them_slow():
    slow = steps.slowest(steps.steps_of(with_retrieval()))
    assert len(slow) == 2 and steps.mean(slow)["embed"] == pytest.approx(0.55)
    assert steps.slowest(steps.steps_of(with_retrieval(9))) == []


def test_a_run_with_retrieval_shows_its_steps_and_their_shares():
    text, page = page_of(with_retrieval())
    assert 'aria-label="Steps of a request"' in text and "slowest tenth" in page.words
    assert "embed 18.18% 100.00" in page.words  # 0.1 of 0.55 s
    assert "E2E 100.00% 550.00" in page.words


def test_a_run_without_retrieval_says_nothing_of_steps(plain):
    assert "Steps" not in plain[1].words


# --- requests.csv ---


def table(requests):
    return list(csv.DictReader(io.StringIO("".join(requests_csv.csv_lines(requests)))))


def test_the_table_has_a_row_per_request_and_sums_up_the_gaps():
    row = table([made_runs.request(7, 1.5, 0.25, (0.01, 0.03))])[0]
    assert (row["request"], row["ttft"], row["n_gaps"], row["max_gap"]) == (
        "7",
        "0.25",
        "2",
        "0.03",
    )
    assert float(row["mean_gap"]) == pytest.approx(0.02)
    assert (row["server_prefill"], row["in_window"], row["error"]) == ("0.1", "true", "")


def test_a_cell_is_empty_where_nothing_is_known():
    row = table([made_runs.failed(0, 0.0)])[0]
    assert row["ttft"] == row["mean_gap"] == row["server_decode"] == ""
    assert row["message"] == "busy"


def test_a_message_is_neither_a_formula_nor_two_lines():
    found = table([made_runs.failed(0, 0.0, "x", '=HYPERLINK("a"),\nb'), made_runs.request(1, 0.0)])
    assert len(found) == 2
    assert found[0]["message"] == '\'=HYPERLINK("a"),\nb'
