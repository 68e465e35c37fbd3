"""How gunicorn serves the client service: its configuration file, wherever it is started.

Address and threads are given on its command line.
"""

from __future__ import annotations

import gc
import os
import socket
import struct
from typing import Any

#: Whoever sends or takes nothing for so long in the midst of a request is not waited for any
#: longer: its thread is needed. A thread that waits for Ollama is not meant.
STALL_S = 30

worker_class = "gthread"
workers = 1  # the state of a running benchmark lives in its process
timeout = 0  # of a whole worker; requests have their own
graceful_timeout = 1
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
# What is in front passes headers on as they came. Of whoever comes by a Unix socket gunicorn would
# believe them: SCRIPT_NAME takes what it says off the path, after the door has read that.
forwarded_allow_ips = forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}


def when_ready(server: Any) -> None:
    """Tell the worker, which comes after us, its threads; and limit the time of what listens: on
    Linux each connection inherits it when it is made.

    gunicorn's threads read and write blocking sockets without a limit of their own.
    """
    os.environ["ORCH_THREADS"] = str(server.cfg.threads)
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_S, 0))


def post_fork(_server: Any, _worker: Any) -> None:
    """The worker is about to load the service, which makes many objects and no garbage."""
    gc.disable()


def post_worker_init(_worker: Any) -> None:
    """The service is loaded, and is going to answer requests."""
    gc.enable()
