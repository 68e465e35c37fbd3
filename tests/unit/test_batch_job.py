"""A batch as a deployment's work: what a recipe may say, the jobs that follow each other, and the
end of all of them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_batch_input import BROKEN
from test_deployments import SITE, Jobs, look

from batch.files import Files
from batch.state import BatchState, write_state
from contracts.errors import UsageError
from contracts.files import PROJECT
from hpc.console import Console
from hpc.deployments import stopping
from hpc.deployments.chain import Chain
from hpc.deployments.records import Record, create_record, load_records
from hpc.following.batch import BatchFollower
from hpc.recipe.batch import BatchFiles
from hpc.recipe.reading import load_recipe

GOOD = '{"custom_id": "a", "prompt": "Hi"}\n'


@pytest.fixture
def written(recipe_data, tmp_path):
    """Writes a recipe with a batch, and its input; gives the recipe's path."""

    def write(batch, lines=GOOD, **service):
        (tmp_path / "in.jsonl").write_text(lines)
        recipe_data["job"]["service"] = {"model": "tiny", "batch": batch, **service}
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(recipe_data))
        return path

    return write


def test_relative_paths_start_at_the_recipes_folder(written, tmp_path):
    batch = load_recipe(written({"input": "in.jsonl", "continue": False})).job.service.batch
    assert batch.input == str(tmp_path / "in.jsonl")
    assert batch.output == str(tmp_path / "in.out.jsonl")
    assert (batch.max_jobs, batch.continue_) == (10, False)


def test_a_batch_keeps_more_than_one_slot_busy(written):
    service = load_recipe(written({"input": "in.jsonl"})).job.service
    assert service.concurrency == 8
    service = load_recipe(written({"input": "in.jsonl"}, n_clients=3)).job.service
    assert service.concurrency == 3


