"""The process that works a batch off, as one of its user's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from batch.files import Files
from client.batches.records import BatchRecord
from client.named_tokens import NamedTokens
from contracts.files import PROJECT, write_whole
from contracts.named_tokens import digest_of, new_token
from engines.http.sockets import UNIX

#: What is being answered when it is told to end is dropped: it needs no more time than this.
_END_S = 0.5


class Worker:
    """One of them, with a token of its user's at the door as long as it lives."""

    def __init__(
        self, tokens: NamedTokens, batch: BatchRecord, door: Path, source: Path, files: Files,
        lock: int,
    ) -> None:  # fmt: skip
        """`door` is HAProxy's socket; `lock`: a file that it keeps open. Raises NoToken: the user
        has none any more; OSError: no process was started."""
        folder, word = files.answers.parent, new_token()
        self._tokens, self._digest = tokens, digest_of(word)
        self._token_file = folder / "token"
        tokens.lend(self._digest, batch.user)
        command = [
            sys.executable, "-m", "client.batches.child", str(source),
            "--out", str(files.answers), "--url", f"{UNIX}{door}",
            "--token-file", str(self._token_file), "--endpoint", batch.asked.endpoint,
        ]  # fmt: skip
        try:
            write_whole(self._token_file, [f"{word}\n"], 0o600)
            with (folder / "batch.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                )
        except OSError:
            self._take_back()
            raise

    def wait(self, seconds: float) -> int | None:
        """Return how it has ended; None if it has not yet."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._take_back()
        return code

    def end(self) -> None:
        """End it now."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._take_back()

    def _take_back(self) -> None:
        self._tokens.take_back(self._digest)
        with contextlib.suppress(OSError):
            self._token_file.unlink(missing_ok=True)
