"""MUNGE's daemon, with a key and a socket of its own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from events import PATIENCE_S, until

SEARCHED = f"{os.environ['PATH']}:/usr/sbin"


class Munged:
    """Says who has asked it; `socket` is where. It runs as whoever runs the tests."""

    def __init__(self, folder):
        self.folder, self.socket = folder, folder / "socket"
        self._key = folder / "key"
        self._key.write_bytes(os.urandom(128))
        self._key.chmod(0o600)
        self._child = None

    def start(self):
        program = shutil.which("munged", path=SEARCHED)
        files = [f"--{name}-file={self.folder / name}" for name in ("key", "pid", "log", "seed")]
        command = [program, "--force", "--foreground", f"--socket={self.socket}", *files]
        self._child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(lambda: subprocess.run(["munge", "-n", f"--socket={self.socket}"],
                                     capture_output=True).returncode == 0)  # fmt: skip

    def stop(self):
        self._child.terminate()
        self._child.wait(PATIENCE_S)

    def credential(self, payload, *options, user=None):
        """What `user` (whoever runs the tests, if none is named) shows."""
        as_user = ["runuser", "-u", user, "--"] if user else []
        command = [*as_user, "munge", f"--socket={self.socket}", "-s", payload, *options]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        return made.stdout.strip()


@contextlib.contextmanager
def running():
    """It is there for the time of a test; skipped if it cannot be."""
    if not (shutil.which("munged", path=SEARCHED) and shutil.which("unmunge")):
        pytest.skip("there is no munged, or no unmunge (Debian package munge)")
    folder = Path(tempfile.mkdtemp(prefix="munged."))
    folder.chmod(0o755)
    munged = Munged(folder)
    munged.start()
    try:
        yield munged
    finally:
        munged.stop()
        shutil.rmtree(folder)
