"""The client service under gunicorn, as the job script starts it."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from events import PATIENCE_S
from haproxy import haproxy

from contracts.load import RESERVED_THREADS

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "client" / "serving.py"
#: Requests that it answers at once: four more than it keeps for others than queries.
THREADS = RESERVED_THREADS + 4


@contextlib.contextmanager
def gunicorn(server, output, config=CONFIG):
    """Its process, with where it answers (`port`) and its output directory (`output`)."""
    (output / "home").mkdir()
    (output / "ollama_ip_41.txt").write_text(f"127.0.0.1:{server.port}\n")
    ours = {"ORCH_OUTPUT_DIR": str(output), "ORCH_OLLAMA_JOB": "41", "ORCH_MODEL": "known"}
    ours |= {"HOME": str(output / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    with haproxy() as door, socket.socket() as listener:
        ours["ORCH_DOOR"] = str(door)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--config",
            str(config),
            "--threads",
            str(THREADS),
        ]
        command += ["--log-level", "error"]
        command += ["--bind", f"fd://{listener.fileno()}", "clientService:create_app()"]
        environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
        process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, **ours}, pass_fds=[listener.fileno()]
        )
        listener.close()
        process.port, process.output = port, output
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
