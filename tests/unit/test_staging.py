"""staging: a model's files are copied to the node's own disk, once for all jobs of a user."""

import hashlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from events import PATIENCE_S

from hpc.deployments.loading import loading_of, loading_words

LIB = Path(__file__).resolve().parents[2] / "lib"
LIBRARY = f". {LIB}/service.sh; . {LIB}/scheduler/local.sh; . {LIB}/loading.sh"
DATA = b"GGUF" + bytes(range(256)) * 4000
NAME = f"sha256-{hashlib.sha256(DATA).hexdigest()}"
#: A copy that waits until somebody makes the file GO.
SLOW = (
    'eval "real_$(declare -f copy_files)"; '
    'copy_files() { mkdir "$1"; until [ -e GO ]; do sleep 0.05; done; rmdir "$1"; '
    'real_copy_files "$@"; }; '
)
LIVE = 'echo "has $STAGED"; until [ -e END.$JOB_ID ]; do sleep 0.05; done'


class Node:
    """A node's disk, a shared file system with a model, and jobs that copy it."""

    def __init__(self, folder):
        self.folder, self.disk = folder, folder / "disk of 'one'"
        self.models, self.output = folder / "the models", folder / "output"
        for path in (self.disk, self.models, self.output / "logs"):
            path.mkdir(parents=True)
        (self.models / NAME).write_bytes(DATA)
        self.jobs = []

    @property
    def staging(self):
        return self.disk / f"orch-models.{os.getuid()}"

    def begin(self, job, script=LIVE, before="", stage=f'stage smol "$2" {NAME}', disk=None):
        """Begin a job that stages the model and goes on with the script."""
        text = (
            f'set -uo pipefail; {LIBRARY}; JOB_ID={job}; {before} service_begin ollama "$1" 600; '
            f'begin_staging "$3"; {stage}; loading source store; loading path x; '
            f"loading bytes 9; note_loading; {script}"
        )
        process = subprocess.Popen(
            ["bash", "-c", text, "-", self.output, self.models, disk or self.disk],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={"PATH": os.environ["PATH"], "HERE": str(self.disk)},
        )  # fmt: skip
        self.jobs.append(process)
        return process

    def run(self, job="1", script=":", **how):
        """Run a job to its end: what it says, and its reason if it has failed."""
        process = self.begin(job, script, **how)
        said = process.communicate(timeout=PATIENCE_S)[0]
        return said, (self.output / "logs" / f"{job}.rc").read_text().split("\n")[1]

    def left(self):
        return sorted(str(path.relative_to(self.disk)) for path in self.disk.rglob("*"))

    def loading(self, job):
        (found,) = loading_of(self.output / "logs", job)
        return found


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    for process in node.jobs:
        kill(process)
        process.communicate()


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def line_of(process, word):
    """Its next line that has the word."""
    for line in process.stdout:
        if word in line:
            return line.rstrip()
    raise AssertionError(f"it ended without {word}")


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- a copy --------------------------------------------------------------------------------------


def test_a_model_is_copied_with_its_digest_and_nothing_is_left_at_the_end(node):
    job = node.begin("1")
    copy = Path(line_of(job, "has ").removeprefix("has ")) / NAME
    assert copy.read_bytes() == DATA and copy.is_relative_to(node.staging)
    assert node.staging.stat().st_mode & 0o777 == 0o700
    (node.folder / "END.1").touch()
    assert job.wait(PATIENCE_S) == 0 and node.left() == []
    found = node.loading("1")
    assert found["sha256"] == NAME.removeprefix("sha256-")
    assert (found["copied_bytes"], found["staged"]) == (len(DATA), str(copy.parent))
    assert found["copy_seconds"] >= 0 and found["copy_mb_per_s"] is not None
    source, copied, *_ = loading_words([found])
    assert source == "from the model store" and copied.startswith("copied to the node's disk in")


def test_how_far_it_is_is_said(node):
    script = "now_ms() { echo 3000; }; progress_of 1073741824 4294967296 1000"
    said, _ = node.run(script=script)
    assert "1.0 of 4.0 GiB, 537 MB/s, 6 s left" in said
    assert re.search(r"copying 0\.00 GiB of smol to .*\n.*copied 0\.0 of 0\.0 GiB, \d+ MB/s", said)


def test_two_jobs_at_once_copy_once_and_the_last_one_removes_it(node):
    first = node.begin("1", before=SLOW)
    line_of(first, "copying")
    second = node.begin("2", before=SLOW)
    line_of(second, "waits for another job, which copies the same model")
    (node.folder / "GO").touch()
    copies = {line_of(job, "has ") for job in (first, second)}
    assert len(copies) == 1
    (node.folder / "END.1").touch()
    assert first.wait(PATIENCE_S) == 0
    assert (Path(copies.pop().removeprefix("has ")) / NAME).read_bytes() == DATA
    (node.folder / "END.2").touch()
    assert second.wait(PATIENCE_S) == 0 and node.left() == []
    assert [node.loading(job)["copied_bytes"] for job in "12"] == [len(DATA), 0]
    assert node.loading("2")["sha256"] == node.loading("1")["sha256"]


def test_many_at_once_copy_once(node):
    jobs = [node.begin(str(number)) for number in range(5)]
    for job in jobs:
        line_of(job, "has ")
    for number in range(5):
        (node.folder / f"END.{number}").touch()
    assert [job.wait(PATIENCE_S) for job in jobs] == [0] * 5
    copied = [node.loading(str(number))["copied_bytes"] for number in range(5)]
    assert sorted(copied) == [0] * 4 + [len(DATA)] and node.left() == []


