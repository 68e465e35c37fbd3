"""Shared by the unit tests: no services, no cluster."""

import signal
import subprocess
import sys
from pathlib import Path

import haproxy
import pytest
from hypothesis import settings
from paced_server import running
from programs import needed

ROOT = Path(__file__).resolve().parents[2]

#: How long an example takes is the machine's business.
settings.register_profile("any machine", settings(deadline=None))
settings.load_profile("any machine")


@pytest.fixture
def orch(capsys, monkeypatch, tmp_path):
    """orch.py's main in this process, in an empty folder: returns (exit code, stdout, stderr)."""
    from hpc.command_line import main
    from orch import STORY

    monkeypatch.chdir(tmp_path)
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments):
        code = main(STORY, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def output(tmp_path):
    """An output directory, with the folders that a deployment finds in it."""
    from hpc.endpoints import OutputDir

    output = OutputDir(tmp_path / "output")
    output.prepare()
    return output


@pytest.fixture
def recipe_data():
    """A recipe that is right, to be spoilt."""
    return {
        "job": {
            "name": "test",
            "infrastructure": {
                "partition": "gpu",
                "account": "research",
                "nodes": 1,
                "mem_gb": 8,
                "time": "00:10:00",
            },
            "service": {
                "type": "inference",
                "model": "mistral:7b",
                "precision": "q4_0",
                "n_clients": 4,
                "n_requests_per_client": 2,
            },
        }
    }


@pytest.fixture
def server():
    """A stand-in for Ollama that answers at a given pace: of this test alone, as services of others
    go on to look at theirs."""
    with running() as server:
        yield server


@pytest.fixture
def start(server, tmp_path):
    """Start `python3 -m loadgen` on the stand-in; its results go to tmp_path/out. `files`: its
    limits of open files, which are not set by code of ours in a fork of this process: that has
    threads of many libraries."""
    started = []

    def begin(*arguments, url=None, report=False, files=None, **how):
        command = [] if files is None else ["prlimit", f"--nofile={files[0]}:{files[1]}"]
        command += [sys.executable, "-m", "loadgen", "--out", str(tmp_path / "out")]
        command += [] if report else ["--no-report"]
        command += ["--url", url or f"http://127.0.0.1:{server.port}", "--model", "known"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [*command, *map(str, arguments)], cwd=ROOT, text=True, **{**pipes, **how}
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def door(monkeypatch):
    """HAProxy, as it stands between a client service of this test and its engines."""
    needed("haproxy", "haproxy", *haproxy.PLACES)
    with haproxy.haproxy() as folder:
        monkeypatch.setenv("ORCH_DOOR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with ca.pem, and NAME.pem (key and certificate) of several servers."""
    folder = tmp_path_factory.mktemp("certificates")
    openssl = needed("openssl", "openssl")

    def run(*words):
        done = subprocess.run([openssl, *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    new = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new, "-x509", "-subj", "/CN=own CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem",
        "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name, alternative, days in (
        ("good", "DNS:localhost,IP:127.0.0.1", "2"),
        ("other", "DNS:elsewhere.example", "2"),
        ("old", "IP:127.0.0.1", "-1"),
    ):
        (folder / "ext").write_text(f"subjectAltName={alternative}\n")
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-days", days, "-CAcreateserial", "-extfile", "ext",
            "-out", f"{name}.crt")  # fmt: skip
        pair = (folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text()
        (folder / f"{name}.pem").write_text(pair)
    return folder
