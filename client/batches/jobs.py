"""All batches of a deployment: what was asked for, and a thread that works them off, one after
another, until the door sends requests on to the next job: its service goes on with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from batch.files import Files
from batch.state import read_state
from client.batches.files import FileStore, new_id, private_folder
from client.batches.records import (
    ID_BEGINS,
    OVER,
    BatchBody,
    BatchRecord,
    Status,
    outputs_of,
    read_record,
    read_records,
)
from client.batches.turn import Turn
from client.batches.worker import Worker
from client.compatible.errors import ApiError, BadRequest, InUse, NoSuchObject, NotKept, OutOfSpace
from client.named_tokens import NoToken
from contracts.errors import EXIT_SOME_FAILED, UsageError
from contracts.files import write_whole

#: Of each name: batches that are not over, and all of them.
MOST_OPEN, MOST_BATCHES = 100, 10_000
#: Seconds between looks at what is under way, and until what could not be begun is tried again.
LOOK_S, AGAIN_S = 0.2, 2.0
#: Seconds between questions whether the next job has what comes from now on.
ASK_S = 1.0
#: Processes of one batch that may end before they have done what there is to do.
MOST_ATTEMPTS = 5
_log = logging.getLogger(__name__)

#: Starts what works a batch off for its user, and keeps a file open as long as it lives. Raises
#: NoToken, OSError: not now.
Start = Callable[[BatchRecord, Path, Files, int], Worker]


class Batches:
    """All of them, for any thread; there is one of these for a folder."""

    def __init__(
        self,
        folder: Path,
        files: FileStore,
        ready: Callable[[], bool],
        moved: Callable[[], bool],
        start: Start,
    ) -> None:
        """`ready` says whether there are engines that answer, `moved` whether the next job's door
        has what comes, as long as that is there. Raises OSError: the folder cannot be read."""
        self._folder, self.files = folder / "jobs", files
        self._ready, self._moved, self._start = ready, moved, start
        self._changed = threading.Condition()
        self._turn = Turn(self._folder)
        self._under_way = ""
        self._leaves, self._asked_at = False, 0.0
        #: While it is not our turn, others may change what is in the folder.
        self._known = read_records(self._folder, {})

    # --- for the routes ---

    def create(self, user: str, asked: BatchBody) -> BatchRecord:
        """Begin a batch, when its turn comes. Raises ApiError."""
        source = self.files.get(user, asked.input_file_id)
        if source.purpose != "batch":
            raise BadRequest(f"{source.id} has the purpose {source.purpose}, but a batch is made "
                             "of a file with the purpose batch.", "input_file_id",
                             "invalid_value")  # fmt: skip
        record = BatchRecord(id=new_id(ID_BEGINS), user=user, asked=asked, created=time.time())
        with self._changed:
            self._refresh()
            own = self._of(user)
            waiting = sum(one.status not in OVER for one in own)
            if waiting >= MOST_OPEN or len(own) >= MOST_BATCHES:
                raise OutOfSpace(f"{waiting} batches of this token are not over, of {len(own)} in "
                                 f"all, and there may be {MOST_OPEN} and {MOST_BATCHES}: ask again "
                                 "when some are over.")  # fmt: skip
            try:
                private_folder(self._folder)
                private_folder(self._folder / record.id)
                self._keep(record)
            except OSError as error:
                raise NotKept(f"The deployment cannot keep a batch: {error.strerror}; its owner is "
                              "to make room in its output directory.") from error  # fmt: skip
            self._changed.notify_all()
        return record

    def of(self, user: str) -> list[BatchRecord]:
        """Return the user's batches, the oldest first."""
        with self._changed:
            self._refresh()
            return sorted(self._of(user), key=lambda one: (one.created, one.id))

    def latest(self, most: int) -> list[BatchRecord]:
        """Return the latest batches, whoever's they are, the latest first."""
        with self._changed:
            self._refresh()
            known = sorted(self._known.values(), key=lambda one: one.created, reverse=True)
        return known[:most]

    def get(self, user: str, batch_id: str) -> BatchRecord:
        """Return a batch of the user's. Raises NoSuchObject."""
        with self._changed:
            self._refresh()
            found = self._known.get(batch_id) or self._late(batch_id)
        if found is None or found.user != user:
            raise NoSuchObject(f"No such Batch object: {batch_id[:100]}.", "id")
        return found

    def cancel(self, user: str, batch_id: str) -> BatchRecord:
        """End a batch; what was answered is kept. Raises NoSuchObject, InUse, OSError."""
        with self._changed:
            record = self.get(user, batch_id)
            if record.status in OVER:
                raise InUse(f"Cannot cancel a batch with status '{record.status}'.")
            if record.status not in ("cancelling", "finalizing"):
                record = self._update(record, "cancelling")
                if record.id != self._under_way and self._turn.handle is not None:
                    record = self._conclude(record)
            self._changed.notify_all()
        return record

    def open(self) -> bool:
        """Return whether there is one that is not over."""
        return self._next() is not None

    def check_unused(self, user: str, file_id: str) -> None:
        """Raises InUse if a batch that is not over is made of a file."""
        for one in self.of(user):
            if one.asked.input_file_id == file_id and one.status not in OVER:
                raise InUse(f"{file_id} is what the batch {one.id} is made of, which is not over: "
                            "cancel that first.")  # fmt: skip

    def _of(self, user: str) -> list[BatchRecord]:
        return [one for one in self._known.values() if one.user == user]

    def _refresh(self) -> None:
        if self._turn.handle is None:
            self._known = read_records(self._folder, self._known)

    def _late(self, batch_id: str) -> BatchRecord | None:
        """A batch that was begun at the door of the job before, when we had its turn already."""
        found = read_record(self._folder, batch_id)
        if found is not None:
            self._known[found.id] = found
            self._changed.notify_all()
        return found

    # --- one after another ---

    def follow(self) -> None:
        """Work batches off from now on, beside everything else."""
        threading.Thread(target=self._work_on, daemon=True).start()

    def _work_on(self) -> None:
        while True:
            done, record = False, None
            try:
                record = self._begin()
                done = record is not None and self._work(record)
            except (OSError, ApiError) as error:
                _log.warning("batches wait: %s", error)
            self._under_way = ""
            if not done:
                self._pause(record)

    def _is_to_leave(self) -> bool:
        now = time.monotonic()
        if now >= self._asked_at + ASK_S:
            self._leaves, self._asked_at = self._moved(), now
        return self._leaves

    def _begin(self) -> BatchRecord | None:
        """The next one, under way from now on; None: none, or not our turn. Raises OSError."""
        leaves = self._is_to_leave()
        with self._changed:
            if leaves:
                self._turn.give_up()
            elif self._turn.handle is None and self._turn.take():
                self._known = read_records(self._folder, self._known)
            record = None if self._turn.handle is None else self._next()
            self._under_way = record.id if record else ""
        return record

    def _pause(self, record: BatchRecord | None) -> None:
        """Until there may be something to do, or this batch, which cannot be gone on with just now,
        is to end."""
        with self._changed:
            if record is None:
                self._changed.wait(AGAIN_S)
                return
            self._changed.wait_for(lambda: self._known[record.id].status == "cancelling", AGAIN_S)

    def _next(self) -> BatchRecord | None:
        waiting = [one for one in self._known.values() if one.status not in OVER]
        return min(waiting, key=lambda one: (one.created, one.id), default=None)

    def _work(self, record: BatchRecord) -> bool:
        """Go on with a batch; whether it has come further. Raises OSError."""
        if record.status in ("cancelling", "finalizing"):
            self._conclude(record)
            return True
        lock = self._turn.handle
        if lock is None or not self._ready():
            return False
        try:
            source = self.files.path(self.files.get(record.user, record.asked.input_file_id))
            worker = self._start(record, source, self._outputs(record), lock)
        except (NoSuchObject, NoToken) as error:
            self._conclude(record.model_copy(update={"problem": str(error)}), "failed")
            return True
        while (code := worker.wait(LOOK_S)) is None:
            record = self._look(record)
            if record.status == "cancelling" or self._is_to_leave():
                worker.end()
                break
        self._ended(self._look(record), code)
        return self._known[record.id].status in OVER

    def _look(self, record: BatchRecord) -> BatchRecord:
        """What is known of it now: its process says how far it is, a user that it is to end."""
        state = read_state(self._outputs(record).state)
        with self._changed:
            record = self._known[record.id]
            if state is not None and state.state != "checking":  # that knows of no run before it
                record = self._known[record.id] = record.model_copy(update={"progress": state})
                begun = state.state == "in_progress" and record.status == "validating"
                if begun and not self._leaves:
                    record = self._update(record, "in_progress")
        return record

    def _ended(self, record: BatchRecord, code: int | None) -> None:
        """Say what the end of a process means."""
        problem, state = record.progress.problem, record.progress.state
        worked_off = code in (0, EXIT_SOME_FAILED) and state == "completed"
        if worked_off or record.status == "cancelling":
            self._conclude(record)
            return
        if code is None:
            return  # the next job's service goes on with it
        attempts = record.attempts + 1
        if code == UsageError.exit_code or state == "failed" or attempts >= MOST_ATTEMPTS:
            why = problem or f"What works it off has ended with exit code {code}."
            source = self.files.get(record.user, record.asked.input_file_id)
            words = why.replace(str(self.files.path(source)), source.filename or source.id)
            record = record.model_copy(update={"problem": words})
            self._conclude(record, "failed")
            return
        with self._changed:
            self._keep(record.model_copy(update={"attempts": attempts}))

    def _conclude(self, record: BatchRecord, end: Status = "completed") -> BatchRecord:
        """Make files of what it has written; it is over then. Raises OSError."""
        with self._changed:
            if record.status == "cancelling":
                end = "cancelled"
            elif end == "completed" and record.status != "finalizing":
                record = self._update(record, "finalizing")
        outputs = self._outputs(record)
        named = {"output_file_id": (outputs.answers, "output"),
                 "error_file_id": (outputs.errors, "error")}  # fmt: skip
        ids: Mapping[str, str] = {
            key: self.files.adopt(_output_id(record.id, what), record.user, path,
                                  f"{record.id}_{what}.jsonl").id
            for key, (path, what) in named.items() if path.exists() and path.stat().st_size
        }  # fmt: skip
        with self._changed:
            record = self._update(record.model_copy(update=dict(ids)), end)
        for path in (outputs.ledger, outputs.state, outputs.answers.with_name("batch.log")):
            path.unlink(missing_ok=True)
        return record

    def _outputs(self, record: BatchRecord) -> Files:
        return outputs_of(self._folder / record.id)

    def _update(self, record: BatchRecord, status: Status) -> BatchRecord:
        """Write down that its status is another one, and since when. Raises OSError."""
        updated = record.model_copy(update={"status": status, f"{status}_at": time.time()})
        self._keep(updated)
        return updated

    def _keep(self, record: BatchRecord) -> None:
        path = self._folder / record.id / "batch.json"
        write_whole(path, [record.model_dump_json()], 0o600)
        self._known[record.id] = record


def _output_id(batch_id: str, what: str) -> str:
    """The same however often a batch is concluded."""
    return f"file-{batch_id.removeprefix(ID_BEGINS)}-{what}"
