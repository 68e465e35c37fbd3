"""The waiting loop, on real files and a clock that does not wait."""

import pytest

from hpc import waiting
from hpc.endpoints import OutputDir
from hpc.errors import DeadlineError, OrchError, SchedulerUnavailable, ServiceError
from hpc.jobstates import JobStatus
from hpc.waiting import Target, Waiter


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
    """A scheduler that says what it is told to, and counts how often it is asked."""

    def __init__(self, state="PENDING"):
        self.state = state
        self.asked = 0
        self.down = False

    def statuses(self, job_ids):
        self.asked += 1
        if self.down:
            raise SchedulerUnavailable("squeue failed: Unable to contact slurm controller")
        return {job_id: JobStatus(self.state, "Resources") for job_id in job_ids}


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(waiting.time, "sleep", clock.sleep)
    return clock


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
