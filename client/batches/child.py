"""Becomes the process that works a batch off: `python -m client.batches.child ARGUMENTS`.

It ends with whoever started it, also if that is killed: nobody would tell it that the deployment
is over. What it writes is nobody else's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: Of prctl(2): the signal that comes when the parent ends; it stays over exec.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns. Raises OSError."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit(1)  # it has ended in between
    os.umask(0o077)
    os.execv(sys.executable, [sys.executable, "-m", "batch", *sys.argv[1:]])


if __name__ == "__main__":
    main()
