"""The waiting loop, on real files and a clock that does not wait."""

import threading
import time

import pytest

from contracts.errors import (
    DeadlineError,
    OrchError,
    SchedulerError,
    SchedulerUnavailable,
    ServiceError,
)
from contracts.jobs.reasons import explain
from contracts.jobs.states import JobStatus
from hpc.endpoints import OutputDir
from hpc.following import polling, probing, waiting
from hpc.following.waiting import Target, Waiter


class Clock:
    """Time that passes when somebody sleeps; `at` are things that happen at their second."""

    def __init__(self):
        self.now = 1000.0
        self.at = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for moment, happen in [entry for entry in self.at if entry[0] <= self.now - 1000]:
            self.at.remove((moment, happen))
            happen()


class Queue:
    """Slurm that says what it is told to, and counts how often it is asked."""

    title = "Slurm"

    def __init__(self, state="PENDING", reason="Resources", start=None):
        self.state = state
        self.reason = reason
        self.start = start
        self.asked = 0
        self.down = False
        self.hang = None

    def statuses(self, job_ids):
        self.asked += 1
        if self.hang:
            self.hang.wait(120)
        if self.down:
            raise SchedulerUnavailable("squeue failed: Unable to contact slurm controller")
        return {j: JobStatus(self.state, self.reason, start=self.start) for j in job_ids}

    def explain(self, reason, job_id):
        return explain(reason, job_id)

    def cancelled_by(self, job_id):
        return "user hpcother"

    def say(self, state, reason=""):
        self.state, self.reason = state, reason


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(waiting.time, "sleep", clock.sleep)
    # Whoever is asked answers in no time of this clock, which runs on while a busy machine has his
    # thread wait.
    monkeypatch.setattr(polling, "STEP_S", 120.0)
    return clock


@pytest.fixture
def slow(clock, monkeypatch):
    """The scheduler, whose answer is not waited for."""
    monkeypatch.setattr(polling, "STEP_S", 0.05)


@pytest.fixture
def output(tmp_path):
    output = OutputDir(tmp_path)
    output.prepare()
    return output


class Wait:
    def __init__(self, output, queue, jobs=("7",), **limits):
        self.lines = []
        self.targets = [Target("ollama", job, lambda at: {"at": at}) for job in jobs]
        limits = {"queue_timeout_s": 3600, "start_timeout_s": 3600, **limits}
        tell = lambda who, what: self.lines.append(f"{who}: {what}")  # noqa: E731
        self.waiter = Waiter(self.targets, queue, output, tell, **limits)
        self.wait = self.waiter.wait


def begin(output, job="7"):
    (output.path / "logs" / f"{job}.started").write_text("host\n")


def publish(output, job="7", text="10.0.0.1:11434\n"):
    (output.path / f"ollama_ip_{job}.txt").write_text(text)


def test_what_was_asked_before_another_became_ready_is_asked_again_at_once(
    clock, output, monkeypatch
):
    monkeypatch.setattr(probing, "PROBE_PAUSE_S", float("inf"))
    other_is_ready, asked = threading.Event(), []

    def client(_):
        asked.append(other_is_ready.wait(60))
        return "waits for Ollama" if len(asked) == 1 else {}

    targets = [Target("client", "8", client), Target("ollama", "7", lambda _: {})]
    limits = {"queue_timeout_s": 3600, "start_timeout_s": 3600}
    waiter = Waiter(targets, Queue("RUNNING"), output,
                    lambda who, _: other_is_ready.set() if who == "ollama" and targets[1].ready
                    else None, **limits)  # fmt: skip
    for job in ("7", "8"):
        begin(output, job)
    publish(output)
    (output.path / "client_ip_8.txt").write_text("10.0.0.1:5000\n")
    waiter.wait()
    assert asked == [True, True]


def test_long_wait_asks_the_scheduler_twice_a_minute_for_all_jobs(clock, output):
    queue = Queue()
    wait = Wait(output, queue, jobs=[str(n) for n in range(20)], queue_timeout_s=600)
    with pytest.raises(DeadlineError, match=r"still in the queue after 600 s.*Resources"):
        wait.wait()
    assert queue.asked == 20


def test_it_is_ready_as_soon_as_it_answers(clock, output):
    wait = Wait(output, Queue("RUNNING"))
    clock.at = [(5, lambda: begin(output)), (9, lambda: publish(output))]
    wait.wait()
    assert wait.targets[0].result == {"at": ["10.0.0.1:11434"]}
    assert clock.now - 1000 < 9.3


def test_newer_address_of_another_job_is_ignored(clock, output):
    wait = Wait(output, Queue("RUNNING"), start_timeout_s=60)
    begin(output)
    publish(output, job="8")
    with pytest.raises(DeadlineError, match="still starting"):
        wait.wait()


