"""Several processes that carry one load, against the stand-in with known times."""

import json
import os
import signal
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed, until
from paced_server import Pace


def finish(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def results(tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").open()]
    return json.loads((tmp_path / "out" / "summary.json").read_text()), lines


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


@undisturbed
def test_all_clients_of_all_processes_are_in_flight_at_once(start, server, tmp_path):
    server.pace = Pace(ttft=0.3)
    _, _, err = finish(start("--clients", "30", "--requests", "90", "--processes", "3"))
    assert err == ""
    summary, lines = results(tmp_path)
    # the stand-in is as slow as a busy machine makes it, and so may we be
    assert set(summary["validity"]["codes"]) <= {"load_generator"}
    assert server.seen.most_in_flight == 30
    assert summary["concurrency"]["max"] == 30
    assert summary["client"]["processes"] == 3
    assert [line["request"] for line in lines] == list(range(90))
    shares = [sum(line["client"] == client for line in lines) for client in range(30)]
    assert shares == [3] * 30
    seeds = sorted(body["options"]["seed"] for body in server.seen.bodies[3:])
    assert seeds == list(range(90))


def test_an_open_loop_sends_each_request_once_at_its_time(start, server, tmp_path):
    server.pace = Pace(ttft=0.05)
    load = ("--rate", "100", "--arrivals", "constant", "--requests", "60", "--processes", "2")
    _, _, err = finish(start(*load))
    assert err == ""
    summary, lines = results(tmp_path)
    assert set(summary["validity"]["codes"]) <= {"load_generator"}
    assert [line["intended"] for line in lines] == pytest.approx([n / 100 for n in range(60)])
    assert all(line["sent"] >= line["intended"] for line in lines)
    assert server.seen.requests == 62  # with a warm-up of each process


def test_results_of_any_size_come_through(start, tmp_path):
    """Some megabytes from each process, while the other still sends."""
    load = ("--clients", "8", "--requests", "4000", "--num-predict", "64", "--processes", "2")
    _, _, err = finish(start(*load))
    assert err == ""
    summary, lines = results(tmp_path)
    assert len(lines) == summary["requests"]["succeeded"] == 4000


@undisturbed
def test_progress_is_of_all_of_them(start, server):
    server.pace = Pace(ttft=0.2, itl=0.02)
    process = start("--clients", "4", "--requests", "12", "--processes", "2", "--json-progress",
                    "--quiet")  # fmt: skip
    _, out, _ = finish(process)
    last = json.loads(out.splitlines()[-1])
    assert last["planned"] == 12
    assert 4 <= last["done"] <= 12
    assert last["ttft_p50"] == pytest.approx(0.2, abs=0.1)
    assert last["requests_per_second"] > 0 and last["output_tokens_per_second"] > 0


def test_a_stop_ends_all_and_keeps_what_was_measured(start, server, tmp_path):
    server.pace = Pace(itl=0.01)
    process = start("--clients", "4", "--requests", "4000", "--processes", "2")
    until(lambda: server.seen.requests > 20)
    workers = children(process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert (code, err) == (130, "")
    summary, lines = results(tmp_path)
    assert summary["stopped"] == "by SIGINT"
    assert 1 <= summary["requests"]["interrupted"] <= 4  # some may have ended at that moment
    assert len(lines) == summary["requests"]["started"]
    assert len(workers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(start, server):
    server.pace = Pace(itl=0.01)
    process = start("--clients", "4", "--requests", "4000", "--processes", "2")
    until(lambda: server.seen.requests > 20)
    workers = children(process)
    os.kill(workers[1], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 1
    assert err == "loadgen: a process of the load generator was killed.\n"
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_end_when_their_parent_is_killed(start, server):
    server.pace = Pace(itl=0.01)
    process = start("--clients", "4", "--requests", "4000", "--processes", "2")
    until(lambda: server.seen.requests > 20)
    workers = children(process)
    process.kill()
    until(lambda: not any(_runs(pid) for pid in workers))


def _runs(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_target_that_is_not_there_is_one_sentence(start, server):
    process = start("--clients", "4", "--processes", "2", "--model", "nope")
    code, _, err = finish(process)
    assert code == 4
    assert err.count("\n") == 1 and "model 'nope' not found" in err


def test_too_many_errors_end_the_run(start, server, tmp_path):
    server.pace = Pace(itl=0.01, failure="http_500", fail_from=2)
    code, out, _ = finish(
        start("--clients", "4", "--requests", "100000", "--processes", "2", "--stop-on-errors", "9")
    )
    assert code == 6
    assert "--stop-on-errors" in out
    summary, _ = results(tmp_path)
    assert summary["requests"]["failed"] >= 9
