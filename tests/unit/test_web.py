"""The orchestration's HTTP: to the service that was named, with nothing of the environment."""

import subprocess
import sys
from pathlib import Path

import pytest
from scripted_server import scripted

from hpc import web

ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\nSet-Cookie: who=me\r\nContent-Length: 2\r\n\r\n{}"
UNSEEN = "http://127.0.0.1:1"  # whoever goes there is refused


def test_no_proxy_and_no_password_of_the_environment(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, UNSEEN)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with scripted(OK) as server:
        assert web.call("GET", f"{server.url}/x").status == 200
    assert b"authorization" not in server.heads[0].lower()


def test_a_cookie_is_not_sent_back():
    with scripted(OK) as server:
        for _ in range(2):
            web.call("GET", f"{server.url}/x")
    assert not any(b"cookie" in head.lower() for head in server.heads)


@pytest.mark.parametrize("location", [b"http://[", b"/\xff\xfe", b"x" * 5000])
def test_where_a_redirect_leads_is_said_though_it_be_no_url(location):
    with scripted(b"HTTP/1.1 302 No\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location) as s:
        assert "HTTP 302: it redirects to" in web.call("GET", f"{s.url}/x").error
        assert len(s.heads) == 1


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/x", "127.0.0.1:1/x", "http://", "http://[::1"]
)
def test_what_is_no_url_of_a_service_is_a_sentence(url):
    with pytest.raises(web.NoAnswer, match="does not answer: "):
        web.call("GET", url)


def test_a_plan_is_made_without_loading_it():
    """Nothing is asked before the jobs are on their way, and loading it takes a while."""
    code = (
        "import sys, hpc.command_line, hpc.commands.deploy, hpc.commands.prepare, orch; "
        "orch.services(); print([m for m in ('requests', 'urllib3') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert said.stdout == b"[]\n"
