"""The load generator as a child process, so that serving does not disturb measuring.

The child watches the pipe that is its stdin: it ends when we end, also when we are killed. Its
folder holds what was asked (request.json), its results, and what it said (loadgen.log).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from contracts.errors import EXIT_STOPPED, BenchmarkInvalid
from contracts.figures import SINGLE
from contracts.files import PROJECT, write_whole
from contracts.json_object import JsonObject
from contracts.load import RunSpec
from engines.json_values import count_of, part_of
from loadgen import json_lines
from loadgen.flags import flags_of
from loadgen.measurements import INTERRUPTED, RequestLine

if TYPE_CHECKING:
    from contracts.summary import Summary
    from loadgen.load.progress import ProgressLine

#: What was measured is written within a second; on a node that is busy it took more than five.
KILL_AFTER_S = 20.0

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
#: Exit codes of a load generator that has measured all that was asked.
_MEASURED = (0, BenchmarkInvalid.exit_code)
_STATUS = {None: "ok", INTERRUPTED: INTERRUPTED}

_drawing = threading.Lock()


@dataclass(frozen=True)
class MonitoringUrls:
    """URLs of what a run tells its figures, of what it asks how the nodes were, and of what counts
    their GPUs' energy (one for each node); `login`: a file of the header that these ask for."""

    push_gateway: str | None = None
    prometheus: str | None = None
    login: Path | None = None
    gpu_metrics: tuple[str, ...] = ()


