"""What a run tells a Pushgateway and asks of a Prometheus; both are stand-ins here.

tests/local/test_run_monitoring.py has the real ones.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import made_runs
import pytest
from paced_server import Pace
from ports import free_port

from loadgen.outputs import prometheus, push, results

ROOT = Path(__file__).resolve().parents[2]
START = 1_767_225_600.5  # 2026-01-01T00:00:00.500Z


class StandIn:
    """A server that notes what it is sent (`requests`) and answers with `answer`."""

    def __init__(self):
        self.requests = []
        self.answer = lambda path: (200, b"")
        self.url = ""

    @property
    def queries(self):
        """The parameters of each query, one value each."""
        return [
            {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
            for _, path, _ in self.requests
        ]


@pytest.fixture
def stand_in(monkeypatch):
    """One that listens; http_proxy leads to nowhere."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    it = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            it.requests.append((self.command, self.path, body.decode()))
            status, data = it.answer(self.path)
            with contextlib.suppress(BrokenPipeError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_PUT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield it
    server.shutdown()
    server.server_close()


def summary(total=60.0, deployment="d-1", **changes):
    made = made_runs.summary_of(made_runs.closed_loop(), **changes)
    made["seconds"]["total"] = total
    made["provenance"]["started"] = "2026-01-01T00:00:00.500+00:00"
    made["provenance"]["context"] = {"id": deployment} if deployment else None
    return made


def found(*series):
    """As Prometheus answers."""
    result = [{"metric": metric, "values": values} for metric, values in series]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    return 200, json.dumps(answer).encode()


def nobody():
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


# --- metrics.json ---


def of_gpu(path):
    """One node with two GPUs, at each time that is asked for; nothing about anything else."""
    query = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
    if "GPU_UTIL" not in query["query"]:
        return found()
    first, end, step = (float(query[name]) for name in ("start", "end", "step"))
    times = [first + n * step for n in range(int((end - first) / step + 1.5))]
    return found(
        ({"node": "n1", "gpu": "0", "UUID": "GPU-a"}, [[at, "50"] for at in times]),
        ({"node": "n1", "gpu": "1"}, [[at, "NaN" if at == times[0] else "7"] for at in times]),
    )


def test_series_have_their_labels_and_points_from_the_runs_start_to_its_end(stand_in):
    stand_in.answer = of_gpu
    made = prometheus.snapshot(stand_in.url, START, START + 12)
    assert made["window"] == {"start": START, "end": START + 12, "step_seconds": 5}
    assert made["source"] == stand_in.url and "problem" not in made
    first, second = made["series"]
    assert first == {
        "name": "gpu",
        "title": "GPU utilisation",
        "unit": "percent",
        "labels": {"node": "n1", "gpu": "0", "UUID": "GPU-a"},
        "points": [[-3.0, 50.0], [2.0, 50.0], [7.0, 50.0], [12.0, 50.0]],
    }
    assert second["points"] == [[2.0, 7.0], [7.0, 7.0], [12.0, 7.0]]  # what is no number is none


def test_a_long_run_has_points_that_can_be_drawn(stand_in):
    stand_in.answer = of_gpu
    made = prometheus.snapshot(stand_in.url, START, START + 3 * 3600)
    assert made["window"]["step_seconds"] == 36
    assert len(made["series"][0]["points"]) == 301
    assert "[36s]" in " ".join(query["query"] for query in stand_in.queries)


def test_only_the_runs_own_deployment_is_asked_for(stand_in):
    prometheus.snapshot(stand_in.url, START, START + 60, 'a"b')
    assert len(stand_in.queries) == 1  # it answers nothing that can be read: enough
    stand_in.answer = lambda path: found()
    prometheus.snapshot(stand_in.url, START, START + 60, 'a"b')
    asked = [query["query"] for query in stand_in.queries[1:]]
    assert len(asked) == len(prometheus.WANTED)
    assert all('deployment="a\\"b"' in query and "$" not in query for query in asked)


REFUSED = json.dumps({"status": "error", "error": "parse error"}).encode()
PROBLEMS = {
    "refuses": ((400, REFUSED), "refuses a query (parse error)."),
    "no JSON": ((200, b"<html>"), "answers with something that is no JSON."),
    "another": ((200, b'{"version": "1"}'), "answers otherwise than Prometheus does."),
    "empty": (found(), "has nothing about the time of this run."),
}


@pytest.mark.parametrize(("answer", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_could_not_be_had_is_said_in_the_file(stand_in, tmp_path, answer, words):
    stand_in.answer = lambda path: answer
    problem = prometheus.write_snapshot(tmp_path, results.parse(summary()), stand_in.url)
    assert problem == f"Prometheus at {stand_in.url} {words}"
    made = prometheus.read_snapshot(tmp_path)
    assert (made["problem"], made["series"]) == (problem, [])


def test_a_prometheus_that_is_not_there_is_said_in_the_file(tmp_path):
    url = nobody()
    problem = prometheus.write_snapshot(tmp_path, results.parse(summary()), url)
    assert problem.startswith(f"Prometheus at {url} does not answer (")


def test_one_that_hangs_does_not_hold_up_the_run(monkeypatch):
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.2)
    with socket.socket() as listener:  # it takes connections, and says nothing
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        made = prometheus.snapshot(url, START, START + 60)
    assert made["problem"] == f"Prometheus at {url} does not answer (timed out)."


def test_the_window_is_that_of_the_run_by_the_wall_clock():
    assert prometheus.wall_window(results.parse(summary())) == (START, START + 60)
    older = summary()
    del older["provenance"]["started"], older["seconds"]["total"]
    began = START - 0.5 + older["seconds"]["warmup"]
    assert prometheus.wall_window(results.parse(older)) == (
        began,
        began + older["seconds"]["measured"],
    )


# --- the Pushgateway ---


def test_one_push_has_all_figures_of_the_run(stand_in):
    made = summary(reasons=["Bad."])
    made["requests"]["failed"] = 3
    assert push.push(stand_in.url, "run-1", results.parse(made)) is None
    ((method, path, body),) = stand_in.requests
    assert (method, path) == ("PUT", "/metrics/job/benchmark/deployment/d-1/run/run-1")
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    latencies = made["latency_seconds"]
    expected = {
        f'orch_benchmark_latency_seconds{{figure="{figure}",stat="{stat}"}}': latencies[figure][
            stat
        ]
        for figure in ("ttft", "itl", "tpot", "e2e")
        for stat in ("mean", "p50", "p95", "p99")
    }
    assert values == pytest.approx(
        expected
        | {
            "orch_benchmark_start_timestamp_seconds": START,
            "orch_benchmark_end_timestamp_seconds": START + 60,
            "orch_benchmark_valid": 0,
            'orch_benchmark_requests{outcome="ok"}': 100,
            'orch_benchmark_requests{outcome="error"}': 3,
            "orch_benchmark_requests_per_second": made["throughput"]["requests_per_second"],
            "orch_benchmark_output_tokens_per_second": made["throughput"][
                "output_tokens_per_second"
            ],
        }
    )


def test_figures_that_a_run_does_not_have_are_left_out_and_so_is_a_deployment(stand_in):
    made = summary(deployment=None)
    made["latency_seconds"]["ttft"]["p99"] = None
    made["throughput"]["requests_per_second"] = None
    push.push(stand_in.url, "run-1", results.parse(made))
    ((_, path, body),) = stand_in.requests
    assert path == "/metrics/job/benchmark/run/run-1"
    assert 'figure="ttft",stat="p95"' in body and 'figure="ttft",stat="p99"' not in body
    assert "requests_per_second" not in body


# --- the command ---


def run(tmp_path, server, *options):
    command = [sys.executable, "-m", "loadgen", "--url", f"http://127.0.0.1:{server.port}"]
    command += ["--model", "known", "--out", str(tmp_path / "out"), "--quiet", "--no-report"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_run_tells_and_asks_both_of_them_at_its_end(server, stand_in, tmp_path):
    stand_in.answer = lambda path: of_gpu(path) if path.startswith("/api") else (200, b"")
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"id": "d-7"}))
    options = ["--push-gateway", stand_in.url, "--prometheus", stand_in.url]
    assert run(tmp_path, server, *options, "--context", str(context)) == (0, "")
    pushed = [path for method, path, _ in stand_in.requests if method == "PUT"]
    assert pushed == ["/metrics/job/benchmark/deployment/d-7/run/out"]
    made = prometheus.read_snapshot(tmp_path / "out")
    assert [each["name"] for each in made["series"]] == ["gpu", "gpu"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    start, end = made["window"]["start"], made["window"]["end"]
    assert end - start == pytest.approx(summary["seconds"]["total"], abs=1e-5)
    assert prometheus.wall_window(results.parse(summary)) == (start, end)


def test_that_neither_is_there_changes_nothing_but_a_sentence_each(server, tmp_path):
    url = nobody()
    code, words = run(tmp_path, server, "--push-gateway", url, "--prometheus", url)
    assert code in (0, 6)  # as the machine's load has it
    pushed, asked = words.splitlines()
    assert pushed.startswith(f"loadgen: the Pushgateway at {url} has not been told of this run: ")
    assert asked.startswith(f"loadgen: Prometheus at {url} does not answer")
    assert (tmp_path / "out" / "summary.json").exists()


def test_each_point_of_a_sweep_is_a_run_of_its_own(server, stand_in, tmp_path):
    server.pace = Pace(ttft=0.1)  # so that both are in flight at once, on a busy machine too
    assert run(tmp_path, server, "--sweep", "1,2", "--push-gateway", stand_in.url) == (0, "")
    told = [path.rpartition("/")[2] for method, path, _ in stand_in.requests if method == "PUT"]
    assert told == ["out.clients-1", "out.clients-2"]


@pytest.mark.parametrize("option", ["--push-gateway", "--prometheus"])
@pytest.mark.parametrize("url", ["host", "https://host:1", "http://host", "http://host:1/x"])
def test_an_address_that_is_none_is_refused_before_the_run(server, tmp_path, option, url):
    code, words = run(tmp_path, server, option, url)
    assert code == 2 and f"{option} '{url}' is no address" in words
    assert server.seen.requests == 0


def snapshot(folder, url):
    command = [sys.executable, "-m", "loadgen", "snapshot", str(folder), "--prometheus", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_snapshot_is_made_afterwards_where_there_is_none_that_is_whole(stand_in, tmp_path):
    folder = made_runs.write(tmp_path / "run", made_runs.closed_loop(), summary())
    path = folder / "metrics.json"
    code, out, err = snapshot(folder, nobody())
    assert (code, out) == (0, f"{path}\n") and "does not answer" in err
    stand_in.answer = of_gpu
    assert snapshot(folder, stand_in.url) == (0, f"{path}\n", "")
    made = path.read_text()
    assert json.loads(made)["series"]
    assert snapshot(folder, nobody())[0] == 0
    assert path.read_text() == made


def test_a_folder_without_a_run_has_no_snapshot(tmp_path):
    code, _, err = snapshot(tmp_path, nobody())
    assert code == 2 and "holds no results" in err
