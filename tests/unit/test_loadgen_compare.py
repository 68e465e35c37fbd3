"""`loadgen compare`: known changes are found, none is found where there is none."""

import json
import math
from html.parser import HTMLParser

import made_runs
import numpy as np
import pytest

from loadgen.__main__ import main
from loadgen.compare import changes, intervals
from loadgen.outputs import results


@pytest.fixture
def compared(capsys, monkeypatch, tmp_path):
    """Run the command: returns (exit code, stdout, stderr)."""

    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))

    def run(*arguments):
        code = main(["compare", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def row(text, label):
    """The cells of a figure's row, as [A, B, low, high, verdict]."""
    line = next(line for line in text.splitlines() if line.startswith(label))
    rest = line.removeprefix(label).replace("[", " ").replace("]", " ").replace(",", " ").split()
    return [float(rest[at]) for at in (0, 1, 3, 4)] + [" ".join(rest[8:])]


def several(folder, seeds, ttft=0.2, **changed):
    for seed in seeds:
        made = made_runs.closed_loop(rounds=20, seed=seed, ttft=ttft)
        made_runs.write(folder / f"run-{seed}", made, made_runs.summary_of(made, **changed))
    return folder


# --- intervals ---


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (100, 1.984)]
)
def test_quantiles_of_students_t_are_those_of_the_tables(freedom, expected):
    assert intervals.t_quantile(freedom) == pytest.approx(expected, abs=0.001)


def test_welchs_interval_follows_its_formula():
    # Means 2 and 6, variances of the means 1/3 and 4/3: 25/9 / (1/18 + 16/18) degrees of freedom.
    change = intervals.over_runs([1.0, 2.0, 3.0], [4.0, 6.0, 8.0])
    half = intervals.t_quantile(50 / 17) * math.sqrt(5 / 3)
    assert change.difference == pytest.approx((4 - half, 4 + half))


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 0.9, 1.2, 2.0])
def test_the_ratios_interval_holds_1_exactly_where_the_differences_holds_0(shift):
    a = [9.8, 10.1, 10.4, 9.9]
    change = intervals.over_runs(a, [x + shift for x in (9.7, 10.2, 10.0, 10.6)])
    low, high = change.ratio
    assert low < change.b / change.a < high
    assert (low <= 1 <= high) == (not change.shown)


def test_intervals_over_runs_hold_the_truth_as_often_as_they_say():
    dice = np.random.default_rng(5)
    missed = sum(
        intervals.over_runs(list(dice.normal(10, 1, 3)), list(dice.normal(10, 3, 4))).shown
        for _ in range(2000)
    )
    assert missed / 2000 == pytest.approx(0.05, abs=0.02)


def test_runs_that_are_all_the_same_have_an_interval_of_no_width():
    assert intervals.over_runs([0.0, 0.0], [0.0, 0.0]).difference == (0.0, 0.0)
    assert intervals.over_runs([1.0, 1.0], [2.0, 2.0]).shown


def test_blocks_hold_each_request_once_in_whole_rounds():
    made = made_runs.closed_loop(clients=4, rounds=30)
    parts = intervals.blocks(made, 4)
    assert sorted(r["request"] for part in parts for r in part) == list(range(120))
    assert {len(part) for part in parts} == {8}


def test_requests_outside_the_steady_window_are_in_no_block():
    made = made_runs.closed_loop(clients=1, rounds=200)
    made[-1]["in_window"] = False
    assert sum(map(len, intervals.blocks(made, 1))) == 199


def test_dependent_neighbours_widen_the_interval():
    """Blocks of ten equal requests carry a tenth of the knowledge of as many that vary freely."""
    dice = np.random.default_rng(3)
    free = dice.normal(1.0, 0.1, 1000)
    tied = np.repeat(dice.normal(1.0, 0.1, 100), 10)
    widths = []
    for values in (free, tied):
        parts = [values[at : at + 10] for at in range(0, 1000, 10)]
        of = intervals.mean_of(parts)
        change = intervals.within_runs(1.0, 1.0, of, of, (100, 100))
        widths.append(change.difference[1] - change.difference[0])
    assert 2 < widths[1] / widths[0] < 5  # the square root of 10 is 3.2


