"""What a job and its nodes do about replicas that end and come again, without an engine."""

import os
import subprocess
from pathlib import Path

import pytest
from events import until

LIB = Path(__file__).resolve().parents[2] / "lib"

#: A replica that ends at once, with a reason; so often as it is begun.
ENDS = """
echo begun >>"$OUTPUT/begun"
printf '1\\nit has no room\\n' >"$OUTPUT/logs/7.$2.rc"
exit 1
"""


@pytest.fixture
def bash(tmp_path):
    """Runs bash on the libraries, in a job of an output directory of its own."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "ollama_ip_7.txt").write_text("h:1\n")
    (tmp_path / "replica.sh").write_text(ENDS)

    def run(script):
        sourced = " ".join(
            f". {LIB}/{name}.sh;" for name in ("service", "scheduler/local", "threads", "replicas")
        )
        done = subprocess.run(
            ["bash", "-uc", f"{sourced} SERVICE=ollama; sleep() {{ :; }}; {script}"],
            env={**os.environ, "OUTPUT": str(tmp_path), "ORCH_JOB_ID": "7"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


def test_a_replica_that_ends_again_and_again_is_given_up_and_named(bash, tmp_path):
    said = bash('become_node 0; keep_replica "$OUTPUT/replica.sh" 3 nvidia "" ""')
    assert (tmp_path / "begun").read_text().split() == ["begun"] * 4
    ended = f"replica 3 on {os.uname().nodename} has ended (it has no room)"
    assert [line.partition("ollama: ")[2] for line in said] == [
        "replica 3 has the cores of the job",
        f"{ended}, and is begun again in 1 s",
        f"{ended}, and is begun again in 10 s",
        f"{ended}, and is begun again in 60 s",
        f"{ended}, for the time 4 in a row, and is not begun again",
    ]


def test_a_replica_that_is_killed_leaves_nothing_behind(bash, tmp_path):
    """Also what is in a group of its own, and does not end when it is told to."""
    (tmp_path / "replica.sh").write_text(
        """
        setsid bash -c 'trap "" TERM; echo $$ >"$OUTPUT/engine"; exec sleep 1000' &
        until [ -s "$OUTPUT/engine" ]; do :; done
        kill -KILL $$
        """
    )
    bash('RESTARTS=(); become_node 0; keep_replica "$OUTPUT/replica.sh" 3 nvidia "" "" 2>/dev/null')
    stat = Path(f"/proc/{(tmp_path / 'engine').read_text().strip()}/stat")
    until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_one_that_has_served_for_long_is_begun_again_as_if_it_were_the_first_time(bash):
    said = bash('FORGIVEN_AFTER=0; become_node 0; keep_replica "$OUTPUT/replica.sh" 3 nvidia "" "" '
                "| head -n 7")  # fmt: skip
    assert all("begun again in 1 s" in line for line in said[1:]), said


def test_a_replica_that_comes_again_elsewhere_is_published_at_its_place(bash, tmp_path):
    for number in range(12):
        (tmp_path / "logs" / f"7.{number}.address").write_text(f"h:{number}\n")
    said = bash(
        "REPLICAS=12; mapfile -t ADDRESSES < <(replica_addresses); "
        "echo h:99 >$OUTPUT/logs/7.2.address; looks=2; "
        "children_run() { [ $((looks -= 1)) -ge 0 ]; }; follow_replicas"
    )
    assert len(said) == 1, "once"
    expected = [f"h:{99 if number == 2 else number}" for number in range(12)]
    assert (tmp_path / "ollama_ip_7.txt").read_text().split() == expected


def test_a_replica_asks_for_the_port_that_it_had(bash, tmp_path):
    assert bash("become_replica 3; usual_port 11434") == ["11437"]
    (tmp_path / "logs" / "7.3.address").write_text("h:20123\n")
    assert bash("become_replica 3; usual_port 11434") == ["20123"]


def test_what_watches_an_engine_yields_to_it(bash):
    """By `nice` it says its own priority, which is 0 unless these tests are niced themselves."""
    show = "show() { nice; exit; }; (serve_beside node 1 : show)"
    (its,) = bash(f". {LIB}/monitoring.sh; {show}")
    assert int(its) >= 10


def test_a_replica_of_a_node_is_told_what_it_has(bash, tmp_path):
    (tmp_path / "replica.sh").write_text(
        'echo "$* on $(sed -n "s/Cpus_allowed_list:.//p" /proc/self/status)"'
        ' with "$CUDA_VISIBLE_DEVICES"'
    )
    core = min(os.sched_getaffinity(0))
    said = bash("SHARERS=1 RESTARTS=(); become_node 0; "
                f'keep_replica "$OUTPUT/replica.sh" 3 nvidia {core} 2,3; wait')  # fmt: skip
    assert f"[3] --replica 3 1 2,3 on {core} with 2,3" in said
    assert (tmp_path / "logs" / "7.3.share").read_text().split("\n")[1:3] == [str(core), "2,3"]