@pytest.mark.parametrize(
    ("batch", "more", "sentence"),
    [
        ({}, {}, "job.service.batch.input: is missing"),
        ({"input": ""}, {}, "job.service.batch.input = '': must not be empty"),
        ({"input": "a\nb"}, {}, "must be a path without control characters"),
        ({"input": "in.jsonl", "max_jobs": 0}, {}, "max_jobs = 0: must be at least 1"),
        ({"input": "in.jsonl", "continue": 1}, {}, "must be true or false"),
        ({"input": "in.jsonl", "outptu": "x"}, {}, "did you mean job.service.batch.output?"),
        ({"input": "none.jsonl"}, {}, "none.jsonl cannot be read: No such file"),
        ({"input": "."}, {}, "is no file"),
        ({"input": "in.jsonl"}, {"lines": " \n"}, "in.jsonl is empty"),
        ({"input": "in.jsonl"}, {"lines": GOOD + "{\n"}, "line 2 of"),
        ({"input": "in.jsonl", "output": "no/x"}, {}, "it is no folder in which you may write"),
        ({"input": "in.jsonl", "output": "."}, {}, "is a folder; name a file in it"),
        ({"input": "in.jsonl", "output": "pipe"}, {}, "is no file; name one for the answers"),
        ({"input": "in.jsonl", "output": "x" * 230}, {}, "cannot be written: File name too long"),
        ({"input": "in.jsonl", "output": "loop"}, {}, "Too many levels of symbolic links"),
        ({"input": "in.jsonl", "output": "in.jsonl"}, {}, "is its own output"),
        ({"input": "in.jsonl"}, {"question": "Hi"}, "does not go with job.service.question"),
        ({"input": "in.jsonl"}, {"n_requests_per_client": 2}, "job.service.n_requests_per_client"),
        (
            {"input": "in.jsonl"},
            {"server": {"url": "http://127.0.0.1:1/v1"}},
            "does not go with job.service.batch",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_submitted(
    orch, written, tmp_path, batch, more, sentence
):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")  # which nobody reads
    code, _, err = orch(written(batch, **more), "--site", "local", "--output-dir", tmp_path / "o")
    assert code == 2
    assert sentence in err
    assert "nothing was submitted" in err
    assert not list((tmp_path / "o").glob("deployments/*.json"))


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_one_sentence_and_nothing_is_submitted(orch, written, tmp_path, line):
    """At both commands that begin a deployment for a batch."""
    good = '{"prompt": "good", "custom_id": "good"}'
    recipe, output = written({"input": "in.jsonl"}, f"{good}\n\n{line}\n"), tmp_path / "o"
    where = ["--site", "local", "--output-dir", output]
    for command in ([recipe], ["--batch", tmp_path / "in.jsonl", recipe]):
        code, out, err = orch(*command, *where)
        assert (code, out) == (2, "")
        assert f"line 3 of {tmp_path / 'in.jsonl'} {BROKEN[line]}" in err
        assert "nothing was submitted" in err and "Traceback" not in err
        assert len([said for said in err.splitlines() if "line " in said]) == 1
    assert len(BROKEN) >= 30 and not output.exists()


def test_batch_of_the_command_line_takes_the_place_of_question_and_benchmark(written, tmp_path):
    recipe = written({"input": "other", "max_jobs": 3})
    data = json.loads(recipe.read_text())
    data["job"]["service"] |= {"batch": None, "question": "Hi", "n_requests_per_client": 5}
    recipe.write_text(json.dumps(data))
    given = BatchFiles(tmp_path / "in.jsonl", tmp_path / "x")
    service = load_recipe(recipe, None, given).job.service
    assert (service.question, service.load) == (None, {})
    assert service.batch.output == str(tmp_path / "x")
    data["job"]["service"] = {"model": "m", "server": {"url": "http://127.0.0.1:1/v1"}}
    recipe.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="measures a server that it does not start"):
        load_recipe(recipe, None, given)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "x"], "--out is for --batch IN alone"),
        (["--batch", "in", "--status"], "give one recipe, or one of"),
        (["--batch", "in"], "is live; start one with a recipe"),
        (["--batch", "in", "no-such-id"], "there is no deployment 'no-such-id'"),
        (["--batch", "in", "none.json"], "none.json cannot be read"),
    ],
)
def test_usage(orch, arguments, sentence):
    code, _, err = orch(*arguments)
    assert code == 2
    assert sentence in err


# --- the jobs of a chain -------------------------------------------------------------------------


@pytest.fixture
def chain(output):
    """A deployment whose second jobs are there, though its record does not say so yet."""
    batch = {"input": "/in", "output": str(output.path / "out"), "job": 1, "max_jobs": 5}
    record = create_record(output.path, "demo-1124-120000-aaaa", {"site": SITE, "batch": batch})
    record.add_job("ollama", "1", f"{record.id}.ollama")
    record.add_job("client", "2", f"{record.id}.client")
    record.update(state="ready", endpoints={"client": "http://10.0.0.1:5000", "ollama": []})
    chain = Chain(output.path, record.id)
    chain.folder.mkdir()
    (chain.folder / "jobs").write_text("2 .idle 0\n2 ollama 3\n2 client 4\n3 oll")
    return record


def test_the_newest_jobs_are_the_deployments(output, chain, monkeypatch, orch):
    jobs = Jobs(j1="CANCELLED", j2="COMPLETED", j3="PENDING", j4="PENDING")
    assert look(chain, output, monkeypatch, jobs) == "starting"
    assert chain.jobs == {"ollama": "3", "client": "4"}
    assert chain.client is None
    (output.path / "client_ip_4.txt").write_text("10.0.0.2:5001\n")
    assert look(chain, output, monkeypatch, jobs) == "ready"
    assert chain.client == "http://10.0.0.2:5001"
    _, out, _ = orch("--status", "--output-dir", output.path)
    assert "job 2 of at most 5 (client jobs 2, 4)" in out