def test_percentiles_of_blocks_are_those_of_all_their_values():
    parts = [np.random.default_rng(seed).exponential(size=700) for seed in range(10)]
    for percent in (50, 99):
        found = intervals.percentile_of(parts, percent)(np.ones((1, 10)))[0]
        assert found == pytest.approx(np.percentile(np.concatenate(parts), percent), rel=0.02)


# --- several runs ---


def test_a_known_change_is_found_between_runs(compared, tmp_path):
    a, b = several(tmp_path / "a", range(4)), several(tmp_path / "b", range(10, 14), ttft=0.25)
    code, out, err = compared(a, b)
    assert (code, err) == (0, "")
    assert "4 runs of A, 4 of B" in out and "The run is the unit" in out
    before, after, low, high, verdict = row(out, "TTFT mean [ms]")
    assert (before, after) == (pytest.approx(200, rel=0.05), pytest.approx(250, rel=0.05))
    assert low < 50 < high and low > 0
    assert verdict == "higher (worse)"
    assert row(out, "output tokens/s, all clients")[-1] == "lower (worse)"
    assert row(out, "ITL mean [ms]")[-1] == "no difference shown"


def test_the_same_thing_measured_twice_shows_no_difference(compared, tmp_path):
    a, b = several(tmp_path / "a", range(4)), several(tmp_path / "b", range(20, 24))
    _, out, _ = compared(a, b)
    for label in ("TTFT mean [ms]", "ITL mean [ms]", "E2E mean [ms]", "requests/s, all clients"):
        low, high = row(out, label)[2:4]
        assert low < 0 < high


def test_lists_of_folders_are_sides_too(compared, tmp_path):
    a, b = several(tmp_path / "a", range(2)), several(tmp_path / "b", range(2, 4))
    lists = ("--a", a / "run-0", a / "run-1", "--b", b / "run-2", b / "run-3")
    assert compared(*lists)[1].splitlines()[2:] == compared(a, b)[1].splitlines()[2:]


def test_a_figure_that_one_run_lacks_is_left_out_not_made_up(tmp_path):
    a, b = several(tmp_path / "a", range(2)), several(tmp_path / "b", range(2, 4))
    path = a / "run-0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["latency_seconds"]["ttft"]["p99"] = None
    path.write_text(json.dumps(summary))
    section = changes.sections(results.read_side([a]), results.read_side([b]))[0]
    labels = [figure.label for figure, _ in section.changes]
    assert "TTFT p50 [ms]" in labels and "TTFT p99 [ms]" not in labels


def test_one_run_against_several_has_no_interval_and_says_why(compared, tmp_path):
    a = several(tmp_path / "a", range(3))
    code, out, _ = compared(a, a / "run-0")
    assert code == 0 and "no intervals" in out
    line = next(line for line in out.splitlines() if line.startswith("TTFT mean [ms]"))
    assert "[n/a]" in line and line.endswith("no interval")


# --- single runs ---