def test_address_that_was_cut_off_is_read_again(clock, output):
    wait = Wait(output, Queue("RUNNING"))
    wait.targets[0].probe = lambda at: {"at": at} if at == ["10.0.0.13:11434"] else "no answer"
    begin(output)
    publish(output, text="10.0.0.1")
    clock.at = [(5, lambda: publish(output, text="10.0.0.13:11434\n"))]
    wait.wait()
    assert wait.targets[0].result == {"at": ["10.0.0.13:11434"]}


@pytest.mark.parametrize("text", ["garbage here\n", "10.0.0.1:99999\n", "a b:1\n", "$(x):1\n"])
def test_address_that_is_none_is_refused_by_its_file(clock, output, text):
    wait = Wait(output, Queue("RUNNING"))
    begin(output)
    publish(output, text=text)
    with pytest.raises(OrchError, match=r"ollama_ip_7\.txt"):
        wait.wait()


def test_end_of_a_job_ends_the_wait_at_once_with_its_log(clock, output):
    queue = Queue("FAILED")
    wait = Wait(output, queue)
    (output.log("ollama", "7")).write_text("Error: no such model\n")
    rc = output.path / "logs" / "7.rc"
    clock.at = [(0.5, lambda: begin(output)), (0.9, lambda: rc.write_text("1\nno model\n"))]
    with pytest.raises(
        ServiceError, match=r"job 7 \[FAILED\] ended with exit code 1: no model"
    ) as e:
        wait.wait()
    assert clock.now - 1000 < 1.2
    assert "Error: no such model" in e.value.details[-1]


def test_death_that_leaves_no_file_is_seen_within_half_a_minute(clock, output):
    queue = Queue("RUNNING")
    wait = Wait(output, queue)
    begin(output)
    clock.at = [(40, lambda: setattr(queue, "state", "OUT_OF_MEMORY"))]
    with pytest.raises(ServiceError, match=r"\[OUT_OF_MEMORY\] ran out of memory; raise mem_gb"):
        wait.wait()
    assert clock.now - 1000 < 70.5


def test_controller_that_does_not_answer_is_no_dead_job(clock, output):
    queue = Queue("RUNNING")
    wait = Wait(output, queue)
    queue.down = True
    clock.at = [
        (100, lambda: setattr(queue, "down", False)),
        (150, lambda: begin(output)),
        (151, lambda: publish(output)),
    ]
    wait.wait()
    assert sum("the wait goes on" in line for line in wait.lines) == 1
    assert sum("answers again" in line for line in wait.lines) == 1


def test_service_that_never_answers_ends_at_the_start_timeout(clock, output):
    wait = Wait(output, Queue("RUNNING"), start_timeout_s=120)
    wait.targets[0].probe = lambda at: f"Ollama at {at[0]} does not answer"
    begin(output)
    publish(output)
    with pytest.raises(DeadlineError, match=r"does not answer.*--start-timeout"):
        wait.wait()


def test_job_without_a_reason_yet_gets_one_more_look_early(clock, output):
    queue = Queue(reason="")
    wait = Wait(output, queue, queue_timeout_s=25)
    clock.at = [(2, lambda: queue.say("PENDING", "Priority"))]
    with pytest.raises(DeadlineError, match="jobs of higher priority come first"):
        wait.wait()
    assert queue.asked == 2


@pytest.mark.parametrize(
    ("code", "knob"),
    [("PartitionTimeLimit", 'lower "time"'), ("BadConstraints", '"mem_gb"'),
     ("QOSMaxWallDurationPerJobLimit", '"qos"'), ("DependencyNeverSatisfied", "deploy again")],
)  # fmt: skip
def test_job_that_can_never_start_ends_the_wait_at_the_first_look(clock, output, code, knob):
    wait = Wait(output, Queue(reason=code))
    with pytest.raises(
        SchedulerError, match=rf"never start the ollama job 7: .*\({code}\).*{knob}"
    ) as error:
        wait.wait()
    assert error.value.exit_code == 3
    assert clock.now - 1000 < 2


def test_held_job_is_said_once_and_waited_for(clock, output):
    queue = Queue(reason="JobHeldUser")
    wait = Wait(output, queue)
    clock.at = [
        (100, lambda: queue.say("RUNNING")),
        (101, lambda: begin(output)),
        (102, lambda: publish(output)),
    ]
    wait.wait()
    said = [line for line in wait.lines if "scontrol release 7" in line]
    assert said == [
        "ollama: job 7 waits in the queue: it is held by its user (JobHeldUser) "
        "[scontrol release 7]"
    ]


def test_expected_start_is_said_when_it_is_known_and_when_it_moves_by_much(clock, output):
    soon = time.time() + 7200
    queue = Queue(start=soon)
    wait = Wait(output, queue, queue_timeout_s=200)
    clock.at = [
        (50, lambda: setattr(queue, "start", soon + 60)),
        (100, lambda: setattr(queue, "start", soon + 3600)),
    ]
    with pytest.raises(DeadlineError):
        wait.wait()
    said = [line for line in wait.lines if "expected to start" in line]
    assert [line[-5:] for line in said] == [
        time.strftime("%H:%M", time.localtime(at)) for at in (soon, soon + 3600)
    ]