@pytest.mark.parametrize(
    ("end", "state"), [("0\nthe batch is worked off", "ended"), ("4\nsome", "ended"),
                       ("5\nno more jobs", "failed"), ("130\ntold to", "stopped"), (None, "failed")]
)  # fmt: skip
def test_the_batch_says_how_the_deployment_has_ended(output, chain, monkeypatch, end, state):
    if end:
        (Chain(output.path, chain.id).folder / "end").write_text(f"{end}\n")
    jobs = Jobs(j3="RUNNING", j4="COMPLETED")
    assert look(chain, output, monkeypatch, jobs) == ("stopping" if end else "degraded")
    assert look(chain, output, monkeypatch, Jobs(j3="CANCELLED", j4="COMPLETED")) == state
    (record,) = load_records(output.path)
    assert record.batch["state"] == "interrupted"


def test_stop_ends_pending_successors_first_and_one_that_is_just_submitted(output, chain):
    """The record knows jobs 1 and 2; 3 and 4 are written down; 5 was submitted a moment ago, and 6
    comes while all others end."""
    jobs = Jobs(j1="RUNNING", j2="RUNNING", j3="PENDING", j4="PENDING", j5="PENDING", j6="PENDING")
    names = {str(n): f"{chain.id}.{'client' if n in (2, 4, 6) else 'ollama'}" for n in range(1, 6)}
    jobs.names = {**names, "9": "another.client"}
    jobs.states["9"] = "RUNNING"
    cancel, first = jobs.cancel, []

    def cancel_and_one_more(job_ids):
        first.append(sorted(job_ids))
        assert (Chain(output.path, chain.id).folder / "stop").exists()
        cancel(job_ids)
        if len(first) == 2:
            jobs.names["6"] = f"{chain.id}.client"

    jobs.cancel = cancel_and_one_more
    stopping.stop(chain, jobs, output)
    assert sorted(jobs.cancelled) == ["1", "2", "3", "4", "5", "6"]
    assert "3" in first[0] + first[1]
    assert chain.state == "stopped"
    assert jobs.states["9"] == "RUNNING"


def test_stop_removes_what_a_job_left_whose_node_died_long_ago(output, chain):
    lines = "2 ollama 3\n2 client 4\n3 ollama 5\n3 client 6\n"
    (Chain(output.path, chain.id).folder / "jobs").write_text(lines)
    left = output.path / "ollama_ip_3.txt"
    left.write_text("10.0.0.3:11434\n")
    jobs = Jobs(j3="NODE_FAIL", j4="COMPLETED", j5="RUNNING", j6="RUNNING")
    stopping.stop(chain, jobs, output)
    assert sorted(jobs.cancelled) == ["5", "6"]
    assert not left.exists()


def test_jobs_that_have_no_batch_are_stopped_as_before(output):
    record = create_record(output.path, "demo-1124-120000-bbbb", {"site": SITE})
    record.add_job("client", "1")
    jobs = Jobs(j1="RUNNING")
    stopping.stop(record, jobs, output)
    assert not Chain(output.path, record.id).folder.exists()
    assert isinstance(record, Record)


def test_orch_shows_rate_tokens_and_time_left_of_this_deployment_alone(output, chain):
    """What an earlier one has left beside the same answers is nothing of it."""
    follower = BatchFollower(chain, Jobs(), output, Console())
    state = Files(Path(chain.batch["output"])).state
    write_state(state, BatchState(total=50, completed=20, failed=1, rate=2.04, output_tokens=900,
                                  eta_s=14.4))  # fmt: skip
    assert follower._line() == (
        "20 of 50 lines are answered, 1 have failed; 2.0 requests/s, 900 tokens, 14 s left"
    )
    assert follower._rows()[1] == [
        "2 (1 of at most 5)", "20 of 50", "1", "2.0 requests/s", "900 tokens", "14 s"
    ]  # fmt: skip
    os.utime(state, (0, 0))
    assert follower._line() == "the jobs are not at work yet"


# --- the script ----------------------------------------------------------------------------------

