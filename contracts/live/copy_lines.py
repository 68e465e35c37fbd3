"""Lines to be copied into a shell by whom a deployment lets in; the token is read from its file."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from contracts.job_files import authority_file
from contracts.json_object import JsonObject


def ways_to_ask(url: str, token: Path, *, queries: bool, native: bool) -> list[list[str]]:
    """Lines to be copied by whom the client service at a URL lets in with the token of a file, each
    with the word before it. The header and perhaps the authority are beside that.

    Without `queries` it measures a server, which has a door of its own. `native`: its engine
    speaks Ollama's API, too.
    """
    header, authority = token.with_name("user.header"), authority_file(token)
    if not queries:
        return [["measure", _curl(f"{url}/benchmark", _LOAD, header, authority)]]
    ask = _curl(f"{url}/query", _QUESTION, header, authority)
    return [["ask", ask], *_for_clients(url, token, authority, native)]


def _for_clients(url: str, token: Path, authority: Path, native: bool) -> list[list[str]]:
    """What programs that speak OpenAI's or Ollama's API read from their environment; nothing if
    nothing is at the door that asks for a token, and passes on what they send."""
    if not token.exists():
        return []
    key = f'"$(cat {shlex.quote(str(token))})"'
    trusted = f" SSL_CERT_FILE={shlex.quote(str(authority))}" if authority.exists() else ""
    lines = [
        ["openai", f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}{trusted}"],
        # Its command line sends no key, but keeps a path.
        ["ollama", f"export OLLAMA_HOST={url}/{key} OLLAMA_API_KEY={key}{trusted}"],
    ]
    return lines if native else lines[:1]


_QUESTION = {"prompt": "What is a supercomputer?"}
_PROXIES = {
    "http": ("http_proxy", "HTTP_PROXY", "all_proxy"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy"),
}
_LOAD = {"n_clients": 4, "n_requests_per_client": 10}


def _curl(url: str, body: JsonObject, header: Path, authority: Path) -> str:
    """The line; `header` is a file with the one by which the service lets its owner in, if it asks
    for one; `authority` that of the certificate by which it is known, if it speaks TLS."""
    proxied = any(os.environ.get(name) for name in _PROXIES[url.partition(":")[0]])
    data = shlex.quote(json.dumps(body))
    authorization = f"-H @{shlex.quote(str(header))} " if header.exists() else ""
    trusted = f"--cacert {shlex.quote(str(authority))} " if authority.exists() else ""
    return (
        f"curl -s {'--noproxy * ' if proxied else ''}{trusted}{url} {authorization}"
        f"-H 'Content-Type: application/json' -d {data}"
    ).replace("--noproxy *", "--noproxy '*'")


def tunnel(login: str, *urls: str) -> str:
    """Return the line that makes what is at these URLs reachable at home, through USER@HOST."""
    hosts = [url.partition("://")[2].rpartition(":") for url in urls]
    scheme = urls[0].partition("://")[0]
    forwards = " ".join(f"-L {port}:{host}:{port}" for host, _, port in hosts)
    return f"ssh -N {forwards} {login}   # then {scheme}://localhost:{hosts[0][2]} at home"
