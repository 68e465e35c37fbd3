"""The length of a batch costs disk, and no memory."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_runs import Batch, check_file
from batch_server import Known, known_answers
from events import LOOK_S

from batch.given.lines import unit_of_json
from batch.kept.entries import Begin, Done, checksum_of, line_of

#: Bytes of a line, and how many lines are not answered yet.
LINE, MISSING = 400, 20
MB = 1_000_000


@pytest.fixture
def known() -> Iterator[Known]:
    with known_answers(slots={"total": 4, "interactive": 0, "batch": 0}) as server:
        yield server


def nearly_done(folder: Path, url: str, number: int) -> Batch:
    """A batch of so many lines, most of which are answered."""
    batch, begin = Batch(folder / f"{number}.jsonl", url), Begin({}, [], "")
    with batch.given.open("wb") as given:
        for i in range(number):
            line = json.dumps({"custom_id": f"c{i}", "model": "m", "prompt": f"q{i}"})
            given.write(f"{line:<{LINE - 1}}\n".encode())
    with batch.given.open("rb") as given, batch.files.answers.open("wb") as answers:
        ledger = batch.files.ledger.open("w")
        ledger.write(json.dumps(begin.entry(check_file(batch.given))) + "\n")
        at = 0
        for i, line in enumerate(given):
            if i % (number // MISSING) == 0:
                continue
            key = unit_of_json(i, line).key
            body = {"choices": [{"message": {"content": f"Q{i}"}}]}
            answer = line_of(
                key, begin.key, {"custom_id": f"c{i}", "response": {"body": body}, "error": None}
            )
            answers.write(answer)
            done = Done(f"c{i}", key, begin.key, 1, at, len(answer), checksum_of(answer), 0, 0)
            ledger.write(json.dumps(done.entry()) + "\n")
            at += len(answer)
        ledger.close()
    return batch


def most_memory(process: subprocess.Popen[str]) -> int:
    """Bytes that it had at most, when it has ended well; as the kernel says it while it lives: what
    it says afterwards (ru_maxrss) is at least what its parent had."""
    status, most = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        most = int(found[1]) * 1024 if found else most
        time.sleep(LOOK_S)
    assert process.returncode == 0, process.communicate()
    return most


def test_a_long_batch_takes_no_more_memory_than_a_short_one(tmp_path: Path, known: Known) -> None:
    """Checked, resumed and worked off: what is kept of a line in memory would be seen."""
    few, many = (nearly_done(tmp_path, known.url, number) for number in (200, 25_000))
    least, most = most_memory(few.start()), most_memory(many.start())
    assert known.asked.total() == 2 * MISSING
    assert most - least < 6 * MB
    assert sum(1 for _ in many.files.answers.open("rb")) == 25_000


def test_long_lines_that_wait_for_another_attempt_are_few(tmp_path: Path, known: Known) -> None:
    """250 MB, of which each line fails once."""
    batch, known.bodies = Batch(tmp_path / "in.jsonl", known.url), deque(maxlen=0)
    known.failures = {f"q{i}": [500] for i in range(125)}
    with batch.given.open("w") as given:
        for i in range(125):
            line = {"model": "m", "prompt": f"q{i}", "system": "x" * 2 * MB}
            given.write(json.dumps(line) + "\n")
    assert most_memory(batch.start()) < 200 * MB
    assert known.asked.total() == 2 * 125


@pytest.mark.long
def test_an_input_of_2_gb_takes_less_than_200_mb(tmp_path: Path, known: Known) -> None:
    batch = nearly_done(tmp_path, known.url, 5_000_000)
    assert batch.given.stat().st_size == 2000 * MB
    assert most_memory(batch.start()) < 200 * MB
    assert known.asked.total() == MISSING