class ChildRun:
    """One run of the child: `state` and `progress` while it goes on, `wait` for its end."""

    def __init__(
        self,
        run_id: str,
        folder: Path,
        job: RunSpec,
        urls: Sequence[str],
        context: Path | None = None,
        sits_on: str | None = None,
        monitoring: MonitoringUrls | None = None,
        token_file: Path | None = None,
        ca: Path | None = None,
        addresses: Path | None = None,
    ) -> None:
        """Start it. `context`: a file with what is to be known of the servers; `sits_on`: where the
        model is to be, gpu or cpu; `token_file`: the key that the servers ask for; `ca`: what to
        trust for https; `addresses`: a file of where the servers are now. Raises OSError if the
        folder cannot be written or no process started.
        """
        self.id = run_id
        self.folder = folder
        self.state = RUNNING
        self.error: str | None = None
        self.exit_code: int | None = None
        self.job = job
        self._started_at = time.monotonic()
        self._progress: ProgressLine = {}
        self._cancelled = False
        self._finished = threading.Event()
        around = {"context": context, "sits-on": sits_on, "token-file": token_file, "ca": ca,
                  "addresses": addresses}  # fmt: skip
        watched = _watched(monitoring or MonitoringUrls())
        self._process = self._start([*arguments(job, urls), *_options(around), *watched])
        threading.Thread(target=self._follow, daemon=True).start()

    def _start(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        from engines.http.headers import KEY_VARIABLES  # they know all engines

        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "request.json", [json.dumps(self.job.model_dump()) + "\n"])
        command = [sys.executable, "-m", "loadgen", *options]
        if asked := self.job.asked:  # any texts: they may be too long for a command line
            prompts = self.folder / "prompts.jsonl"
            write_whole(prompts, [json.dumps(one) + "\n" for one in asked])
            command.append(f"--prompts={prompts}")
        command += [f"--out={self.folder}", "--quiet", "--no-report"]
        command += ["--json-progress", "--die-with-stdin"]
        # A key of the user's for servers elsewhere is nothing to ours.
        environment = {k: v for k, v in os.environ.items() if k not in KEY_VARIABLES.values()}
        with (self.folder / "loadgen.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def _follow(self) -> None:
        """In a thread of its own: take in progress until the child ends, then its end."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self._progress = json.loads(line)
        self.exit_code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._conclude(self.exit_code)
        self._finished.set()
        self._draw()

    def _draw(self) -> None:
        """Make report.html, which nobody waits for, with what the machine has to spare.

        One at a time: it takes longer than a short run, and a hundred megabytes.
        """
        if not (self.folder / "summary.json").exists():
            return
        command = ["nice", "-n", "19", sys.executable, "-m", "loadgen", "report", str(self.folder)]
        log_path = self.folder / "loadgen.log"
        with _drawing, contextlib.suppress(OSError), log_path.open("ab") as log:
            subprocess.run(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )

    def _conclude(self, code: int) -> None:
        if code in _MEASURED:
            self.state = DONE
        elif self._cancelled or code == EXIT_STOPPED:
            self.state = CANCELLED
        else:
            self.error = self._last_words() or f"the load generator ended with exit code {code}"
            self.state = FAILED

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "loadgen.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1].removeprefix("loadgen: ") if lines else ""

    def progress(self) -> ProgressLine:
        """Return how far it is; `planned` None: as many as time allows; a figure None: none yet."""
        last = self._progress
        return {
            "phase": last.get("phase", "start"),
            "planned": self.job.requests,
            "done": last.get("done", 0),
            "failed": last.get("failed", 0),
            "in_flight": last.get("in_flight", 0),
            "elapsed_seconds": round(time.monotonic() - self._started_at, 3),
            "requests_per_second": last.get("requests_per_second"),
            "ttft_p50": last.get("ttft_p50"),
            "output_tokens_per_second": last.get("output_tokens_per_second"),
        }

    @property
    def last_progress(self) -> ProgressLine:
        """The last line of its progress as it was; empty before the first one."""
        return self._progress

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        return self._finished.wait(timeout_s)

    def cancel(self) -> None:
        """End it now, keeping what was measured; returns when it has ended."""
        self._cancelled = True
        self._process.terminate()
        if not self._finished.wait(KILL_AFTER_S):
            self._process.kill()
            self._finished.wait(KILL_AFTER_S)


def _watched(by: MonitoringUrls) -> list[str]:
    known = {"push-gateway": by.push_gateway, "prometheus": by.prometheus}
    asked = _options({**known, "monitoring-login": by.login})
    return [*asked, *(f"--gpu-metrics={url}" for url in by.gpu_metrics)]


def arguments(job: RunSpec, urls: Sequence[str]) -> list[str]:
    """Return the command line's options for a job, without those about files."""
    asked = "--retrieval" if job.retrieval else f"--api={job.api}"
    where = [*(f"--url={url}" for url in urls), f"--model={job.model}", asked]
    return [*where, *flags_of(job)]


def _options(given: Mapping[str, str | Path | None]) -> list[str]:
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def read_job(folder: Path) -> RunSpec | None:
    """Return what the run of a folder was asked to do; None if that is not known."""
    try:
        return RunSpec.model_validate_json((folder / "request.json").read_bytes())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class RunResult:
    """A run that ended. `told`: all of summary.json as it is there, its figures under their plain
    names, and `results`, an object for each request."""

    summary: Summary
    told: JsonObject


def read_result(folder: Path) -> RunResult | None:
    """Return the result of a run that ended; None: there is none.

    Raises OSError or ValueError if the files cannot be read.
    """
    try:
        found = json.loads((folder / "summary.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    summary = summaries().validate_python(found)
    results = [_result(line) for line in json_lines.requests(folder)]
    return RunResult(summary, {**_totals(summary, len(results)), **found, "results": results})


@functools.cache
def summaries() -> TypeAdapter[Summary]:
    """Return what reads a summary: to make it takes longer than to read one by it."""
    from contracts.summary import Summary  # once there are results

    return TypeAdapter(Summary)


def _result(line: RequestLine) -> JsonObject:
    same = ("request", "client", "replica", "error", "message", "http_status")
    return {
        **{key: line.get(key) for key in same},
        **{it.key: line.get(it.key) for it in SINGLE if it.key != "e2e"},  # of older runs not all
        "retried": line.get("retried", False),
        "status": _STATUS.get(line["error"], "failed"),
        "request_time": line["e2e"],
        "tokens": line["output_tokens"],
    }


def _totals(summary: Summary, sent: int) -> JsonObject:
    """The figures under their plain names: averages over what succeeded, None if nothing did.

    total_time is from the start to the end of the last request, queries_per_second is
    successful / total_time.
    """
    asked, requests = part_of(summary.provenance, "options"), summary.requests
    seconds, succeeded = summary.seconds.whole, requests.succeeded
    clients, planned = count_of(asked, "clients"), count_of(asked, "requests")
    return {
        "n_clients": clients,
        "n_requests_per_client": planned // clients if clients and planned else None,
        "total_queries": sent,
        "successful": succeeded,
        "failed": requests.failed,
        "retried": requests.retried or 0,
        "total_time": seconds,
        "avg_request_time": summary.latency("e2e").mean,
        "queries_per_second": succeeded / seconds if succeeded else None,
    }
