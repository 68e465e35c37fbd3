"""The course of a hand-over, from one look to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from client.handover.settings import Door, Settings
from client.handover.state import State
from client.handover.storage import Storage
from client.handover.times import Lead, drain_of, end_of, longest
from contracts.job_files import TAKEN_BACK, began_at, chain_said, read_exit_status
from contracts.jobs.ids import number_of

QDRANT = "qdrant"
#: Seconds until what was refused is tried again: at most, and at least if this job ends soon.
AGAIN_S, SOON_S = 60, 5
#: Seconds between questions when a job is to begin, and whether it has ended.
ASK_S = 60
#: Why one has, if it could not say so itself.
SILENT = "it was cancelled before it began, or its node has failed"
#: Seconds until next jobs that have ended are submitted again: twice as many each time, up to the
#: second of these.
ENDED_S, MOST_S = 10, 600


class Course:
    """What is to be done now; `state` says how it stands, once this job `serves`."""

    def __init__(self, settings: Settings, door: Door, answers: Callable[[str], bool]) -> None:
        """`answers`: whether a request would be answered at a URL."""
        self._told, self._door, self._answers = settings, door, answers
        self.serves = False  # the model has answered here
        self._submitting = False
        self._told_at = 0.0  # when the script was told to submit
        self._quiet = 0
        self._first_until: str | None = None  # a file that cannot be read now begins no time anew
        self._ended = 0  # how often next jobs have ended before they served
        self._drain_s = drain_of(0, settings.limit)
        self._asked_at = self._not_before = 0.0
        self._storage = Storage(settings.output, settings.qdrant_job, door.retrievals)
        self.state = State(settings.job, settings.max_jobs, settings.job_end)

    def look(self, now: float) -> None:
        """Go on. Raises OSError: a file system or HAProxy does not answer; the next look may."""
        state, said = self.state, chain_said(self._told.chain)
        began = began_at(self._told.output, self._told.engine_job)
        state.ends = end_of(self._told.job_end, began, self._told.limit)
        until = self._until(said, now)
        if until is not None and now >= until:
            self._want("stop")
            return
        if not self.serves:
            self._note_ready(said, now, began)
        elif state.phase == "serving":
            self._serve(said, until, now)
        elif state.phase in ("submitted", "waiting"):
            self._await_next(said, now)
        else:
            self._follow_next(said, now)

    # --- what is known ---

    def _until(self, said: Mapping[int, Mapping[str, str]], now: float) -> int | None:
        if self._told.lasts is None:
            return self._told.until
        first = said.get(1, {}).get(".until", self._first_until)
        if first is None and self._told.job == 1:
            first = str(int(now) + self._told.lasts)
            self._note({".until": first}, job=1)
        self._first_until = first
        return None if first is None else int(first)

    def _note(self, words: Mapping[str, str], job: int | None = None) -> None:
        number = job or self._told.job
        with (self._told.chain / "jobs").open("a") as file:
            file.write("".join(f"{number} {word} {value}\n" for word, value in words.items()))

    def _note_ready(
        self, said: Mapping[int, Mapping[str, str]], now: float, began: float | None
    ) -> None:
        """Once the model answers here: what that took is what the next one is expected to take. It
        is known if this process was begun again; this job may have been, and elsewhere."""
        before = said.get(self._told.job, {}).get(".serves")
        self.serves = before == self._told.url
        if self.serves or not self._answers(self._told.url):
            return
        words = {".serves": self._told.url}
        if began is not None:
            words[".ready"] = str(max(1, round(now - began)))
            submitted = self._submitted() if before is None else None
            if submitted is not None:
                words[".queued"] = str(max(0, round(began - submitted)))
        self._note(words)
        self.serves = True  # not before that is written down: others wait for it

    def _submitted(self) -> float | None:
        said = chain_said(self._told.chain).get(self._told.job, {}).get(".submitted")
        if said is not None:
            return float(said)
        with contextlib.suppress(OSError):
            return Path(f"{self._told.scripts}.{self._told.engine}.sh").stat().st_mtime
        return None

    # --- the next jobs are submitted ---

    def _serve(self, said: Mapping[int, Mapping[str, str]], until: int | None, now: float) -> None:
        state, told = self.state, self._told
        if self._may_go_on(until):
            self._drain_s = drain_of(self._door.longest_s(), told.limit)
            lead = Lead(longest(said, ".ready"), longest(said, ".queued"), self._drain_s)
            # After a long wait in the queue no job would serve before it hands over, and so on.
            state.lead, state.lead_s = vars(lead), min(lead.seconds, told.limit // 2)
            state.submit_at = int(max(state.ends - state.lead_s, self._not_before))
        else:
            state.submit_at = None
            return
        if "client" in said.get(told.job + 1, {}) and not (self._submitting or self._not_before):
            state.phase = "submitted"  # by this job, before it or this process was begun again
        elif now >= state.submit_at:
            self._submit(now)

    def _may_go_on(self, until: int | None) -> bool:
        most = self._told.max_jobs
        return (most is None or self._told.job < most) and (
            until is None or self.state.ends < until
        )

    def _submit(self, now: float) -> None:
        """Until the job's script has said what came of it; it is told again, since there may have
        been no room for that, and submits nothing twice."""
        outcome = self._told.door / "submitted"
        if not self._submitting:
            outcome.unlink(missing_ok=True)
            self._want("submit")
            self._submitting, self._told_at = True, now
            return
        try:
            code, _, why = outcome.read_text().partition("\n")
        except FileNotFoundError:
            if now >= self._told_at + AGAIN_S:
                self._want("submit")
                self._told_at = now
            return
        outcome.unlink(missing_ok=True)
        self._submitting = False
        if code.strip() == "0":
            self.state.phase, self.state.problem, self._not_before = "submitted", None, 0.0
        else:
            after_s = min(AGAIN_S, max(SOON_S, (self.state.ends - now) / 4))
            self._try_again(now, why.strip() or "the next jobs cannot be submitted", after_s)

    def _try_again(self, now: float, problem: str, after_s: float) -> None:
        state = self.state
        self._door.keep()  # first: what it does not do at once comes with the next look
        state.phase, state.problem, self._not_before = "serving", problem, now + after_s
        state.successor = state.expected = state.address = None
        self._say_dark(None)

    # --- they begin, and serve ---

    def _await_next(self, said: Mapping[int, Mapping[str, str]], now: float) -> None:
        state, told = self.state, self._told
        ids = said.get(told.job + 1, {})
        client, engine = ids.get("client", ""), ids.get(told.engine, "")
        state.successor = {"client": client, "engine": engine}
        if QDRANT in ids:
            state.successor[QDRANT] = ids[QDRANT]
        if self._next_has_ended(now):
            return
        ready = longest(said, ".ready")
        began = began_at(told.output, number_of(engine))
        state.phase = "submitted" if began is None else "waiting"
        state.expected = self._expected() if began is None else round(began)
        if state.expected is not None:
            state.expected += ready
        self._say_dark(state.expected if state.expected is None else max(state.expected, int(now)))
        # Once it says so itself: who hears from our door that there is another one asks where it
        # is, and is told of those alone.
        url = ids.get(".serves")
        awaited = self._storage.awaited(ids.get(QDRANT, ""))
        if url is not None and awaited and self._answers(url):
            self._storage.moved(now)
            self._door.forward(url)
            state.phase, state.address, state.problem = "handing_over", url, None
            state.dark_s, self._asked_at = None, now
        else:
            self._ask(now)

    def _next_has_ended(self, now: float, served: bool = False) -> bool:
        """Whether one of the next jobs has: then they are submitted again. What ends with exit code
        0 once it has served was told to."""
        following = self.state.successor or {}
        for job in following.values():
            end = read_exit_status(self._told.output, number_of(job))
            if end is None and job not in self._said_of("over").split():
                continue
            if end is None or end.exit_code or not served:
                after_s = min(ENDED_S * 2**self._ended, MOST_S)
                why = SILENT if end is None else end.reason
                if served:
                    words = {".serves": TAKEN_BACK, ".died": following["client"]}
                    self._note(words, job=self._told.job + 1)
                self._try_again(now, f"the next job {job} has ended: {why}", after_s)
                self._ended += 1
                return True
        return False

    def _ask(self, now: float) -> None:
        """Have the scheduler asked of the next jobs, seldom."""
        if now >= self._asked_at + ASK_S:
            self._asked_at = now
            self._want("expected")

    def _said_of(self, what: str) -> str:
        """What it has said; "" if nothing."""
        try:
            return (self._told.door / what).read_text()
        except OSError:
            return ""

    def _expected(self) -> int | None:
        """When it says that the next job is to begin."""
        try:
            return int(self._said_of("expected"))
        except ValueError:
            return None

    def _say_dark(self, expected: int | None) -> None:
        late = None if expected is None else expected - self.state.ends
        self.state.dark_s = late if late and late > 0 else None

    # --- they have what comes from now on ---

    def _follow_next(self, said: Mapping[int, Mapping[str, str]], now: float) -> None:
        """If its node has died, Slurm begins it anew on another one. If it has ended, what comes is
        for this job again, as far as that still has an engine, and for who takes its place."""
        beyond = any("client" in words for n, words in said.items() if n > self._told.job + 1)
        if not beyond:  # else those that come after the next ones take their place
            if self._next_has_ended(now, served=True):
                self._quiet = 0
                return
            self._ask(now)
        url = said.get(self._told.job + 1, {}).get(".serves")
        if url is not None and url != self.state.address and self._answers(url):
            self._door.forward(url)
            self.state.address = url
        self._hand_over(now)

    def _hand_over(self, now: float) -> None:
        state = self.state
        if self._storage.to_be_told(now, (state.successor or {}).get(QDRANT, "")):
            self._want("release")
        address = str(state.address)
        if now >= state.ends - self._drain_s and self._answers(address):
            self._door.redirect(address)
        if state.phase == "handing_over":
            self._quiet = 0 if self._door.open_answers() else self._quiet + 1
            lost = now >= state.ends and not self._door.engine_answers()
            through = self._quiet >= 2 and self._storage.released
            if lost or (through and self._answers(address)):
                self._want("relieve")
                state.phase = "handed_over"
        elif now >= state.ends:
            self._want("end")

    def _want(self, what: str) -> None:
        """Of the job's script (lib/handover.sh)."""
        (self._told.door / f"want.{what}").touch()
