"""A file of ours is there as a whole or not at all, also where its writer is interrupted."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from contracts.files import FileError, remove_whole, write_atomically

LIB = Path(__file__).resolve().parents[2] / "lib"
LIBRARY = f". {LIB}/service.sh; . {LIB}/scheduler/local.sh"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_mode_and_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "record", "one", mode=0o600)
    write_atomically(tmp_path / "record", "two", mode=0o600)
    assert (tmp_path / "record").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o600
    assert names(tmp_path) == ["record"]


@pytest.mark.parametrize("where", ["fchmod", "fdopen", "replace"])
def test_interrupted_anywhere_it_leaves_what_was_there(tmp_path, monkeypatch, where):
    (tmp_path / "record").write_text("before")

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "record", "after")
    assert names(tmp_path) == ["record"]
    assert (tmp_path / "record").read_text() == "before"


@pytest.mark.parametrize(
    ("folder", "why"), [("gone", "No such file or directory"), ("file", "Not a directory")]
)
def test_where_it_cannot_be_written_one_sentence_says_so(tmp_path, folder, why):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=rf"cannot write .*{folder}/record: {why}; make room"):
        write_atomically(tmp_path / folder / "record", "text")


@pytest.fixture
def killed_while_writing(tmp_path):
    """A folder with a file whose writer was killed at its second version, and a lock beside it."""
    (tmp_path / "idle.json").write_text("first")
    (tmp_path / ".idle.json.lock").touch()
    code = f"""import os, pathlib, signal; from contracts.files import write_whole
os.fchmod = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_whole(pathlib.Path({str(tmp_path / "idle.json")!r}), ["second"], 0o644)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=LIB.parent, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3
    return tmp_path


def test_what_a_killed_writer_left_goes_with_the_file(killed_while_writing):
    remove_whole(killed_while_writing / "idle.json")
    assert names(killed_while_writing) == [".idle.json.lock"]


def test_what_a_killed_writer_left_goes_at_the_end_of_its_job(killed_while_writing):
    script = f"{LIBRARY}; forget_half_written {killed_while_writing}/idle.json"
    subprocess.run(["bash", "-uc", script], check=True)
    assert names(killed_while_writing) == [".idle.json.lock", "idle.json"]
    script = f"{LIBRARY}; forget_written {killed_while_writing}/idle.json"
    subprocess.run(["bash", "-uc", script], check=True)
    assert names(killed_while_writing) == [".idle.json.lock"]


