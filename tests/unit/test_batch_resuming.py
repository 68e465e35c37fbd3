"""A batch that was ended at any moment: the same command does what is missing, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_runs import Batch, content, made, prompts
from batch_server import Known, known_answers
from events import until

from batch import work
from batch.__main__ import main
from batch.given.lines import Unit
from batch.given.reading import Input
from batch.kept import recovery, store
from batch.kept.recovery import Bits
from batch.kept.store import Store

SLOTS = 4
#: Kills of a batch in a run of the tests, and in one that may take long.
KILLS, MANY_KILLS = 5, 40


@pytest.fixture
def known() -> Iterator[Known]:
    with known_answers(slots={"total": SLOTS, "interactive": 0, "batch": 0}) as server:
        yield server


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """As they were: the command line sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def assert_whole(batch: Batch, number: int) -> None:
    """Each line has one answer, its own."""
    answers = batch.answers()
    assert sorted(a["custom_id"] for a in answers) == sorted(f"c{i}" for i in range(number))
    assert all(content(a) == a["custom_id"].upper().replace("C", "Q") for a in answers)
    assert batch.recorded() == {a["custom_id"] for a in answers}


def test_what_is_answered_is_not_asked_again(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = made(tmp_path, known.url, prompts(20))
    assert main(batch.words()) == 0
    state = batch.state()
    assert (state.state, state.total, state.completed, state.reused) == ("completed", 20, 20, 0)
    assert (state.input_tokens, state.output_tokens) == (40, 60)
    answers = batch.files.answers.read_bytes()
    capsys.readouterr()
    assert main(batch.words()) == 0
    assert "20 of 20 lines are answered already; 0 are asked." in capsys.readouterr().out
    assert known.asked.total() == 20 and batch.files.answers.read_bytes() == answers
    state = batch.state()
    assert (state.state, state.completed, state.reused) == ("completed", 20, 20)
    assert (state.input_tokens, state.output_tokens) == (40, 60)
    assert_whole(batch, 20)


def killed_and_resumed(tmp_path: Path, known: Known, kills: int, number: int) -> None:
    """By SIGKILL, each time when the server has been asked so often as a seed says."""
    batch, dice = made(tmp_path, known.url, prompts(number)), random.Random(kills)
    for moment in sorted(dice.sample(range(1, number - SLOTS), kills)):
        recorded, asked = batch.recorded(), known.asked.copy()
        with batch.start() as process:
            until(lambda m=moment, p=process: known.asked.total() >= m or p.poll() is not None)
            process.kill()
            process.communicate()
        asked_now = known.asked - asked
        assert not recorded & {name.replace("q", "c") for name in asked_now}
    assert main(batch.words()) == 0
    assert_whole(batch, number)
    assert number <= known.asked.total() <= number + kills * SLOTS


def test_a_batch_that_is_killed_is_finished_by_the_same_command(
    tmp_path: Path, known: Known
) -> None:
    killed_and_resumed(tmp_path, known, KILLS, 400)


@pytest.mark.long
def test_a_batch_that_is_killed_very_often_is_finished_by_the_same_command(
    tmp_path: Path, known: Known
) -> None:
    killed_and_resumed(tmp_path, known, MANY_KILLS, 5000)


@pytest.fixture
def ended(tmp_path: Path, known: Known) -> Batch:
    """A batch of eight lines that is through."""
    batch = made(tmp_path, known.url, prompts(8))
    assert main(batch.words()) == 0
    known.asked.clear()
    return batch


@pytest.mark.parametrize("cut", [1, 2, 50, 200])
def test_an_answer_that_was_cut_short_is_asked_again(known: Known, ended: Batch, cut: int) -> None:
    data = ended.files.answers.read_bytes()
    ended.files.answers.write_bytes(data[:-cut])
    assert main(ended.words()) == 0
    assert known.asked.total() == 1
    assert_whole(ended, 8)


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_an_answer_whose_entry_was_cut_short_proves_itself(
    known: Known, ended: Batch, cut: int
) -> None:
    """Killed between the two; without its entry, or with a part of that."""
    ledger = ended.files.ledger.read_bytes()
    before, last = ledger[:-1].rpartition(b"\n")[::2]
    ended.files.ledger.write_bytes(before + b"\n" + last[:cut])
    assert main(ended.words()) == 0
    assert known.asked.total() == 0
    assert_whole(ended, 8)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: b"\0" * (len(line) - 1) + b"\n",
        lambda line: line[:40] + line[41:],
        lambda line: line.replace(b"Q", b"X"),
        lambda line: b"",
    ],
)
def test_an_answer_that_is_no_longer_what_it_was_is_asked_again(
    known: Known, ended: Batch, spoil: object
) -> None:
    assert callable(spoil)
    lines = ended.files.answers.read_bytes().splitlines(keepends=True)
    lines[3] = spoil(lines[3])
    ended.files.answers.write_bytes(b"".join(lines))
    assert main(ended.words()) == 0
    assert known.asked.total() == 1
    assert_whole(ended, 8)
    known.asked.clear()
    assert main(ended.words()) == 0 and not known.asked


