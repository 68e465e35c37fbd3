"""Modules, profile scripts and what else a site wrote: it runs as it expects to, and changes
nothing of ours but the environment."""

import os
import re
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
#: Defined as a site's exported function; what the job then sees of it is printed.
JOB = """
set -uo pipefail
trap - DEBUG ERR RETURN
. {lib}/service.sh
. {lib}/scheduler/local.sh
mkdir -p {out}/logs
service_begin test {out} 3600
MODEL=ours
load_modules {lines}
echo "state: $-:$(shopt -po pipefail):${{IFS@Q}}:$PWD:$MODEL:$SERVICE:$(trap -p EXIT DEBUG ERR)"
echo "loaded: ${{LOADED-}}"
{after}
"""


@pytest.fixture
def job(tmp_path):
    """Runs a job whose site has a `module` function with the given body."""

    def run(body, lines="Python", after="", **environment):
        script = tmp_path / "job.sh"
        script.write_text(JOB.format(lib=LIB, out=tmp_path, lines=lines, after=after))
        environment = {
            "PATH": os.environ["PATH"],
            "BASH_FUNC_module%%": f"() {{ {body}\n}}",
            "ORCH_JOB_ID": "1",
            **environment,
        }
        return subprocess.run(
            ["bash", script], env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    return run


def reason(tmp_path):
    return (tmp_path / "logs" / "1.rc").read_text().splitlines()


FOREIGN = {
    "reads what is not set": 'export LOADED="$2$NO_SUCH_VARIABLE"',
    "goes on after errors": 'false; false | true; export LOADED="$2"',
    "sets options": 'set -euCf -o pipefail; shopt -s failglob; export LOADED="$2"',
    "sets traps": "trap 'echo theirs' EXIT DEBUG ERR TERM; export LOADED=\"$2\"",
    "moves": 'cd /; IFS=,; export LOADED="$2"',
    "has functions of our names": 'fail() { exit 9; }; say() { :; }; export LOADED="$2"',
    "has variables of our names": "export MODEL=theirs SERVICE=theirs OUTPUT=/ IFS=x LOADED=$2",
    "prints": 'echo "12:00:00 test: published 1.2.3.4:5"; export LOADED="$2"',
    "leaves a process": 'sleep 30 & disown; export LOADED="$2"',
    "reads its input": 'read -r line; export LOADED="$2"',
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN.keys())
def test_site_code_runs_as_it_expects_and_changes_nothing_of_ours(job, tmp_path, body):
    done = job(body)
    plain = job("export LOADED=$2")
    assert done.returncode == 0, done.stderr
    assert "loaded: Python\n" in done.stdout
    assert "published" not in done.stdout, "what we parse is our own"
    state = [line for line in done.stdout.splitlines() if line.startswith("state: ")]
    assert state == [line for line in plain.stdout.splitlines() if line.startswith("state: ")]
    assert ":ours:test:trap -- 'finish $?' EXIT" in state[0]


def test_environment_is_taken_over_as_it_is(job):
    done = job(
        r"""unset -v GONE; export PATH=/x/bin:$PATH ODD="a \"b\" \$c 'd' \\ é" TWO=$'1\n2'""",
        after='printf "%s|" "${GONE-unset}" "${PATH%%:*}" "$ODD" "$TWO"; env | grep ^ODD=',
        GONE="1",
    )
    assert done.stdout.splitlines()[-3:-1] == [
        "unset|/x/bin|a \"b\" $c 'd' \\ é|1",
        "2|ODD=a \"b\" $c 'd' \\ é",
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1", "module load Python failed on .*; see 'module avail'"),
        ("exit 0", "module load Python failed"),
        ("exit 3", "module load Python failed"),
        ('echo "ERROR:105: Unable to locate a modulefile for $2" >&2', "ERROR:105: Unable to"),
        ("echo ERROR: no >&2; export LOADEDMODULES=gcc/12:Pythonic/3", "failed on .*: ERROR: no"),
    ],
)
def test_module_that_was_not_loaded_ends_the_job_with_a_sentence(job, tmp_path, body, words):
    done = job(f'[ "$2" = gcc ] && return; {body}', lines="gcc Python")
    code, why = reason(tmp_path)
    assert (done.returncode, code) == (1, "1")
    assert re.search(words, why), why


def test_words_about_an_error_are_none_where_all_is_loaded(job):
    body = "echo 'ERROR: this module is old' >&2; export LOADEDMODULES=gcc/12:$2/3.11 LOADED=$2"
    assert "loaded: Python" in job(body, lines="gcc Python").stdout


def test_several_modules_of_a_line_are_words_and_no_patterns(job, tmp_path):
    (tmp_path / "a file").touch()
    done = job('shift; LOADED+="[$#:$*]"; export LOADED', lines="'a  b' '*'")
    assert "loaded: [2:a b][1:*]\n" in done.stdout


def test_what_batch_shells_read_first_does_not_change_the_job(job, tmp_path):
    (tmp_path / "first.sh").write_text(
        "shopt -s expand_aliases failglob; alias say='echo aliased' rm='rm -i'\n"
        "set -eC; IFS=:; trap 'echo trapped' DEBUG ERR; export CDPATH=/\n"
    )
    done = job("export LOADED=$2", after="false; say fine", BASH_ENV=f"{tmp_path}/first.sh")
    assert done.returncode == 0, done.stderr
    assert "test: fine" in done.stdout
    ours = done.stdout.partition("job 1 runs")[2]
    assert "aliased" not in ours and "trapped" not in ours


# --- other jobs, seen from a job -----------------------------------------------------------------

SQUEUE = '#!/bin/sh\necho "$*" >>{calls}\n{script}\n'
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize(
    ("job_id", "script", "over"),
    [
        ("8", "echo 'NOTICE: x'; echo 'JOBID|STATE'; echo '8|COMPLETED'", True),
        ("8;north", "echo 'CLUSTER: north'; echo '8|TIMEOUT'", True),
        ("8", "echo '8|RUNNING'", False),
        ("8", "echo '18|COMPLETED'", False),
        ("8", UNKNOWN, True),
        ("8;home", UNKNOWN, True),
        ("12", UNKNOWN, False),  # this controller has not come so far
        ("8;north", UNKNOWN, False),
        ("8", "echo 'Unable to contact slurm controller' >&2; exit 1", False),
        ("8;home", "case $* in *clusters*) echo 'no database' >&2; exit 1 ;; esac; echo '8|FAILED'",
         True),
    ],
)  # fmt: skip
def test_job_is_over_that_its_own_cluster_has_seen_end(tmp_path, job_id, script, over):
    squeue = tmp_path / "squeue"
    squeue.write_text(SQUEUE.format(calls=tmp_path / "calls", script=script))
    squeue.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "10",
        "SLURM_CLUSTER_NAME": "home",
    }
    command = (
        f". {LIB}/service.sh; . {LIB}/scheduler/slurm.sh; OUTPUT={tmp_path}; job_over '{job_id}'"
    )
    done = subprocess.run(["bash", "-uc", command], env=environment, check=False)
    assert (done.returncode == 0) is over
    if ";" in job_id:
        calls = (tmp_path / "calls").read_text().splitlines()
        assert f"--clusters={job_id.partition(';')[2]}" in calls[0]
