"""A campaign's deployments without any job: a record, and a client service that measures nothing
and says at once what it is told to."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import made_runs

from campaign.book import Book
from campaign.units import Process
from contracts.errors import ServiceError
from hpc.campaigns.controller import Controller
from hpc.campaigns.deploying import Deployer
from hpc.campaigns.fleet import Fleet, Size
from hpc.campaigns.reading import Checked, load_campaign
from hpc.campaigns.repetitions import Work
from hpc.console import Console
from hpc.deployments.records import create_record, load_records
from hpc.endpoints import OutputDir
from ledger.conditions import fingerprint

NOBODY = Process(host="elsewhere", pid=1, started="1")
SUMMARY = made_runs.summary_of(made_runs.closed_loop(rounds=5))


@dataclass
class Service:
    """The client service of all deployments. `answers`: what a run comes to, by a part of its name:
    "invalid", "failed", or else it is done; `held`: runs wait for it; `limit`: the rate, or number
    of clients, up to which nearly all requests are within the SLO."""

    benchmarks: Path
    answers: dict[str, str] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    limit: float = 10.0

    def outcome(self, run: str) -> str:
        return next((out for part, out in self.answers.items() if part in run), "done")

    def start(self, body: dict[str, Any]) -> None:
        self.asked.append(body)
        if self.outcome(body["id"]) != "failed":
            self.leave(body["id"], body.get("rate", body.get("n_clients", 1)))

    def leave(self, run: str, load: float) -> None:
        """Leave the results of a run."""
        share = 1 / (1 + (load / self.limit) ** 20 / 19)  # 95 % at it
        goodput = {"slo": {"ttft": 0.5}, "share": share, "requests_per_second": None}
        valid = self.outcome(run) == "done"
        verdict = {"valid": valid, "reasons": [] if valid else ["Too few."], "codes": [],
                   "notes": []}  # fmt: skip
        folder = self.benchmarks / run
        folder.mkdir(parents=True, exist_ok=True)
        told = {**SUMMARY, "validity": verdict, "goodput": goodput,
                "requests": {**SUMMARY["requests"], "counted": 4000}}  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(told))

    def state(self, run: str) -> dict[str, Any]:
        if not self.held.is_set():
            return {"state": "running"}
        if self.outcome(run) == "failed":
            return {"state": "failed", "error": {"message": "the engine said no"}}
        return {"state": "done"}


@contextlib.contextmanager
def service(benchmarks: Path) -> Iterator[Service]:
    """Serve, and hold nothing up."""
    found = Service(benchmarks)
    found.held.set()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def _say(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            found.start(json.loads(self.rfile.read(length)))
            self._say(202, {})

        def do_GET(self) -> None:
            self._say(200, found.state(self.path.rpartition("/")[2]))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@dataclass(frozen=True)
class StandInDeployer(Deployer):
    """Deployments are a record that says that it serves; `fails`: groups that do not come up."""

    output: Path
    url: str
    digest: str
    fails: frozenset[str]
    begun: list[str]
    most_up: list[int]

    def deploy(self, recipe: Path, number: int, begun: Callable[[Process], None]) -> str:
        begun(NOBODY)
        self.begun.append(recipe.stem)
        asked = json.loads(recipe.read_text())
        if recipe.stem in self.fails:
            raise ServiceError("there is no such model.")
        record = create_record(
            self.output,
            f"{asked['job']['name']}-{number}",
            {
                "state": "ready",
                "recipe": asked,
                "site": {"name": "local", "scheduler": "local", "runtime": "host"},
                "model": "m",
                "endpoints": {"client": self.url, "ollama": [self.url]},
                "nodes": {"ollama": "n1"},
                "loaded_model": {"digest": self.digest},
            },
        )
        self.most_up.append(sum(one.live for one in load_records(self.output)))
        return record.id


@dataclass
class Bench:
    """A campaign in a folder, carried out by as many commands as one likes."""

    folder: Path
    service: Service
    campaign: dict[str, Any]
    fails: frozenset[str] = frozenset()
    digest: str = "one"
    begun: list[str] = field(default_factory=list)
    most_up: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def checked(self) -> Checked:
        path = self.folder / "c.json"
        path.write_text(json.dumps({"campaign": self.campaign}))
        return load_campaign(path)

    @property
    def output(self) -> OutputDir:
        return OutputDir(self.folder / "output")

    @property
    def home(self) -> Path:
        return self.output.path / "campaigns" / "c"

    def command(self) -> Controller:
        """Carry it out once, as the command does it; who did."""
        from campaign.units import Planned, PlannedCell

        checked = self.checked
        groups = {group.id: group for group in checked.groups}
        prints = {c.key: fingerprint([c.key, self.campaign["seed"]]) for c in checked.cells}
        self.output.prepare()
        self.home.mkdir(parents=True, exist_ok=True)
        book, console = Book(self.home), Console()
        book.add(
            Planned(
                at=time.time(),
                campaign={},
                repetitions=checked.asked.repetitions,
                cells=[
                    PlannedCell(key=c.key, settings=dict(c.settings),
                                group=checked.group_of[c.key].id, fingerprint=prints[c.key])
                    for c in checked.cells
                ],
                conditions={},
                process=NOBODY,
            )
        )  # fmt: skip
        sizes = dict.fromkeys(groups, Size(2, 1))
        deployer = StandInDeployer(
            [], self.home, self.stop, self.output.path, self.service.url, self.digest, self.fails,
            self.begun, self.most_up,
        )  # fmt: skip
        fleet = Fleet(groups, sizes, book, deployer, self.output, console)
        work = Work(checked, prints, sizes, self.service.benchmarks)
        controller = Controller(work, book, fleet, console, self.stop)
        try:
            controller.run()
        finally:
            book.close()
        return controller

    def live(self) -> list[str]:
        """The deployments that are not stopped."""
        return [record.id for record in load_records(self.output.path) if record.live]

    def runs(self) -> list[str]:
        """The names of the runs that were asked for, without the number of the try."""
        return [re.sub(r"-\d+$", "", body["id"]) for body in self.service.asked]
