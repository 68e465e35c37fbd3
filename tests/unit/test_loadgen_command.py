"""`python3 -m loadgen` as people and the client service call it."""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from events import PATIENCE_S, undisturbed, until
from paced_server import Pace, running

from loadgen.__main__ import _Watch
from loadgen.load.worker import new_event_loop

ROOT = Path(__file__).resolve().parents[2]


def finish(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def summary_of(tmp_path):
    return json.loads((tmp_path / "out" / "summary.json").read_text())


@undisturbed
def test_a_run_leaves_its_files_and_prints_a_table(start, server, tmp_path):
    server.pace = Pace(ttft=0.1)  # so that all are in flight at once, on a busy machine too
    code, out, err = finish(start("--clients", 3, "--requests", 6, report=True))
    assert (code, err) == (0, "")
    assert "6 of 6 requests succeeded" in out
    assert "TTFT" in out and out.rstrip().endswith("valid")
    summary = summary_of(tmp_path)
    assert (summary["validity"]["valid"], summary["validity"]["reasons"]) == (True, [])
    notes = summary["validity"]["notes"]
    # On a busy machine a maximum may be withheld, which is another test's.
    supported, long_enough = [note for note in notes if not note.startswith("The greatest")]
    assert supported.endswith("requests do not support p90, p95, p99: n/a.")
    assert "too short to tell whether the load generator limited it" in long_enough
    assert summary["provenance"]["options"]["clients"] == 3
    lines = [json.loads(x) for x in (tmp_path / "out" / "requests.jsonl").open()]
    assert [line["request"] for line in lines] == list(range(6))
    assert all(len(line["gaps"]) == 7 for line in lines)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "report.html",
        "requests.csv",
        "requests.jsonl",
        "summary.json",
    ]


def test_the_summary_has_the_keys_that_are_promised(start, tmp_path):
    finish(start("--quiet"))
    summary = summary_of(tmp_path)
    figures = {"mean", "std", "min", "p50", "p90", "p95", "p99", "max", "n"}
    assert {"planned", "started", "succeeded", "failed", "errors"} <= set(summary["requests"])
    assert set(summary["seconds"]) == {"measured", "total", "ramp_up", "drain", "warmup"}
    assert {"source", "distinct", "note"} <= set(summary["prompts"])
    assert {"joules", "joules_per_output_token", "why"} <= set(summary["energy"])
    assert set(summary["validity"]) == {"valid", "reasons", "codes", "notes"}
    assert {"command", "git_commit", "server", "context", "options"} <= set(summary["provenance"])
    assert {"mean", "max"} <= set(summary["concurrency"])
    for figure in ("ttft", "itl", "tpot", "e2e"):
        assert set(summary["latency_seconds"][figure]) == figures
    for figure in ("load", "prefill", "decode", "queue"):
        assert set(summary["server_seconds"][figure]) == figures
    assert set(summary["per_request"]["output_tokens_per_second"]) == figures
    assert set(summary["throughput"]) == {
        "requests_per_second",
        "output_tokens_per_second",
        "input_tokens_per_second",
    }
    assert set(summary["client"]["dispatch_delay_seconds"]) >= {"mean", "p50", "p99", "max"}
    assert set(summary["client"]["loop_lag_seconds"]) >= {"mean", "p50", "p99", "max"}
    assert set(summary["client"]["unsure"]) == {"ttft", "itl", "e2e"}


def test_a_run_that_is_not_valid_ends_with_6_and_says_why(start, server, tmp_path):
    server.pace = Pace(failure="cut", fail_every=2)
    code, out, _ = finish(start("--requests", 4, "--warmup", 0))
    assert code == 6
    assert "2 of 4 requests failed (2 cut)" in out
    assert not summary_of(tmp_path)["validity"]["valid"]