def test_what_a_killed_job_left_is_no_model_and_is_removed(node):
    first = node.begin("1", before=SLOW)
    line_of(first, "copying")
    wait_for(lambda: any(name.endswith(".part") for name in node.left()))
    kill(first)
    first.wait()
    assert any(name.endswith(".part") for name in node.left())
    (node.folder / "GO").touch()
    said, reason = node.run("2")
    assert reason == "" and "copying" in said and node.left() == []
    assert node.loading("2")["copied_bytes"] == len(DATA)


def test_the_copy_of_a_killed_job_serves_the_next_one(node):
    first = node.begin("1")
    line_of(first, "has ")
    kill(first)
    first.wait()
    assert "copying" not in node.run("2")[0] and node.left() == []


def test_one_that_waits_ends_when_it_is_told(node):
    first = node.begin("1", before=SLOW)
    line_of(first, "copying")
    second = node.begin("2")
    line_of(second, "waits for")
    second.terminate()
    assert second.wait(PATIENCE_S) == 143
    first.terminate()
    assert first.wait(PATIENCE_S) == 143 and node.left() == []


# --- what goes wrong -----------------------------------------------------------------------------


def test_without_room_nothing_is_copied(node):
    os.truncate(node.models / NAME, 1 << 43)
    said, reason = node.run()
    assert re.match(
        r"no room for smol in .*disk of 'one' on \S+: it has 8192\.00 GiB, and [\d.]+ GiB are free "
        r'there; set another local_disk in the site profile, or staging to "none"$',
        reason,
    )
    assert "copying" not in said and node.left() == []


def test_a_file_that_is_not_what_it_is_called_is_named(node):
    (node.models / NAME).write_bytes(DATA[:-1])
    reason = node.run()[1]
    assert f"cannot copy smol to {node.staging}" in reason
    assert f"{node.models}/{NAME} is damaged: its digest is " in reason and node.left() == []


def test_a_file_that_is_gone_is_named(node):
    (node.models / NAME).unlink()
    reason = node.run(before="bytes_of() { echo 1; }; ")[1]
    assert f"{node.models}/{NAME}: No such file or directory" in reason and node.left() == []


def test_another_ones_folder_is_not_used(node):
    (node.folder / "elsewhere").mkdir()
    node.staging.symlink_to(node.folder / "elsewhere")
    reason = node.run()[1]
    assert f"cannot have the folder {node.staging}" in reason and "set local_disk" in reason


@pytest.mark.parametrize(
    ("disk", "words"),
    [("$HERE", ""), ("$NOTHING", "no variable $NOTHING, which the site profile names"),
     ("/nowhere/at/all", "cannot have the folder /nowhere/at/all/orch-models")],
)  # fmt: skip
def test_a_disk_may_be_named_by_a_variable(node, disk, words):
    assert words in node.run(disk=disk)[1]


# --- other models --------------------------------------------------------------------------------


def test_a_folder_is_copied_whole_with_what_its_links_lead_to(node):
    folder = node.models / "some model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(DATA)
    (folder / "sub" / "a b.safetensors").symlink_to(node.models / NAME)
    show = '(cd "$STAGED" && find . -type f | sort && cat config.json)'
    said, reason = node.run(script=show, stage='stage_folder smol "$2/some model"')
    assert reason == "" and "./.digests\n./config.json\n./sub/a b.safetensors\n{}" in said


def test_weights_that_are_there_twice_count_once(node):
    for name, size in (("model-1", 3_000_000), ("model-2", 7), ("consolidated", 3_000_007)):
        (node.models / f"{name}.safetensors").write_bytes(bytes(size))
    said, _ = node.run(script='bytes_of_weights "$2"; rm "$2"/model-*; bytes_of_weights "$2"')
    assert "\n30000073000007" in said


def test_a_file_in_several_parts_is_copied_with_all(node):
    for part in range(1, 4):
        (node.models / f"big-0000{part}-of-00003.gguf").write_bytes(DATA)
    (node.models / "big-00001-of-00002.gguf").write_bytes(b"another")
    stage = 'stage_file big "$2/big-00001-of-00003.gguf"'
    script = 'echo "at $STAGED"; ls "${STAGED%/*}"; bytes_of_file "$2/big-00001-of-00003.gguf"'
    said, reason = node.run(script=script, stage=stage)
    assert reason == "" and re.search(r"at .*/big-00001-of-00003\.gguf", said)
    assert said.count("of-00003.gguf\n") == 4 and "of-00002" not in said
    assert f"\n{3 * len(DATA)}" in said


def test_a_file_that_has_changed_is_another_one(node):
    (node.models / "a.gguf").write_bytes(DATA)
    first = node.begin("1", stage='stage_file a "$2/a.gguf"')
    line_of(first, "has ")
    (node.models / "a.gguf").write_bytes(DATA[::-1])
    said, _ = node.run("2", script='cat "$STAGED" | sha256sum', stage='stage_file a "$2/a.gguf"')
    assert hashlib.sha256(DATA[::-1]).hexdigest() in said
    first.terminate()
    first.wait(PATIENCE_S)
    assert node.left() == []


def test_how_several_replicas_have_loaded_is_told_in_their_order(tmp_path):
    for number in (10, 2):
        lines = f"source own\npath /x y\nbytes 5000000\nload_seconds {number}\n"
        (tmp_path / f"7.{number}.loading").write_text(lines)
    (tmp_path / "7.3.loading").write_text("half a lin")
    first, second = loading_of(tmp_path, "7")
    assert (first["load_seconds"], second["load_seconds"]) == (2.0, 10.0)
    assert (first["path"], first["load_mb_per_s"]) == ("/x y", 2.5)
    assert loading_of(tmp_path, "8") == []
