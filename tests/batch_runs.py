"""Batches as tests begin them, and what is in their files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.files import Files, files_of
from batch.given.check import Checked, check
from batch.given.reading import Input
from batch.state import BatchState, read_state

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Batch:
    """An input, and where it is asked."""

    given: Path
    url: str

    @property
    def files(self) -> Files:
        return files_of(self.given)

    def words(self, *more: object) -> list[str]:
        return [str(self.given), "--url", self.url, *map(str, more)]

    def start(self, *more: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "batch", *self.words(*more)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)

    def run(self, *more: object) -> subprocess.CompletedProcess[str]:
        """In a process of its own; it ends by itself."""
        with self.start(*more) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def answers(self) -> list[dict[str, Any]]:
        return read(self.files.answers)

    def errors(self) -> list[dict[str, Any]]:
        return read(self.files.errors)

    def recorded(self) -> set[str]:
        """The custom_ids that the ledger has as done; a line that was cut is none."""
        whole = self.files.ledger.read_text().split("\n")[:-1] if self.files.ledger.exists() else []
        return {e["custom_id"] for e in map(json.loads, whole) if e.get("state") == "done"}

    def state(self) -> BatchState:
        found = read_state(self.files.state)
        assert found is not None
        return found


def made(folder: Path, url: str, lines: Sequence[object], name: str = "in.jsonl") -> Batch:
    """A batch of lines: texts as they are, all else as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("".join(f"{text}\n" for text in texts))
    return Batch(folder / name, url)


def prompts(number: int) -> list[dict[str, str]]:
    return [{"custom_id": f"c{i}", "prompt": f"q{i}", "model": "m"} for i in range(number)]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON Lines, each of which must be whole."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def content(answer: dict[str, Any]) -> str:
    """What a chat's answer says."""
    return str(answer["response"]["body"]["choices"][0]["message"]["content"])


def check_file(path: Path) -> Checked:
    """What is known of an input. Raises UsageError as `check` does."""
    with Input(path) as given:
        checked, index = check(given)
        index.close()
        return checked
