"""How a batch asks: how often, and how many at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from batch_runs import ROOT, made, prompts
from batch_server import Known, known_answers
from events import until
from ports import free_port

from batch import progress
from batch.__main__ import main
from batch.asking import door, retries, slots
from batch.asking.retries import MOST_ATTEMPTS, Failure, Outage, wait_before
from batch.asking.sending import Tally
from batch.asking.slots import Slots
from batch.progress import Progress, Rates, in_words
from batch.state import BatchState


@pytest.fixture
def known() -> Iterator[Known]:
    with known_answers(slots={"total": 4, "interactive": 0, "batch": 0}) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits are short; signals are as they were."""
    for name in ("FIRST_WAIT_S", "LONGEST_WAIT_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(retries, name, 0.01)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- how often ---


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_what_would_fail_again_is_asked_once(
    tmp_path: Path, known: Known, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    known.failures["q1"] = [status] * 99
    batch = made(tmp_path, known.url, prompts(3))
    assert main(batch.words()) == 4
    assert known.asked == {"q0": 1, "q1": 1, "q2": 1}
    [error] = batch.errors()
    assert error["custom_id"] == "c1"
    assert error["error"] == {"code": f"http_{status}", "message": "no q1 today"}
    assert error["response"]["status_code"] == status
    assert {answer["custom_id"] for answer in batch.answers()} == {"c0", "c2"}
    state = batch.state()
    assert (state.state, state.completed, state.failed) == ("completed", 2, 1)
    assert f"1 failed (1 http_{status})" in capsys.readouterr().out


@pytest.mark.parametrize("status", [-1, 0, 408, 409, 500, 502, 504])
def test_what_may_be_the_lines_own_fault_is_asked_so_often_and_no_more(
    tmp_path: Path, known: Known, status: int
) -> None:
    known.failures["q1"] = [status] * 99
    batch = made(tmp_path, known.url, prompts(3))
    assert main(batch.words()) == 4
    assert known.asked == {"q0": 1, "q1": MOST_ATTEMPTS, "q2": 1}
    [error] = batch.errors()
    code = {0: "connection", -1: "bad_answer"}.get(status, f"http_{status}")
    assert error["error"]["code"] == code
    assert (error["response"] is None) == (status <= 0)
    # A line that has failed is asked again by the same command, and the errors are the new ones.
    known.failures.clear()
    assert main(batch.words()) == 0
    assert known.asked == {"q0": 1, "q1": MOST_ATTEMPTS + 1, "q2": 1}
    assert batch.errors() == []


def test_a_line_without_an_answer_in_time_is_a_class_of_its_own(
    tmp_path: Path, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "ANSWER_S", 0.05)
    known.gate.clear()
    batch = made(tmp_path, known.url, prompts(1))
    assert main(batch.words()) == 4
    [error] = batch.errors()
    assert error["error"] == {"code": "timeout", "message": "no answer came in time"}
    # The server may read a request only after whoever has sent it has given up.
    until(lambda: known.asked.total() >= MOST_ATTEMPTS)
    assert known.asked == {"q0": MOST_ATTEMPTS}


def test_what_fails_and_is_answered_then_is_no_failure(tmp_path: Path, known: Known) -> None:
    known.failures |= {"q0": [500, 0, 503], "q1": [429], "q2": [502] * (MOST_ATTEMPTS - 1)}
    batch = made(tmp_path, known.url, prompts(5))
    assert main(batch.words()) == 0
    assert known.asked == {"q0": 4, "q1": 2, "q2": MOST_ATTEMPTS, "q3": 1, "q4": 1}
    entries = [json.loads(line) for line in batch.files.ledger.read_text().splitlines()]
    attempts = {entry["custom_id"]: entry["attempt"] for entry in entries if "attempt" in entry}
    assert attempts["c2"] == MOST_ATTEMPTS and attempts["c3"] == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_takes_nothing_is_waited_for_longer_than_any_line(
    tmp_path: Path, known: Known, status: int
) -> None:
    known.failures["*"] = [status] * (10 * MOST_ATTEMPTS)
    batch = made(tmp_path, known.url, prompts(3))
    assert main(batch.words()) == 0
    assert known.asked.total() == 3 + 10 * MOST_ATTEMPTS


def test_a_server_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    batch = made(tmp_path, f"http://127.0.0.1:{port}", prompts(3))
    (tmp_path / "conditions.json").write_text("{}")
    with batch.start("--conditions", tmp_path / "conditions.json") as process:
        until(lambda: batch.files.state.exists() and batch.state().problem)
        assert batch.state().problem == f"{batch.url} takes nothing: Connection refused"
        with known_answers(port=port):
            process.communicate()
    assert process.returncode == 0
    assert len(batch.answers()) == 3


def test_one_that_has_gone_away_in_between_is_waited_for_and_loses_nothing(
    tmp_path: Path,
) -> None:
    with known_answers() as first:
        batch = made(tmp_path, first.url, prompts(400))
        process = batch.start("--slots", 2)
        until(lambda: first.asked.total() > 20)
    with known_answers(port=first.port) as second:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(batch.answers()) == 400
    assert first.asked.total() + second.asked.total() <= 400 + 2 * 2, out


def test_a_wait_doubles_and_is_never_shorter_than_the_server_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(retries, "LONGEST_WAIT_S", 60.0)
    dice, own, asked = random.Random(1), Failure("x", "", True, True), 5.0
    waits = [wait_before(attempt, own, dice) for attempt in range(2, MOST_ATTEMPTS + 1)]
    for wait, longest in zip(waits, (1, 2, 4, 8, 16, 32, 60), strict=True):
        assert longest / 2 <= wait <= longest
    assert wait_before(2, Failure("x", "", True, True, wait_s=asked), dice) == asked
    assert wait_before(2, Failure("x", "", True, True, wait_s=1e9), dice) == 300.0


def test_retry_after_holds_for_all_lines() -> None:
    outage, dice = Outage(), random.Random(1)
    outage.refused(monotonic(), Failure("http_429", "slowly", False, True, wait_s=7.0), dice)
    assert outage.until - monotonic() == pytest.approx(7.0, abs=1.0)
    assert outage.why == "slowly"
    outage.taken()
    assert (outage.until, outage.why, outage.lasted_s) == (0.0, None, 0.0)


def test_a_wrong_token_ends_it_at_once_and_is_in_no_word_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("wrong-token-of-ours\n")
    (tmp_path / "token").chmod(0o600)
    with known_answers(token="right") as known:
        batch = made(tmp_path, known.url, prompts(50))
        assert main(batch.words("--token-file", tmp_path / "token")) == 4
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "refuses the token that was given (HTTP 401: who" in said
        assert batch.state().state == "failed" and not known.asked
        (tmp_path / "token").write_text("right")
        assert main(batch.words("--token-file", tmp_path / "token")) == 0
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.name != "token")
    assert b"wrong-token" not in kept


# --- how many at once ---


@pytest.mark.parametrize(
    "said, most",
    [
        ({"total": 5, "interactive": 0, "batch": 0}, 5),
        ({"total": 6, "interactive": 3, "batch": 0}, 2),
        ({"total": 4, "interactive": 9, "batch": 0}, 1),
        (None, 3),
    ],
)
def test_so_many_are_under_way_as_there_are_slots_and_no_more(
    tmp_path: Path, said: dict[str, int] | None, most: int
) -> None:
    with known_answers(slots=said) as known:
        known.gate.clear()
        batch = made(tmp_path, known.url, prompts(20))
        with batch.start("--slots", 3) as process:
            until(lambda: known.in_flight == most)
            known.gate.set()
            process.communicate()
        assert process.returncode == 0
        assert known.most == most


def test_it_gives_way_to_people_who_come_while_it_runs(tmp_path: Path) -> None:
    with known_answers(slots={"total": 6, "interactive": 0, "batch": 0}) as known:
        known.gate.clear()
        batch = made(tmp_path, known.url, prompts(60))
        with batch.start() as process:
            until(lambda: known.in_flight == 6)
            known.slots, looks = {"total": 6, "interactive": 2, "batch": 6}, known.looks
            until(lambda: known.looks > looks + 1)
            known.through = 6  # those that were under way are answered
            until(lambda: known.in_flight == 3 and known.asked.total() == 9)
            known.most = 0
            known.gate.set()
            process.communicate()
        assert process.returncode == 0
        assert known.most <= 3


def test_an_interactive_request_is_remembered_for_a_minute() -> None:
    found = Slots(8)
    found.told(200, {"total": 16, "interactive": 0, "batch": 3}, 0.0)
    assert found.allowed == 16
    found.told(200, {"total": 16, "interactive": 2, "batch": 14}, 10.0)
    assert found.allowed == 13
    found.told(200, {"total": 16, "interactive": 0, "batch": 13}, 69.0)
    assert found.allowed == 15
    found.told(503, {}, 69.5)
    assert found.allowed == 15
    found.told(200, {"total": 16, "interactive": 0, "batch": 13}, 70.0)
    assert found.allowed == 16
    found.told(200, {"total": 0, "interactive": 0, "batch": 0}, 71.0)
    assert found.allowed == 1
    found.told(200, {"total": 10**6, "interactive": 0, "batch": 0}, 72.0)
    assert found.allowed == slots.MOST


@pytest.mark.parametrize(
    ("total", "share", "interactive", "allowed"),
    [(8, 8, 0, 8), (8, 4, 0, 4), (8, 8 / 3, 0, 3), (8, 8 / 3, 1, 2), (8, 0.1, 4, 1), (0, 0, 0, 1)],
)
def test_what_is_one_batchs_is_all_it_takes(
    total: int, share: float, interactive: int, allowed: int
) -> None:
    found, said = Slots(8), {"total": total, "share": share, "interactive": interactive}
    found.told(200, said, 0.0)
    assert found.allowed == allowed


# --- where ---


def test_a_socket_of_the_file_system_is_asked(tmp_path: Path) -> None:
    with known_answers(path=tmp_path / "door") as known:
        batch = made(tmp_path, f"unix:{tmp_path / 'door'}", prompts(9))
        assert main(batch.words()) == 0
    assert known.asked.total() == 9


def test_by_tls_whom_the_ca_knows_and_nobody_else(
    tmp_path: Path, certificates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with known_answers(certificate=certificates / "good.pem") as known:
        batch = made(tmp_path, known.url.replace("http", "https"), prompts(3))
        assert main(batch.words("--ca", certificates / "ca.pem")) == 0
        assert main(batch.words("--ca", certificates / "other.pem", "--out", tmp_path / "o")) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "its certificate is not trusted" in said


# --- what is said ---


def test_how_far_it_is_in_a_line() -> None:
    rates = Rates()
    state = BatchState(state="in_progress", total=5000, completed=1250, rate=12.34, eta_s=303.9)
    assert in_words(state, rates, Counter(http_400=3)) == (
        "1,250 of 5,000 answered (25.0%), 12.3/s, 0 tokens/s, 5 min 4 s left, failed: 3 http_400"
    )


def test_a_rate_is_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    rates, tally = Rates(), Tally()
    for second in range(1, 122):
        now, one = float(second), 4 if second <= 60 else 1
        tally.answered += one
        tally.input_tokens += 10 * one
        tally.output_tokens += 30 * one
        rates.sample(tally)
        if second == 60:
            assert (rates.answers, rates.tokens) == (4.0, 160.0)
    assert (rates.answers, rates.tokens) == (1.0, 40.0)


def test_the_state_says_rate_tokens_and_time_left_while_it_works(
    tmp_path: Path, known: Known
) -> None:
    known.gate.clear()
    known.through = 4
    batch = made(tmp_path, known.url, prompts(12))
    with batch.start() as process:
        until(lambda: known.in_flight == 4 and batch.state().completed == 4)
        state = batch.state()
        assert (state.total, state.input_tokens, state.output_tokens) == (12, 8, 12)
        assert state.rate > 0 and state.eta_s == pytest.approx(8 / state.rate, rel=0.05, abs=0.1)
        known.gate.set()
        process.communicate()
    assert (batch.state().eta_s, batch.state().output_tokens) == (0.0, 36)


def test_a_log_has_a_line_seldom_and_says_about_once_a_minute_that_nothing_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress()
    for _ in range(5):
        progress.show(BatchState(total=10), Rates(), Counter())
        progress.silence("http://h", "Connection refused", 90.0)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "batch: http://h has taken nothing for 1 min 30 s (Connection refused); waiting for it.\n"
    )


@pytest.mark.parametrize("ends", ["full", "gone"])
def test_a_log_that_is_full_or_a_reader_that_is_gone_ends_no_batch(
    tmp_path: Path, known: Known, ends: str
) -> None:
    batch = made(tmp_path, known.url, prompts(3))
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full, os.fdopen(writer, "wb") as gone:
        into = full if ends == "full" else gone
        words = [sys.executable, "-m", "batch", *batch.words()]
        done = subprocess.run(words, cwd=ROOT, stdout=into, stderr=into, check=False)
    assert done.returncode == 0
    assert len(batch.answers()) == 3
