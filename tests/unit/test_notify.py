"""Who is told that a deployment is ready: what may be said, and what becomes of it."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from events import until
from ports import free_port

from client.notify.__main__ import main, message
from hpc.planning.plan import make_plan
from hpc.planning.share import notify_of
from hpc.recipe.notify import Notify
from hpc.recipe.reading import parse_recipe
from hpc.scheduler.slurm.directives import options
from hpc.site import Site

PROJECT = Path(__file__).resolve().parents[2]
HERE = {"name": "s", "scheduler": "slurm", "gpu_partitions": ["gpu"], "cpu_partitions": ["cpu"]}


@pytest.mark.parametrize(
    ("notify", "sentence"),
    [
        ({"mail": "a b@c"}, "job.notify.mail"),
        ({"mail": "a@b\n#SBATCH --x"}, "job.notify.mail"),
        ({"mail": "anna"}, "job.notify.mail"),
        ({"webhook": "ftp://h/x"}, "must be a URL that begins with http:// or https://"),
        ({"webhook": "http://"}, "must be a URL"),
        ({"webhook": "http://h:99999/"}, "must be a URL"),
        ({"webhook": "http://h/$(x) y"}, "must be a URL"),
        ({"webhook": "https://me:word@h/"}, "must have no name and password in it"),
        ({"command": []}, "job.notify.command"),
        ({"command": "mail -s x"}, "job.notify.command"),
        ({"command": ["a", "b\nc"]}, "must be one line of printable characters"),
        ({"mail": "anna@example.org"}, "no scheduler writes mails at the site local"),
    ],
)
def test_what_cannot_be_is_refused_in_words(orch, tmp_path, recipe_data, notify, sentence):
    recipe_data["job"]["notify"] = notify
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_data))
    code, _, err = orch(path, "--site", "local", "--output-dir", tmp_path / "o")
    assert (code, sentence in err) == (2, True), err


def test_a_recipe_beats_the_site_and_nobody_is_told_if_it_says_so(recipe_data):
    site = Site(**HERE, notify=Notify(mail="site@example.org"))
    for said, found in ((None, site.notify), ({}, None), ({"mail": "a@b"}, Notify(mail="a@b"))):
        recipe_data["job"]["notify"] = said
        assert notify_of(parse_recipe(recipe_data), site) == found


def test_mail_is_asked_for_by_the_clients_job_alone(recipe_data):
    recipe_data["job"]["notify"] = {"mail": "anna+x@example.org"}
    plan = make_plan(parse_recipe(recipe_data), Site(**HERE))
    assert ("--mail-user", "anna+x@example.org") in list(options(plan.client.resources))
    assert ("--mail-type", "BEGIN,END,FAIL") in list(options(plan.client.resources))
    assert plan.engine is not None
    assert "--mail-user" not in dict(options(plan.engine.resources))


ABOUT = {"ORCH_ID": "demo-1", "ORCH_MODEL": "tiny", "ORCH_ADDRESS": "http://h:1"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"ORCH_STATE": "ready"}, "tiny is ready at http://h:1 (demo-1)"),
        ({"ORCH_STATE": "ended", "ORCH_REASON": "idle for 5 s"},
         "demo-1 (tiny) has ended: idle for 5 s"),
        ({"ORCH_STATE": "failed"}, "demo-1 (tiny) has failed"),
    ],
)  # fmt: skip
def test_what_a_webhook_is_sent(more, text):
    assert json.loads(message({**ABOUT, **more})) == {
        "id": "demo-1",
        "state": more["ORCH_STATE"],
        "address": "http://h:1",
        "model": "tiny",
        "text": text,
    }


class Hook:
    """A server that keeps what it is sent, and answers with a status, once something is done."""

    def __init__(self, status, before=lambda: None):
        self.bodies = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                before()
                hook.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Not on stderr."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(204, 0, ""), (302, 1, "it answered 302 Found\n"),
     (500, 1, "it answered 500 Internal Server Error\n")],
)  # fmt: skip
def test_a_webhook_is_asked_once_and_what_it_answers_is_said(capsys, status, code, words):
    hook = Hook(status)
    assert main([], {**ABOUT, "ORCH_STATE": "ready", "ORCH_WEBHOOK": hook.url}) == code
    assert capsys.readouterr().err == words
    assert len(hook.bodies) == 1


def test_nobody_at_the_webhook_is_said_in_words(capsys):
    assert main([], {"ORCH_WEBHOOK": f"http://127.0.0.1:{free_port()}/"}) == 1
    assert capsys.readouterr().err == "Connection refused\n"


#: The client's job, from where it is ready on: with the command $2, and the exit code $3. It is
#: the command that may not take its time: a busy machine needs some to begin Python for a webhook.
JOB = """
. lib/service.sh
. lib/chain.sh
. lib/notify.sh
job_over() { [ -e "$OUTPUT/logs/$1.rc" ]; }
eval "at_most_$(declare -f of_notify)"
of_notify() { at_most_of_notify 50 "${@:2}"; }
JOB_ID=7 HOST=here NOTIFY_S=$7 NOTIFY_COMMAND=(bash -c "$2" 'a b$(touch pwned)') APP=$PWD
NOTIFY_WEBHOOK=$4 PYTHON=$5
service_begin client "$1" 3600
begin_chain "$1/chain" "$6"
begin_notify demo tiny
NOTIFY_ADDRESS=http://h:1
notify ready
REASON='so it was'
exit "$3"
"""


@pytest.fixture
def job(tmp_path, recipe_data):
    """Runs that; gives its exit code, its log, and who was not told."""
    for folder in ("logs", "deployments"):
        (tmp_path / folder).mkdir()

    def run(command, code=0, webhook="", number=1, seconds=3):
        python = PROJECT / ".venv" / "bin" / "python"
        arguments = [tmp_path, command, code, webhook, python, number, seconds]
        done = subprocess.run(
            ["bash", "-c", JOB, "bash", *map(str, arguments)], capture_output=True, text=True,
            timeout=120, cwd=PROJECT, check=False,
        )  # fmt: skip
        path = tmp_path / "deployments" / "demo.notify"
        lines = path.read_text().splitlines() if path.exists() else []
        return done.returncode, done.stdout + done.stderr, lines

    return run


@pytest.mark.parametrize(("code", "state"), [(0, "ended"), (143, "ended"), (1, "failed")])
def test_a_command_is_told_by_its_environment(job, tmp_path, code, state):
    told = tmp_path / "told"
    words = "$ORCH_STATE $ORCH_ID $ORCH_MODEL $ORCH_ADDRESS $ORCH_REASON|$0"
    ended, _, lines = job(f'echo "{words}" >>{told}', code)
    assert (ended, lines) == (code, [])
    assert told.read_text().splitlines() == [
        "ready demo tiny http://h:1 |a b$(touch pwned)",
        f"{state} demo tiny http://h:1 so it was|a b$(touch pwned)",
    ]


def test_what_fails_keeps_nothing_from_going_on(job):
    code, said, lines = job("[ $ORCH_STATE = ended ] || sleep 200; exit 3", 0, Hook(500).url)
    assert code == 0
    assert lines == [
        "not told that it is ready: the command bash did not end in 3 s",
        "not told that it is ready: the webhook: it answered 500 Internal Server Error",
        "not told that it is ended: the command bash has ended with exit code 3",
        "not told that it is ended: the webhook: it answered 500 Internal Server Error",
    ]
    assert "not told that the deployment is ready: the command bash did not end in 3 s" in said


def test_command_and_webhook_are_told_at_once(job, tmp_path):
    """One after the other would take twice as long, of the 30 s that a cancelled job has."""
    begun, asked = tmp_path / "begun", tmp_path / "asked"
    hook = Hook(200, lambda: (until(begun.exists), asked.touch()))
    command = f"touch {begun}; until [ -e {asked} ]; do sleep 0.1; done"
    code, _, lines = job(command, 0, hook.url, seconds=50)
    assert (code, lines, len(hook.bodies)) == (0, [], 2)


@pytest.mark.parametrize(
    ("jobs", "over", "is_told"),
    [
        ("1 client 5\n2 client 7\n", False, False),
        ("1 client 5\n2 client 7\n", True, True),
        ("1 client 5\n2 client 7\n2 .serves http://h:1\n", False, False),
        ("1 client 5\n2 client 7\n2 .serves http://h:1\n", True, True),
        ("", False, True),
    ],
    ids=["before it served", "after a gap", "in a hand-over", "after it", "by hand"],
)
def test_a_next_job_that_fails_is_no_end_while_the_one_before_it_serves(
    job, tmp_path, jobs, over, is_told
):
    """It is submitted again, more than once perhaps."""
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "jobs").write_text(jobs)
    if over:
        (tmp_path / "logs" / "5.rc").write_text("0\n")
    job(f"echo $ORCH_STATE >>{tmp_path}/told", 1, number=2)
    assert (tmp_path / "told").read_text().split() == ["ready", *["failed"] * is_told]
