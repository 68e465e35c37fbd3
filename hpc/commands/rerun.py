"""--rerun RUN [ID]: a run is repeated as its own folder says, and compared with what it was."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Interrupted, ServiceError, UsageError
from contracts.files import PROJECT, make_folder, write_atomically
from hpc.campaigns.deploying import command_of, passed_on
from hpc.campaigns.live import Live
from hpc.console import Console
from hpc.deployments.provenance import Recorded, folder_of, read_run
from hpc.deployments.records import Record, find_record
from hpc.deployments.refreshing import live_record
from hpc.endpoints import OutputDir
from hpc.following.answers import Result
from hpc.following.benchmark import check_valid, run_benchmark
from hpc.following.progress import Progress
from hpc.signals import held
from hpc.web import NoAnswer, call

#: Of a run's name, so that its repetition's is no longer than the client service allows.
_MOST_NAME = 80


@dataclass(frozen=True)
class Rerun:
    """What --json prints: names of folders, and of the comparison's page."""

    run: str
    again: str
    deployment: str
    comparison: str


def run(given: argparse.Namespace, output: OutputDir, console: Console) -> None:
    """Repeat a run on the deployment that is named, or on one like its own that ends afterwards,
    and print what changed.

    Raises UsageError if the run does not say how it was made; whatever a deployment and a run end
    with; BenchmarkInvalid if the new figures must not be used.
    """
    if len(given.rerun) > 2:
        raise UsageError("--rerun takes a run, and perhaps the ID of a deployment; no more.")
    recorded = read_run(folder_of(given.rerun[0], output))
    output.prepare()
    name = _name(recorded.folder)
    if given.rerun[1:]:
        record = live_record(given.rerun[1], output)
        result = _measure(record, recorded, name, output, console)
    else:
        with _deployed(recorded, name, given, output, console) as record:
            result = _measure(record, recorded, name, output, console)
    again = output.path / "benchmarks" / name
    page = _compare(recorded.folder, again, to_stderr=given.json)
    if given.json:
        console.json(vars(Rerun(str(recorded.folder), str(again), record.id, str(page))))
    check_valid(result)


def _name(folder: Path) -> str:
    """As the client service takes it: a folder may be called otherwise by now."""
    first = re.sub(r"-again-[0-9a-f]{4}$", "", folder.name)
    first = re.sub(r"[^A-Za-z0-9._-]|^\.", "_", first)
    return f"{first[:_MOST_NAME]}-again-{secrets.token_hex(2)}"


# --- a deployment of its own ---


@contextmanager
def _deployed(
    recorded: Recorded,
    name: str,
    given: argparse.Namespace,
    output: OutputDir,
    console: Console,
) -> Iterator[Record]:
    """A deployment as that of the run was; it is stopped at the end."""
    record = find_record(output.path, _deploy(recorded, name, given, output))
    try:
        yield record
    finally:
        with held():
            Live(1, "", record, output).stop()
            console.tell("orch", f"{record.id} is stopped")


def _deploy(recorded: Recorded, name: str, given: argparse.Namespace, output: OutputDir) -> str:
    """Have orch.py bring it up, as a child that says on our stderr what it does; its id."""
    folder = output.path / "reruns" / name
    make_folder(folder)
    recipe, site = folder / "recipe.json", folder / "site.json"
    write_atomically(recipe, json.dumps(recorded.deployed, indent=2) + "\n")
    write_atomically(site, json.dumps(recorded.site, indent=2) + "\n")
    words = command_of(recipe, passed_on(given, output, given.site or str(site)))
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        said, _ = child.communicate()
    finally:
        with held():
            child.terminate()  # of one that has ended this does nothing
            child.wait()
    if child.returncode != 0:
        raise ServiceError(
            f"the deployment of {recorded.folder.name} did not come up (exit code "
            f"{child.returncode}); orch.py has said why above, and its recipe is {recipe}."
        )
    return str(json.loads(said)["id"])


# --- the run ---


def _measure(
    record: Record, recorded: Recorded, name: str, output: OutputDir, console: Console
) -> Result:
    """Have the deployment measure what the run did, under a new name."""
    live = Live(1, "", record, output)
    launched, service = live.launched, recorded.asked.job.service
    console.tell("orch", f"{name}: {service.in_words()} on {record.id}")

    def say(line: str) -> None:
        if not console.interactive:
            console.tell("orch", f"benchmark: {line}")

    progress = Progress(say)
    try:
        with console.live(progress.rows, progress.tick):
            return run_benchmark(
                launched.client,
                name,
                recorded.asked,
                launched.model,
                live.check,
                progress.take,
                launched.token_file,
            )
    except ServiceError:
        live.blame()
        raise
    except Interrupted:
        with held():
            _give_up(f"{launched.client}/benchmark/{name}", launched.token_file)
        raise


def _give_up(url: str, token_file: Path | None) -> None:
    try:
        call("DELETE", url, token_file=token_file)
    except NoAnswer:
        return  # it has ended with its deployment


def _compare(before: Path, after: Path, to_stderr: bool) -> Path:
    """Print what changed, and write it as a page into the new run's folder; the page."""
    page = after / "compare.html"
    words = [
        sys.executable,
        "-m",
        "loadgen",
        "compare",
        str(before),
        str(after),
        "--html",
        str(page),
    ]
    done = subprocess.run(
        words, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=sys.stderr if to_stderr else None,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServiceError(
            f"{before} and {after} cannot be compared (exit code {done.returncode}); loadgen has "
            "said why above."
        )
    return page