def test_a_signal_to_the_whole_job_leaves_no_half_written_file(tmp_path):
    """As scancel sends it: to the script and to the mv that it waits for."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "output" / "logs").mkdir(parents=True)
    mv = tmp_path / "bin" / "mv"
    mv.write_text("#!/bin/sh\ncase $* in *.address*) kill -TERM $PPID; exit 143;; esac\n"
                  'exec /bin/mv "$@"\n')  # fmt: skip
    mv.chmod(0o755)
    output = tmp_path / "output"
    script = f"""{LIBRARY}; service_begin test {output} 600
    write_file {output}/logs/$JOB_ID.address here; echo not to be reached"""
    path = f"{mv.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-uc", script],
        env={**os.environ, "PATH": path, "ORCH_JOB_ID": "local1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 143, done
    assert "not to be reached" not in done.stdout
    assert names(output / "logs") == ["local1.rc", "local1.started"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_that_was_given_up_leaves_the_files_of_the_one_that_took_its_place(
    tmp_path, elsewhere
):
    """Its node comes back, and the scheduler ends what it finds there, as any job."""
    (tmp_path / "logs").mkdir()
    begun_again = f"echo another-node >{tmp_path}/logs/$JOB_ID.started" if elsewhere else ":"
    script = f"""{LIBRARY}; service_begin test {tmp_path} 600
    AT_END=(cancels); cancels() {{ touch {tmp_path}/cancelled; }}
    publish_address 10.0.0.1:1; make_folder; echo "$FOLDER" >{tmp_path}/folder
    {begun_again}
    kill -TERM $$"""
    done = subprocess.run(
        ["bash", "-uc", script],
        env={**os.environ, "ORCH_JOB_ID": "local1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 143, done
    assert (tmp_path / "test_ip_local1.txt").exists() == elsewhere
    assert (tmp_path / "logs" / "local1.rc").exists() != elsewhere
    assert (tmp_path / "cancelled").exists() != elsewhere
    assert not Path((tmp_path / "folder").read_text().strip()).exists()


@pytest.mark.parametrize("requeued", [False, True])
def test_a_job_that_could_not_be_told_to_end_ends_when_it_is_begun_again(tmp_path, requeued):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "7.told").write_text("its successor serves\n")
    script = f". {LIB}/service.sh; . {LIB}/scheduler/slurm.sh; service_begin test {tmp_path} 600"
    restarts = {"SLURM_RESTART_COUNT": "1"} if requeued else {}
    done = subprocess.run(
        ["bash", "-uc", f"{script}; echo goes on; exit 3"],
        env={**os.environ, "SLURM_JOB_ID": "7", **restarts},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if requeued else 3), done
    assert ("goes on" in done.stdout) != requeued
    said = (tmp_path / "logs" / "7.rc").read_text().splitlines()
    assert said == (["0", "its successor serves"] if requeued else ["3", ""])
    assert names(tmp_path / "logs") == ["7.rc", "7.started"]


@pytest.fixture
def disk():
    """Of a node: in `tmp_path` names of sockets would be too long, and jobs go to /tmp."""
    with tempfile.TemporaryDirectory() as name:
        yield name


class Job:
    """A script of ours with a folder of its node, which goes on until its stdin ends."""

    def __init__(self, tmp_path, disk, child="true"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        script = f"{LIBRARY}; service_begin test {tmp_path} 600; make_folder; {child} 0<&0 &"
        self.process = subprocess.Popen(
            ["bash", "-uc", f"{script} echo $FOLDER; read"],
            env={**os.environ, "TMPDIR": disk},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process.stdout.readline()
        self.folder = Path(self.process.stdout.readline().strip())

    def end(self):
        self.process.communicate()


def test_what_a_killed_job_left_on_its_node_goes_when_the_next_one_begins(tmp_path, disk):
    killed, other, lives = (Job(tmp_path, disk) for _ in range(3))
    assert killed.folder.parent == Path(disk)
    for job in killed, other:
        job.process.kill()
        job.end()
    (other.folder / "held").write_text("another-node\n")
    Job(tmp_path, disk).end()
    assert not killed.folder.exists()
    assert other.folder.exists(), "TMPDIR may be a folder that nodes share"
    assert names(lives.folder) == ["held"]
    lives.end()
    assert not lives.folder.exists()


def test_what_is_left_of_a_job_whose_script_was_killed_keeps_its_folder(tmp_path, disk):
    job = Job(tmp_path, disk, child="cat")
    job.process.kill()
    job.process.wait()
    Job(tmp_path, disk).end()
    assert job.folder.exists()
    job.end()
    Job(tmp_path, disk).end()
    assert not job.folder.exists()


def test_a_job_says_why_it_cannot_write(tmp_path):
    (tmp_path / "logs").mkdir()
    gone = tmp_path / "gone" / "address"
    script = f"{LIBRARY}; service_begin test {tmp_path} 600; write_file {gone} here"
    done = subprocess.run(
        ["bash", "-uc", script],
        env={**os.environ, "ORCH_JOB_ID": "local1", "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"cannot write {gone}: No such file or directory; make room" in done.stderr


def test_what_a_dead_service_has_left_running_can_write_before_the_job_ends(tmp_path):
    """A load generator outlives its client service for as long as it writes its results."""
    (tmp_path / "logs").mkdir()
    left = f"trap 'sleep 1; echo all >{tmp_path}/results; exit' TERM; touch {tmp_path}/is_there; "
    left += "while :; do sleep 0.05; done"
    script = f"""{LIBRARY}; service_begin test {tmp_path} 600
    bash -c 'bash -c "$LEFT" & until [ -e {tmp_path}/is_there ]; do sleep 0.05; done; exit 3' &
    CHILDREN+=($!); wait $!; exit 1"""
    done = subprocess.run(
        ["bash", "-uc", script],
        env={**os.environ, "ORCH_JOB_ID": "local1", "LEFT": left},
        start_new_session=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done
    assert (tmp_path / "results").read_text() == "all\n"
