"""The ledger's file: what a kill, a full disk or a second writer leaves of it."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.files import FileError
from ledger.conditions import differences, fingerprint
from ledger.journal import Journal, JournalInUse, entries

ROOT = Path(__file__).resolve().parents[2]


def test_what_was_added_is_there_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Journal(path)) as journal:
        assert journal.add({"unit": "ä\n"}) == 0
        begin = journal.add({"unit": "b"}, {"unit": "c"}, on_disk=True)
    assert path.read_bytes()[begin:].startswith(b'{"unit":"b"}\n')
    assert [entry["unit"] for entry in entries(path)] == ["ä\n", "b", "c"]


def test_a_ledger_that_is_not_there_has_no_entries(tmp_path: Path) -> None:
    assert list(entries(tmp_path / "ledger.jsonl")) == []


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_line_that_was_cut_short_is_none_and_the_next_writer_cuts_it_away(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"unit":"a"}\n' + b'{"unit":"b"}\n'[:-cut])
    assert [entry["unit"] for entry in entries(path)] == ["a"]
    with closing(Journal(path)) as journal:
        journal.add({"unit": "c"})
    assert [entry["unit"] for entry in entries(path)] == ["a", "c"]


def test_a_cut_line_that_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"unit":"a"}\n{"unit":"' + b"x" * 200_000)
    Journal(path).close()
    assert path.read_bytes() == b'{"unit":"a"}\n'


@pytest.mark.parametrize("line", [b"no JSON\n", b"[1]\n", b"\0\0\n"])
def test_what_somebody_else_wrote_is_named_by_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"unit":"a"}\n' + line + b'{"unit":"b"}\n')
    with pytest.raises(FileError, match=r"line 2 of .*ledger\.jsonl is no JSON object"):
        list(entries(path))


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Journal(path)), pytest.raises(JournalInUse, match="another process works on"):
        Journal(path)
    Journal(path).close()


def test_a_writer_that_is_killed_leaves_whole_lines_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = (
        "import sys; from pathlib import Path; from ledger.journal import Journal\n"
        "journal, number = Journal(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    journal.add({'unit': number, 'text': 'x' * 5000}); number += 1\n"
        "    number == 50 and print('fifty', flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout and writer.stdout.readline() == "fifty\n"
        writer.send_signal(signal.SIGKILL)
    with closing(Journal(path)) as journal:
        journal.add({"unit": "after"})
    *units, last = [entry["unit"] for entry in entries(path)]
    assert units == list(range(len(units)))
    assert len(units) >= 50
    assert last == "after"


def test_where_there_is_no_room_nothing_is_left_of_the_entry(tmp_path: Path) -> None:
    """A limit on the size of files takes a part of a write, as a full disk does."""
    path = tmp_path / "ledger.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with closing(Journal(path)) as journal:
            journal.add({"unit": "a"})
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            with pytest.raises(FileError, match="make room there, then give the same command"):
                journal.add({"unit": "x" * 2000})
            journal.add({"unit": "b"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [entry["unit"] for entry in entries(path)] == ["a", "b"]


def test_a_ledger_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot write .*/none/ledger\.jsonl: No such file"):
        Journal(tmp_path / "none" / "ledger.jsonl")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_equal_things_have_one_fingerprint_however_they_are_ordered(
    parts: dict[str, object],
) -> None:
    assert fingerprint(parts) == fingerprint(dict(reversed(parts.items())))
    assert fingerprint(parts) != fingerprint({**parts, "one more": 1, "and": parts})


def test_what_has_changed_is_said_with_both_values() -> None:
    before = {"model digest": "abc", "engine version": "0.20.2", "seed": "1"}
    now = {"model digest": "def", "engine version": "0.20.2", "image": "x"}
    assert differences(before, now) == [
        "model digest: abc before, def now",
        "image: not known before, x now",
        "seed: 1 before, not known now",
    ]