def test_requeued_job_is_waited_for_again_and_its_old_files_are_forgotten(clock, output):
    """Its node failed: no exit-code file, and the address of the dead service is still there."""
    queue = Queue("RUNNING")
    wait = Wait(output, queue, queue_timeout_s=90, start_timeout_s=90)
    answers = iter(["not yet"] * 3000)
    wait.targets[0].probe = lambda at: next(answers) if at == ["10.0.0.1:11434"] else {"at": at}
    begin(output)
    publish(output)
    clock.at = [
        (40, lambda: queue.say("PENDING", "BeginTime")),
        (100, lambda: queue.say("RUNNING")),
        (110, lambda: begin(output)),
        (140, lambda: publish(output, text="10.0.0.2:11434\n")),
    ]
    stale = []
    clock.at.append((105, lambda: stale.extend(output.path.glob("ollama_ip_*"))))
    wait.wait()
    assert stale == []
    assert wait.targets[0].result == {"at": ["10.0.0.2:11434"]}
    assert sum("was requeued" in line for line in wait.lines) == 1
    assert sum("earliest begin has not come (BeginTime)" in line for line in wait.lines) == 1
    assert sum("has begun" in line for line in wait.lines) == 2


def test_script_that_was_told_to_end_may_have_been_requeued(clock, output):
    queue = Queue("COMPLETING")
    wait = Wait(output, queue)
    begin(output)
    rc = output.path / "logs" / "7.rc"
    rc.write_text("143\nit was told to end\n")
    clock.at = [
        (6, lambda: queue.say("PENDING", "BeginTime")),
        (50, lambda: begin(output)),
        (51, lambda: publish(output)),
    ]
    wait.wait()
    assert not rc.exists()
    assert wait.targets[0].ready


def test_run_that_began_anew_between_two_looks_is_noticed_by_its_files(clock, output):
    wait = Wait(output, Queue("RUNNING"))
    wait.targets[0].probe = lambda at: "not yet" if at[0].endswith(":1") else {"at": at}
    begin(output)
    publish(output, text="10.0.0.1:1\n")

    def again():
        time.sleep(0.02)  # the clock's: file times are real
        begin(output)

    clock.at = [(5, again), (9, lambda: publish(output, text="10.0.0.2:2\n"))]
    wait.wait()
    assert wait.targets[0].addresses == ["10.0.0.2:2"]
    assert sum("was requeued" in line for line in wait.lines) == 1


def test_old_answer_does_not_undo_a_begin(clock, slow, output):
    """squeue was asked before the job began, and answers after it."""
    queue = Queue("PENDING")
    queue.hang = threading.Event()
    wait = Wait(output, queue)
    clock.at = [
        (3, lambda: begin(output)),
        (4, queue.hang.set),
        (6, lambda: publish(output)),
    ]
    wait.wait()
    assert not any("requeued" in line for line in wait.lines)


def test_slow_scheduler_does_not_hold_up_what_files_say(clock, slow, output):
    queue = Queue("RUNNING")
    queue.hang = threading.Event()
    wait = Wait(output, queue)
    clock.at = [(20, lambda: begin(output)), (90, lambda: publish(output))]
    try:
        wait.wait()
    finally:
        queue.hang.set()
    assert clock.now - 1000 < 91
    assert queue.asked == 1, "no second call while one is under way"


def test_cancelled_in_the_queue_says_by_whom(clock, output):
    queue = Queue()
    wait = Wait(output, queue)
    clock.at = [(20, lambda: queue.say("CANCELLED"))]
    with pytest.raises(ServiceError, match=r"7 \[CANCELLED\] was cancelled by user hpcother") as e:
        wait.wait()
    assert e.value.exit_code == 4
    assert clock.now - 1000 < 32


def test_completing_job_is_not_judged(clock, output):
    queue = Queue("COMPLETING")
    with pytest.raises(DeadlineError):
        Wait(output, queue, queue_timeout_s=100).wait()


def test_gone_job_without_accounting_is_judged_by_its_own_file(clock, output):
    queue = Queue()
    queue.statuses = lambda job_ids: {}
    (output.path / "logs" / "7.rc").write_text("3\nno space left\n")
    with pytest.raises(ServiceError, match="job 7 ended with exit code 3: no space left"):
        Wait(output, queue).wait()


def test_job_that_nobody_knows_and_that_left_nothing_is_given_up_at_the_second_look(clock, output):
    queue = Queue()
    queue.statuses = lambda job_ids: {}
    with pytest.raises(ServiceError, match="not known to the scheduler any more"):
        Wait(output, queue).wait()
    assert 30 < clock.now - 1000 < 33