#: The end of a client's job, with a worker that ends by itself with the exit code $5.
JOB = """
. lib/service.sh
. lib/chain.sh
. lib/batch.sh
fail() { REASON=$*; echo "fail: $*" >&2; exit 1; }
runs() { [ "$1" = "$$" ]; }
check_engine_job() { :; }
run_service() { (exit "$WORKER") & SERVICE_PID=$!; CHILDREN+=("$!"); }
cancel_jobs() { echo "cancel" $(printf '%s\\n' "$@" | sort); }
submit_script() { echo "submit [$2] ${*:3}" >>"$OUTPUT/said"; wc -l <"$OUTPUT/said"; }
JOB_ID=7 SERVICE=client SERVED_JOB=6 TIME_LIMIT=60 SERVICE_PID=$$ APP=. PYTHON=true
OUTPUT=$1 CHAIN_SCRIPTS=$1/s CHAIN_SERVICES=(ollama monitoring) WORKER=$5
JOBS=([ollama]=96 [monitoring]=95)
begin_chain "$1/batch" "$2"
begin_batch
trap 'end_batch $?' EXIT
work_off "$3" "$4" in "$1/out"
"""


@pytest.fixture
def job(tmp_path):
    """Runs that; gives its exit code, what it prints, `end` (or None), and `jobs`."""
    (tmp_path / "logs").mkdir()
    folder = tmp_path / "batch"
    folder.mkdir()

    def run(worker, number=1, most=3, go_on=1):
        arguments = [str(tmp_path), *map(str, (number, most, go_on, worker))]
        done = subprocess.run(["bash", "-c", JOB, "bash", *arguments], capture_output=True,
                              text=True, timeout=60, cwd=PROJECT)  # fmt: skip
        files = [folder / name for name in ("end", "jobs")]
        end, jobs = (file.read_text() if file.exists() else None for file in files)
        return done.returncode, done.stdout + done.stderr, end, jobs

    return run


def test_at_the_time_limit_the_same_jobs_are_submitted_again(job, tmp_path):
    code, said, end, jobs = job(5)
    assert (code, end) == (0, None), said
    assert jobs == "2 .idle 1\n2 ollama 1\n2 monitoring 2\n2 client 3\n"
    assert "cancel 95 96" in said, "nobody asks them any more"
    scripts = tmp_path / "s"
    assert (tmp_path / "said").read_text().splitlines() == [
        f"submit [] {scripts}.ollama.sh",
        f"submit [] {scripts}.monitoring.sh",
        f"submit [1] {scripts}.client.sh --job 2",
    ]


@pytest.mark.parametrize(
    ("worker", "more", "code", "words"),
    [
        (0, {}, 0, "the batch is worked off"),
        (4, {}, 4, "some lines of the batch have failed"),
        (2, {}, 2, "has ended with exit code 2"),
        (137, {}, 137, "has ended with exit code 137"),
        (5, {"go_on": 0}, 5, "the same command goes on with it"),
        (5, {"number": 3}, 5, "after 3 jobs, which is its max_jobs"),
    ],
)
def test_at_its_end_the_whole_deployment_ends(job, worker, more, code, words):
    found, said, end, jobs = job(worker, **more)
    assert (found, jobs) == (code, None)
    assert end.startswith(f"{code}\n")
    assert words in end
    assert "cancel 95 96" in said


def test_two_jobs_without_an_answer_have_no_third(job, tmp_path):
    (tmp_path / "batch" / "jobs").write_text("2 .idle 1\n2 ollama 6\n2 client 7\n")
    code, said, end, _ = job(5, number=2)
    assert code == 5
    assert "two jobs in a row had no answer at all" in end
    assert "cancel 6 95" in said, "that of its own time"


def test_a_deployment_that_was_stopped_submits_nothing(job, tmp_path):
    (tmp_path / "batch" / "stop").touch()
    code, said, end, jobs = job(5)
    assert (code, jobs) == (1, "2 .idle 1\n"), said
    assert "told to end" in end
    assert not (tmp_path / "said").exists()
