"""Parts of a batch are killed at moments that a seed chooses; the same command does what is
missing, and nothing that was recorded is asked again."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from events import until

#: A kill by kill -9 is noticed within seconds; a busy machine takes long to deploy.
ENDS_S = 300.0
TRIES = 3


class Batch(Protocol):
    """One batch of `number` lines, by a command, on a place where parts of it can be killed."""

    number: int
    #: How many requests the engines work on at once.
    slots: int
    #: What is killed in turn, and which exit codes the command has then; none: it goes on.
    kinds: ClassVar[Mapping[str, Sequence[int]]]

    def path(self, out: str) -> Path:
        """Where its answers are."""

    def run(self, out: str) -> subprocess.CompletedProcess[str]:
        """Give the command, to its end."""

    def start(self, out: str) -> subprocess.Popen[str]:
        """Give it in the background."""

    def kill(self, what: str, command: subprocess.Popen[str]) -> None:
        """Kill one of the kinds."""

    def deployments(self) -> int:
        """How many there have been."""

    def asked(self) -> int:
        """How many requests the engines of all deployments have answered, as their logs say."""


def whole_lines(path: Path) -> bytes:
    """What is there of answers; the last one may be half written."""
    found = path.read_bytes() if path.exists() else b""
    return found[: found.rfind(b"\n") + 1]


def texts(path: Path) -> dict[str, str]:
    """What was answered, by custom_id; each once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    said = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"] for one in found}
    assert len(said) == len(found), "a line was answered twice"
    return said


def moments(number: int, kills: int, kinds: Iterable[str]) -> list[tuple[str, int]]:
    """What is killed, and after how many answers: each kind as often as the others."""
    dice, order = random.Random(1), list(kinds)
    killed = [order[n % len(order)] for n in range(kills)]
    dice.shuffle(killed)
    return [*zip(killed, sorted(dice.sample(range(number // 10, number * 7 // 10), kills)),
                 strict=True)]  # fmt: skip


def disturbed(batch: Batch, out: str, kills: int) -> subprocess.CompletedProcess[str]:
    """Work it off with so many kills; how the last command ended."""
    command, path = None, batch.path(out)
    for what, moment in moments(batch.number, kills, batch.kinds):
        before = whole_lines(path)
        at_work = max(moment, before.count(b"\n") + 1)  # an answer of what is at work now
        command = brought_to(at_work, batch, out, command)
        there = batch.deployments()
        batch.kill(what, command)
        if batch.kinds[what] and ended(batch, command, there):
            said = command.communicate()
            assert command.returncode in batch.kinds[what], (what, command.returncode, *said)
            command = None
        assert whole_lines(path).startswith(before), "what was answered stays"
    brought_to(batch.number, batch, out, command).wait(ENDS_S)
    return batch.run(out)


def brought_to(
    lines: int, batch: Batch, out: str, command: subprocess.Popen[str] | None
) -> subprocess.Popen[str]:
    """Give the command, if it is not under way, and wait until so many answers are there. It fails
    if it takes up jobs of which the scheduler does not know yet that they were killed: then it is
    given again."""
    for _ in range(TRIES):
        command = command or batch.start(out)
        if reached(lines, batch.path(out), command):
            return command
        said = command.communicate()
        assert command.returncode == 4, (command.returncode, *said)
        command = None
    raise AssertionError(f"no answer {lines} in {TRIES} tries: {said}")


def reached(lines: int, path: Path, command: subprocess.Popen[str]) -> bool:
    """Whether so many answers have come before the command has ended."""

    def there() -> bool:
        return whole_lines(path).count(b"\n") >= lines

    until(lambda: there() or command.poll() is not None, ENDS_S, f"answer {lines}")
    return there()


def ended(batch: Batch, command: subprocess.Popen[str], deployments: int) -> bool:
    """Whether what was killed has ended the command. One that had not taken that up yet makes
    another deployment, and goes on."""
    until(
        lambda: command.poll() is not None or batch.deployments() > deployments,
        ENDS_S,
        "the end of what it had",
    )
    return command.poll() is not None


def check(batch: Batch, kills: int) -> None:
    """The answers are those of an undisturbed run, and no line was asked that had one."""
    whole = batch.run("whole")
    assert whole.returncode == 0, whole.stderr
    assert batch.asked() == batch.number
    last = disturbed(batch, "answers", kills)
    assert last.returncode == 0, last.stdout + last.stderr
    found, expected = texts(batch.path("answers")), texts(batch.path("whole"))
    assert found.keys() == expected.keys()
    others = {one: (found[one], expected[one]) for one in found if found[one] != expected[one]}
    assert not others, f"{len(others)} are others: {[*others.items()][:5]}"
    # Of each kill one request of a slot was under way, and one may have been answered and not yet
    # written. The logs lack what an engine that was killed had said last, some lines a kill: that
    # each line has one answer, and each answer stays where it is, was seen above.
    assert batch.asked() - batch.number <= batch.number + 2 * kills * batch.slots