def test_single_runs_are_compared_within_themselves_and_it_is_said(compared, tmp_path):
    for name, seed, ttft in (("a", 1, 0.2), ("b", 2, 0.26)):
        made_runs.write(tmp_path / name, made_runs.closed_loop(rounds=50, seed=seed, ttft=ttft))
    code, out, _ = compared(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "not independent" in out and "within-run only" in out
    low, high = row(out, "TTFT mean [ms]")[2:4]
    assert 0 < low < 60 < high


def test_a_run_against_itself_shows_no_difference(compared, tmp_path):
    made_runs.write(tmp_path / "a", made_runs.closed_loop(rounds=50))
    _, out, _ = compared(tmp_path / "a", tmp_path / "a")
    assert "higher" not in out and "lower" not in out
    assert compared(tmp_path / "a", tmp_path / "a")[1] == out  # seeded


def test_too_few_requests_have_no_interval(compared, tmp_path):
    made_runs.write(tmp_path / "a", made_runs.closed_loop(rounds=3))
    code, out, _ = compared(tmp_path / "a", tmp_path / "a")
    assert code == 0
    assert "too few" in out and "[n/a]" in out


# --- sweeps ---


def test_sweeps_are_compared_point_by_point(compared, tmp_path):
    for name, ttft, points in (("a", 0.1, (1, 2, 4)), ("b", 0.15, (1, 4, 8))):
        runs = {n: made_runs.closed_loop(n, 60, ttft) for n in points}
        made_runs.write_sweep(tmp_path / name, runs)
    code, out, _ = compared(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "1 clients: 1 run of A, 1 of B" in out and "4 clients: 1 run of A, 1 of B" in out
    assert "Only A has these points: 2." in out and "Only B has these points: 8." in out
    assert out.count("higher (worse)") >= 2


# --- warnings and refusals ---


def test_a_run_that_is_not_valid_is_a_loud_warning(compared, tmp_path):
    made = made_runs.closed_loop()
    made_runs.write(tmp_path / "a", made)
    made_runs.write(tmp_path / "b", made, made_runs.summary_of(made, ["The server changed."]))
    out = compared(tmp_path / "a", tmp_path / "b")[1]
    assert f"WARNING: {tmp_path / 'b'} (B) is NOT VALID: The server changed." in out
    assert "WARNING" not in compared(tmp_path / "a", tmp_path / "a")[1]


def test_conditions_that_differ_are_each_named(compared, tmp_path):
    made = made_runs.closed_loop()
    other = made_runs.summary_of(made, clients=8)
    other["provenance"]["options"]["model"] = "another"
    other["provenance"]["server"] = {"before": [{"version": "0.18.0"}], "after": []}
    other["prompts"]["source"] = "file"
    other["load"]["through"] = "door"
    made_runs.write(tmp_path / "a", made)
    made_runs.write(tmp_path / "b", made, other)
    warned = [x for x in compared(tmp_path / "a", tmp_path / "b")[1].splitlines() if "WARN" in x]
    models = "the model (A: known:latest; B: another:latest)"
    assert f"WARNING: Not the same in A and B: {models}." in warned
    assert (
        "WARNING: Not the same in A and B: the server's version (A: 0.17.4; B: 0.18.0)." in warned
    )
    assert any("the load (" in line and "8 clients" in line for line in warned)
    assert any("the prompts (" in line for line in warned)
    assert any("the way to the engines (A: engines; B: door)" in line for line in warned)
    assert len(warned) == 5


def test_runs_of_one_side_that_differ_among_themselves_are_named(compared, tmp_path):
    a, b = several(tmp_path / "a", range(2)), several(tmp_path / "b", range(2, 4))
    path = a / "run-0" / "summary.json"
    path.write_text(path.read_text().replace("0.17.4", "0.16.0"))
    assert "in the runs of A: the server's version (0.16.0; 0.17.4)." in compared(a, b)[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.mkdir(), "holds no results"),
        (lambda folder: None, "holds no results"),
        (lambda folder: made_runs.write_sweep(folder, {1: made_runs.closed_loop(1)}), "in common"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(compared, tmp_path, make, words):
    made_runs.write(tmp_path / "a", made_runs.closed_loop())
    make(tmp_path / "b")
    code, out, err = compared(tmp_path / "a", tmp_path / "b")
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1


@pytest.mark.parametrize("given", [["x"], ["--a", "x"], ["x", "y", "--a", "z"], []])
def test_anything_but_two_sides_is_refused(compared, given):
    code, _, err = compared(*given)
    assert code == 2 and "two folders" in err


def test_the_page_says_what_the_text_says_and_escapes_it(compared, tmp_path):
    made = made_runs.closed_loop(rounds=50)
    made_runs.write(tmp_path / "a", made)
    made_runs.write(tmp_path / "b", made, made_runs.summary_of(made, ["<script>"]))
    page = tmp_path / "page.html"
    assert compared(tmp_path / "a", tmp_path / "b", "--html", page)[0] == 0
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    words = []
    parser = HTMLParser()
    parser.handle_data = words.append
    parser.feed(text)
    assert "within-run only" in " ".join(words) and "TTFT mean [ms]" in words


def test_a_page_that_cannot_be_written_is_a_sentence(compared, tmp_path):
    made_runs.write(tmp_path / "a", made_runs.closed_loop())
    code, _, err = compared(tmp_path / "a", tmp_path / "a", "--html", tmp_path / "no" / "page.html")
    assert code == 1 and "cannot write" in err
