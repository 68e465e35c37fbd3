"""Where the figures come from: options, machine, versions, servers, deployment."""

from __future__ import annotations

import json
import platform
import shlex
import socket
import subprocess
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from contracts.errors import UsageError
from contracts.files import PROJECT
from contracts.json_object import JsonObject
from contracts.knobs import EXTRAS
from engines.http.headers import hide_values
from loadgen.load.prompts import Texts
from loadgen.load.worker import EVENT_LOOP
from loadgen.measurements import Measured
from loadgen.options import Options


class About(NamedTuple):
    """What is known of a run from outside: the words of its command line, and the context that was
    given; None: none was."""

    command: list[str]
    context: JsonObject | None


def provenance(
    options: Options, measured: Measured, started_at: datetime, about: About
) -> JsonObject:
    """Return all that is known about a run's circumstances; times are wall-clock. It began before
    its warm-up, and started when it was measured."""
    started = datetime.now(timezone.utc) - timedelta(seconds=perf_counter() - measured.start)
    before, after = measured.servers_before, measured.servers_after
    return {
        "began": started_at.isoformat(timespec="milliseconds"),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "event_loop": EVENT_LOOP,
        "git_commit": git_commit(),
        "command": command_line(about.command),
        "options": _asked(options),
        "server": {
            "before": [asdict(facts) for facts in before],
            "after": [asdict(facts) for facts in after],
        },
        "context": about.context,
    }


def command_line(words: list[str]) -> str:
    """Return what was typed, as it can be typed again; of headers the names alone."""
    return shlex.join(["python3", "-m", "loadgen", *hide_values(words)])


def _asked(options: Options) -> JsonObject:
    """The options, with the first characters of the first prompts."""
    texts = options.prompts.texts if isinstance(options.prompts, Texts) else ()
    ours = {"prompt", "input_tokens", "workers", *_RENAMED, *EXTRAS}
    return {
        **options.model_dump(exclude=ours),
        **{name: getattr(options, key) for key, name in _RENAMED.items()},
        "extras": options.extras,
        "processes": options.workers,
        "replicas": [replica.url for replica in options.replicas],
        "headers": [name for name, _ in options.headers],
        "monitoring_login": [name for name, _ in options.monitoring_login],
        "out": str(options.out),
        "prompts": [text[:200] for text in texts[:10]],
        "goodput": dict(options.goodput or {}),
    }


#: Knobs that stand in summaries under a name of their own.
_RENAMED = {"duration_seconds": "duration_s", "timeout_seconds": "timeout_s"}


def git_commit() -> str | None:
    """Return the commit of this program, with a + if files differ from it; None if git does not
    know."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=PROJECT, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def read_context(path: Path) -> JsonObject:
    """Return the JSON object of a file. Raises UsageError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--context {path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"--context {path} holds no JSON object.")
    return found
