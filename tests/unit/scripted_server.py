"""A server that answers with given bytes, however wrong or odd they are."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field


@dataclass
class Scripted:
    """Where it listens, the heads and bodies of the requests that came, and the number of
    connections, and of those that the client ended."""

    host: str
    port: int
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: int = 0

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@contextlib.contextmanager
def scripted(*answers, host="127.0.0.1", port=0, spared=("/api/version", "/api/ps")):
    """The i-th request gets the i-th answer, and all after the last one the last: bytes, or a list
    of pieces that are sent one by one; in a tuple the connection ends after them. A GET of what is
    `spared` is answered 404, and does not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        server = Scripted(host, listener.getsockname()[1])
        script, lock = list(answers), threading.Lock()

        def serve(connection):
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (request := read_request(connection)) is not None:
                    head, body = request
                    if head.split()[1].decode() in spared:
                        connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                        continue
                    with lock:
                        server.heads.append(head)
                        server.bodies.append(body)
                        answer = script.pop(0) if len(script) > 1 else script[0]
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(piece)
                    if isinstance(answer, tuple):
                        return
                server.ended += 1

        def accept():
            with contextlib.suppress(OSError):  # closed: the test is over
                while True:
                    connection, _ = listener.accept()
                    server.connections += 1
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)


def read_request(connection):
    """The head and the body of the next request; None at the connection's end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    length = next((int(v) for name, _, v in fields if name.lower() == b"content-length"), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head, body