def test_a_line_that_was_changed_is_asked_again_and_one_that_is_gone_leaves_no_answer(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = prompts(10)[1:]
    lines[0]["prompt"] = "other"
    made(ended.given.parent, known.url, lines)
    before = ended.files.answers.read_bytes()
    capsys.readouterr()
    assert main(ended.words()) == 0
    said = capsys.readouterr().out
    assert "was changed since the last run: 6 answers are of lines that are there still" in said
    assert "3 lines are asked" in said and "2 lines of" in said
    assert sorted(known.asked) == ["other", "q8", "q9"]
    found = {answer["custom_id"]: content(answer) for answer in ended.answers()}
    assert found == {f"c{i}": f"Q{i}" for i in range(2, 10)} | {"c1": "OTHER"}
    assert len(ended.answers()) == 9
    assert ended.files.before.read_bytes() == before
    known.asked.clear()
    assert main(ended.words()) == 0 and not known.asked


def test_a_ledger_that_was_killed_while_all_was_written_anew_loses_nothing(
    known: Known, ended: Batch
) -> None:
    made(ended.given.parent, known.url, prompts(8)[1:])
    assert main(ended.words()) == 0
    entries = ended.files.ledger.read_bytes().splitlines(keepends=True)
    anew = entries.index(b'{"entry":"rewritten"}\n')
    assert len(entries) == anew + 1 + 7
    ended.files.ledger.write_bytes(b"".join(entries[: anew + 3]))
    assert main(ended.words()) == 0
    assert not known.asked
    assert ended.recorded() >= {f"c{i}" for i in range(1, 8)}
    assert len(ended.answers()) == 7


def test_what_a_kill_left_half_written_goes_and_nothing_of_others(
    known: Known, ended: Batch
) -> None:
    folder, name = ended.given.parent, ended.files.answers.name
    others = folder / f".{name}.swp"
    for left in (f".{name}.state.json.{'0a' * 16}", f".{name}.new", others.name):
        (folder / left).write_text("{")
    assert main(ended.words()) == 0
    assert [*folder.glob(".*")] == [others] and not known.asked


def test_answers_of_quite_another_input_are_left_alone(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(ended.given.parent, known.url, prompts(20)[10:])
    before = ended.files.answers.read_bytes()
    assert main(ended.words()) == 2
    assert f"none of the 8 answers in {ended.files.answers} is of a line" in capsys.readouterr().err
    assert ended.files.answers.read_bytes() == before and not known.asked


def test_an_order_that_was_changed_changes_nothing(known: Known, ended: Batch) -> None:
    made(ended.given.parent, known.url, list(reversed(prompts(8))))
    assert main(ended.words()) == 0
    assert not known.asked
    assert_whole(ended, 8)


def test_other_conditions_are_named_and_nothing_is_sent_until_they_are_accepted(
    known: Known, ended: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = tmp_path / "conditions.json"
    conditions.write_text(json.dumps({"model digest": "abc", "seed": "1"}))
    more = ("--conditions", conditions)
    made(tmp_path, known.url, prompts(9))
    before = ended.files.answers.read_bytes()
    assert main(ended.words(*more)) == 2
    said = capsys.readouterr().err
    assert f"8 answers in {ended.files.answers} were made under other conditions" in said
    assert "model digest: not known before, abc now; seed: not known before, 1 now" in said
    assert "--accept-changes" in said
    assert ended.state().state == "failed" and not known.asked
    assert ended.files.answers.read_bytes() == before
    assert main(ended.words(*more, "--accept-changes")) == 0
    assert known.asked.total() == 1
    assert_whole(ended, 9)
    # Accepted once, they are accepted; and each answer has its own conditions still.
    assert main(ended.words(*more)) == 0
    assert main(ended.words()) == 2
    assert "1 answers in" in capsys.readouterr().err


def test_answers_without_a_ledger_are_nobodys(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended.files.ledger.unlink()
    before = ended.files.answers.read_bytes()
    assert main(ended.words()) == 2
    assert "which says whose answers it holds, is not" in capsys.readouterr().err
    assert ended.files.answers.read_bytes() == before


def test_a_second_worker_is_refused_and_leaves_the_state_to_the_first(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ended.files.state.read_bytes()
    store = Store(ended.files)
    try:
        assert main(ended.words()) == 2
    finally:
        store.close()
    assert "another process works on" in capsys.readouterr().err
    assert ended.files.state.read_bytes() == before


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files takes a part of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("full", ["answers", "ledger", "errors"])
def test_where_there_is_no_room_it_stops_and_goes_on_when_there_is(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str], full: str
) -> None:
    """Whichever of its files is the one for which there is none."""
    more = "" if full == "ledger" else "x" * 500  # its entries are longer than short answers
    lines = [
        {
            "custom_id": f"c{i}",
            "url": "/api/generate",
            "body": {"model": "m", "prompt": f"q{i}{more}"},
        }
        for i in range(30)
    ]
    if full == "errors":
        known.failures["*"] = [400] * 30
    batch = made(tmp_path, known.url, lines)
    with files_of_at_most(6000):
        assert main(batch.words()) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"batch: cannot write {getattr(batch.files, full)}: File too large; ")
    assert said.count("\n") == 1 and "make room there, then give the same command again" in said
    assert batch.state().state == "interrupted"
    assert not list(tmp_path.glob(".*")), "nothing half-written"
    answers, recorded = batch.files.answers.read_bytes(), batch.recorded()
    known.failures.clear()
    known.asked.clear()
    assert main(batch.words()) == 0
    assert bool(recorded) == (full != "errors")
    assert not recorded & {name.rstrip("x").replace("q", "c") for name in known.asked}
    assert batch.files.answers.read_bytes().startswith(answers[: answers.rfind(b"\n") + 1])
    assert sorted(a["custom_id"] for a in batch.answers()) == sorted(f"c{i}" for i in range(30))


def test_where_there_is_no_room_for_its_check_nothing_is_sent(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = made(tmp_path, known.url, prompts(300))
    with files_of_at_most(1000):
        assert main(batch.words()) == 4
    said = capsys.readouterr().err
    assert said.startswith("batch: cannot keep what a batch's check needs in ")
    assert said.count("\n") == 1 and "or name another folder by TMPDIR" in said
    assert not known.asked and batch.state().state == "interrupted"


def test_where_there_is_no_folder_for_its_check_it_is_one_sentence(
    tmp_path: Path,
    known: Known,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """/tmp is full, and where it was begun nobody may write."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    assert main(made(tmp_path, known.url, prompts(3)).words()) == 4
    said = capsys.readouterr().err
    assert said.startswith("batch: cannot keep what a batch's check needs in any folder for ")
    assert said.count("\n") == 1 and "or name another folder by TMPDIR" in said


def test_where_there_is_no_room_to_take_answers_out_all_stay(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(ended.given.parent, known.url, prompts(8)[1:])
    before = ended.files.answers.read_bytes()
    full = SimpleNamespace(TemporaryFile=lambda *_, **__: Path("/dev/full").open("w+"))  # noqa: SIM115
    with monkeypatch.context() as patched:
        patched.setattr(store, "tempfile", full)
        assert main(ended.words()) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"batch: cannot write {ended.files.answers}: No space left on device; ")
    assert said.count("\n") == 1 and ended.files.answers.read_bytes() == before
    assert not list(ended.given.parent.glob(".*")), "nothing half-written"
    assert main(ended.words()) == 0
    assert len(ended.answers()) == 7 and not known.asked


def test_a_cut_answer_that_cannot_be_taken_away_is_one_sentence(
    known: Known, ended: Batch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.files.answers.write_bytes(ended.files.answers.read_bytes()[:-1])

    def broken(file: int, size: int) -> None:
        if size < os.fstat(file).st_size:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(recovery.os, "ftruncate", broken)
        assert main(ended.words()) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"batch: cannot read or write {ended.files.answers}: Input/output error")
    assert said.count("\n") == 1 and not known.asked


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_drops_what_is_under_way_and_says_so(
    tmp_path: Path, known: Known, number: signal.Signals
) -> None:
    batch = made(tmp_path, known.url, prompts(8))
    known.gate.clear()
    with batch.start() as process:
        until(lambda: known.in_flight == SLOTS)
        process.send_signal(number)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    assert batch.state().state == "interrupted"
    known.gate.set()
    assert main(batch.words()) == 0
    assert_whole(batch, 8)


def test_an_input_that_is_cut_while_it_is_read_is_not_worked_off(
    tmp_path: Path,
    known: Known,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last second, too: of a short one there is no other."""
    long = [{**one, "prompt": "x" * 500_000} for one in prompts(6)]
    batch = made(tmp_path, known.url, long)
    missing = work._missing

    def cut(given: Input, done: Bits) -> Iterator[Unit]:
        os.truncate(given.path, batch.given.read_bytes().index(b"\n") + 1)
        return missing(given, done)

    monkeypatch.setattr(work, "_missing", cut)
    assert main(batch.words()) == 2
    assert "was changed while it was worked off" in capsys.readouterr().err
    assert batch.state().state == "failed"


def test_it_stops_when_its_time_is_over(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = made(tmp_path, known.url, prompts(8))
    known.gate.clear()
    assert main(batch.words("--until", 1)) == 5
    assert "--until came before all lines were answered" in capsys.readouterr().err
    assert batch.state().state == "interrupted"
    known.gate.set()
    assert main(batch.words()) == 0
    assert_whole(batch, 8)