def test_a_target_that_is_not_there_ends_with_4_and_a_sentence(start, tmp_path):
    code, out, err = finish(start(url="http://127.0.0.1:9"))
    assert (code, out) == (4, "")
    assert err.count("\n") == 1 and "127.0.0.1:9" in err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clients", "0"],
        ["--clients", "10001"],
        ["--requests", "0"],
        ["--num-predict", "0"],
        ["--num-predict", "-1"],
        ["--warmup", "-1"],
        ["--seed", "-1"],
        ["--timeout", "nan"],
        ["--timeout", "0"],
        ["--prompt", ""],
        ["--prompts", "/nonexistent"],
        ["--model", ""],
        ["--url", "ftp://server"],
        ["--api", "other"],
        ["--rate", "0", "--duration", "1"],
        ["--rate", "nan", "--duration", "1"],
        ["--rate", "10"],
        ["--rate", "10", "--duration", "0"],
        ["--rate", "10", "--duration", "1", "--requests", "5"],
        ["--rate", "10", "--clients", "2"],
        ["--clients", "2", "--max-concurrency", "2"],
        ["--sweep", "1,x"],
        ["--sweep", "1,1"],
        ["--sweep", "0"],
        ["--sweep-rate", "1,2"],
        ["--goodput", "ttft"],
        ["--input-tokens", "0"],
        ["--processes", "0"],
        ["--stop-on-errors", "0"],
        ["--context", "/nonexistent"],
        ["--wat"],
    ],
)
def test_what_makes_no_sense_ends_with_2(arguments, tmp_path, capsys):
    from loadgen.__main__ import main

    plain = ["--url", "http://127.0.0.1:9", "--model", "m", "--out", str(tmp_path / "out")]
    try:
        code = main([*plain, *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_are_never_overwritten(start, tmp_path):
    finish(start("--quiet"))
    code, _, err = finish(start("--quiet"))
    assert code == 2
    assert "holds the results of another run" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_keeps_what_it_measured(start, server, tmp_path, number):
    server.pace = Pace(itl=0.01)
    process = start("--clients", 2, "--requests", 1000)
    until(lambda: server.seen.requests > 5)
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, err) == (130, "")
    summary = summary_of(tmp_path)
    assert summary["partial"] and summary["stopped"] == f"by {number.name}"
    assert summary["requests"]["succeeded"] >= 2
    assert "NOT VALID" in out


def test_it_ends_when_the_pipe_of_its_parent_closes(start, server, tmp_path):
    server.pace = Pace(itl=0.01)
    process = start("--requests", 1000, "--die-with-stdin", "--quiet")
    until(lambda: server.seen.requests > 3)
    process.stdin.close()
    process.stdin = None
    code, _, _ = finish(process)
    assert code == 130
    assert summary_of(tmp_path)["stopped"] == "its parent ended"


def test_without_that_option_a_closed_stdin_means_nothing(start):
    code, _, _ = finish(start("--requests", 3, stdin=subprocess.DEVNULL))
    assert code in (0, 6)  # not 130


@undisturbed
def test_progress_is_a_json_line_now_and_then(start, server):
    server.pace = Pace(itl=0.03)
    _, out, _ = finish(start("--requests", 2, "--json-progress", "--quiet"))
    lines = [json.loads(line) for line in out.splitlines()]
    assert 3 <= len(lines) <= 12
    assert lines[0]["phase"] == "warmup" and lines[-1]["phase"] == "measure"
    assert [line["done"] for line in lines] == sorted(line["done"] for line in lines)
    assert lines[-1]["planned"] == 2


@undisturbed
def test_the_limit_of_open_files_is_raised_for_many_clients(start, server, tmp_path):
    server.pace = Pace(ttft=0.5)
    process = start("--clients", 300, "--quiet", "--warmup", 0, files=(128, 4096))
    assert finish(process)[0] == 0
    assert summary_of(tmp_path)["concurrency"]["max"] == 300
    assert server.seen.most_in_flight == 300


def test_where_it_cannot_be_raised_a_sentence_says_so(start):
    code, _, err = finish(start("--clients", 300, files=(128, 200)))
    assert code == 2
    assert "300 clients need 364 open files, but the limit is 200" in err


@undisturbed
def test_connections_made_beforehand_leave_files_for_the_rest(start, server, tmp_path):
    """Wanted are 514, for 300 in flight; no replica may look gone because of a limit of ours."""
    with running() as other:
        server.pace = other.pace = Pace(ttft=0.5)
        url = f"http://127.0.0.1:{other.port}"
        load = ("--rate", 600, "--arrivals", "constant", "--requests", 600, "--url", url)
        _, _, err = finish(start(*load, files=(450, 450)))
    assert err == ""
    summary = summary_of(tmp_path)
    assert summary["requests"]["succeeded"] == 600
    assert not any(replica["outages"] for replica in summary["replicas"])


def test_nothing_of_the_rest_of_the_project_is_imported():
    code = "import sys, loadgen.__main__; print([m for m in sys.modules if m.split('.')[0] in "
    code += "('hpc', 'flask', 'numpy', 'orch', 'clientService')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_word_to_end_that_comes_last_waits_until_the_results_are_written():
    """Whoever cancels a job tells all of its processes, also one that has just stopped."""
    before = signal.getsignal(signal.SIGTERM)
    watch = _Watch(Namespace(die_with_stdin=False, json_progress=False))

    async def run():
        watch.attach(SimpleNamespace(stop=None))
        watch.detach()

    loop = new_event_loop()
    try:
        loop.run_until_complete(run())
        loop.close()  # which takes its handlers away
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.told_late == "by SIGTERM"
    finally:
        signal.signal(signal.SIGTERM, before)
