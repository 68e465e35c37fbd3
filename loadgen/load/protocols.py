"""The bytes of requests, by the API that a server speaks."""

from __future__ import annotations

from engines.http.sockets import authority
from engines.registry import ENGINES
from loadgen.load.schedule import Planned
from loadgen.options import Options, Replica


class Requests:
    """The bytes of each planned request. Its prompt and its seed alone are written each time."""

    def __init__(self, options: Options) -> None:
        self._prompts = options.prompts
        engine = ENGINES[options.api]
        route = engine.chat if options.prompts.chat and engine.chat else engine
        self._parts = route.body_of(options.model, options)
        self._heads = [_head(replica, options, route.path) for replica in options.replicas]

    def bytes_of(self, planned: Planned, replica: int) -> bytes:
        """Return the whole HTTP request to a replica, an index into the options."""
        before, after, close = self._parts
        prompt = self._prompts.encoded(planned.index)
        body = b"%b%b%b%d%b" % (before, prompt, after, planned.seed, close)
        return b"%b%d\r\n\r\n%b" % (self._heads[replica], len(body), body)


def _head(replica: Replica, options: Options, path: str) -> bytes:
    """A request's head, for a path, up to the length of its body. A header that was given stands in
    place of ours of that name."""
    ours = {
        "Host": _host(replica),
        "User-Agent": "loadgen",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        **({} if options.reuse_connections else {"Connection": "close"}),
        "Content-Type": "application/json",
    }
    given = {name.lower() for name, _ in options.headers}
    plain = [(name, value) for name, value in ours.items() if name.lower() not in given]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*plain, *options.headers))
    return f"POST {replica.root}{path} HTTP/1.1\r\n{lines}Content-Length: ".encode("latin-1")


def _host(replica: Replica) -> str:
    """Of which link it is is nothing to the server; nor is a port that goes without saying."""
    host = replica.host.partition("%")[0]
    usual = replica.port == (443 if replica.secure else 80)
    name = host if host.isascii() else host.encode("idna").decode("ascii")
    return authority(name, None if usual else replica.port)
