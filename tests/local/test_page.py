"""The page at the door of a real deployment, in a real browser."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import browser, opened, says, violations
from events import PATIENCE_S, until
from place import PROJECT

PROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend many
    bind "127.0.0.1:${PORT}"
    http-request deny unless { path_beg /rnode/node1/5000/ }
    http-request replace-path /rnode/node1/5000/(.*) /\\1
    default_backend one
backend one
    server one "${TO}"
"""
#: A real model may end any answer at once: who wants to stop one must not come after its end.
STOPS_AT_THE_FIRST_WORD = """() => new MutationObserver((_, seen) => {
    if (!document.querySelector("#answer").textContent) return;
    seen.disconnect();
    document.querySelector("#prompt-stop").click();
}).observe(document.querySelector("#answer"), { childList: true })"""
SIZES = {"wide": {"width": 1400, "height": 900}, "phone": {"width": 360, "height": 740}}
STICKS_OUT = """[...document.querySelectorAll("html, section")]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"""


@pytest.fixture(scope="module")
def deployed(shared_place):
    record = shared_place.deploy(shared_place.recipe())
    return shared_place, record


@pytest.fixture(scope="module")
def chromium():
    with browser() as made:
        yield made


@pytest.fixture
def page(chromium, deployed):
    """The page as one sees it who has opened a link; it has not complained in the end."""
    with opened(chromium, viewport=SIZES["wide"]) as shown:
        enter(shown, deployed)
        yield shown
        assert shown.complaints == []


def link(deployed):
    place, record = deployed
    result = place.orch("--link", record["id"], "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["url"]


def enter(shown, deployed):
    shown.goto(link(deployed))
    says(shown, "#state", "^healthy$")


def test_a_link_shows_the_deployment_once_and_asks_nobody_else(page, chromium, deployed):
    _, record = deployed
    client = record["endpoints"]["client"]
    assert page.url == f"{client}/"
    assert re.search("ollama.*running", says(page, "#jobs tbody", "client"), re.DOTALL)
    says(page, "#replicas tbody", "answers.*CPU")
    says(page, "#copy", "user.token")
    assert page.locator("#plots svg").count() == 4
    assert page.asked
    assert all(url.startswith((f"{client}/", "data:")) for url in page.asked)
    with opened(chromium) as another:
        answer = another.goto(next(url for url in page.asked if "/open?" in url))
        assert answer.status == 401
        answer = another.goto(f"{client}/")
        assert answer.status == 401
        assert record["id"] not in another.content()


def test_a_prompt_streams_and_is_stopped(page):
    page.fill("#prompt-tokens", "20")
    page.press("#prompt-text", "Tab")
    page.press("#prompt-tokens", "Enter")
    says(page, "#prompt-figures", r"^\d+ tokens?, the first after")
    assert page.locator("#answer").inner_text()
    page.evaluate(STOPS_AT_THE_FIRST_WORD)
    page.fill("#prompt-tokens", "100000")
    page.click("#prompt button[type=submit]")
    says(page, "#prompt-figures", "^Stopped")
    assert page.locator("#answer").inner_text()
    assert page.locator("#prompt button[type=submit]").is_enabled()


def test_a_benchmark_is_started_seen_and_its_report_read(page, tmp_path):
    for field, number in (("n-clients", 2), ("n-requests", 3), ("n-tokens", 4)):
        page.fill(f"#{field}", str(number))
    page.click("#benchmark button[type=submit]")
    found = says(page, "#benchmark-found", "answered")
    assert re.search(r"Requests\s+6 answered, 0 failed", found)
    run = re.match(r"(\S+): done, 6 of 6", says(page, "#benchmark-now", "done"))[1]
    # Drawn at the lowest priority: on a machine that is busy that takes its time.
    page.wait_for_selector(f"#reports a[href*='{run}']", timeout=5 * PATIENCE_S * 1000)
    with page.expect_navigation() as shown:  # no script runs in it, not even a test's
        page.click(f"#reports a[href*='{run}']")
    assert shown.value.status == 200
    assert shown.value.headers["content-security-policy"].startswith("sandbox;")
    assert "Time to first token" in shown.value.text()
    page.screenshot(path=tmp_path / "report.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everybody_can_use_it(chromium, deployed, tmp_path, scheme, size):
    with opened(chromium, viewport=SIZES[size], color_scheme=scheme) as shown:
        enter(shown, deployed)
        says(shown, "#jobs tbody", "client")
        shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert violations(shown) == []
        assert shown.evaluate(STICKS_OUT) == []
        shown.screenshot(path=tmp_path / "page.png", full_page=True)


def test_the_end_of_a_deployment_is_shown(chromium, shared_place):
    record = shared_place.deploy(shared_place.recipe())
    with opened(chromium) as shown:
        enter(shown, (shared_place, record))
        assert shared_place.orch("--stop", record["id"]).returncode == 0
        says(shown, "#lost", f"does not answer.*--status {record['id']}")
        assert shown.locator("#state").inner_text() == "no answer"


def test_it_works_below_a_path_whose_neighbours_get_no_cookie(chromium, deployed, tmp_path):
    """As Open OnDemand has it, at one host for everybody."""
    url, (_, record) = link(deployed), deployed
    client = record["endpoints"]["client"]
    with below(client, tmp_path) as proxy, opened(chromium) as shown:
        shown.goto(url.replace(client, proxy))
        says(shown, "#state", "healthy")
        assert shown.url == f"{proxy}/"
        assert {one["path"] for one in shown.context.cookies()} == {"/rnode/node1/5000"}
        shown.fill("#prompt-tokens", "5")
        shown.press("#prompt-tokens", "Enter")
        says(shown, "#prompt-figures", "the first after")
        assert all(one.startswith((f"{proxy}/", "data:")) for one in shown.asked)
        assert shown.complaints == []


@contextlib.contextmanager
def below(client, folder):
    """The URL of a proxy that has a deployment below a path."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "proxy.cfg"
    config.write_text(PROXY)
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    told = {"PORT": str(port), "TO": client.removeprefix("http://")}
    proxy = subprocess.Popen([program, "-db", "-f", config], env={**os.environ, **told})
    try:
        until(lambda: listens(port))
        yield f"http://127.0.0.1:{port}/rnode/node1/5000"
    finally:
        proxy.terminate()
        proxy.wait()


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Told(ThreadingHTTPServer):
    """The page, of a deployment whose state it is told; once it `leaves` nobody is there."""

    daemon_threads = True

    def __init__(self, port=0, **parts):
        super().__init__(("127.0.0.1", port), ToldAnswer)
        state = json.loads((PROJECT / "tests" / "unit" / "live_state.json").read_text())
        state["deployment"]["address"] = self.url
        self.state, self.left = json.dumps({**state, **parts}), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def leave(self):
        self.shutdown()
        self.server_close()
        self.left.set()


class ToldAnswer(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/page/").strip("/") or "index.html"
        kind = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
        self.send_response(200)
        self.send_header("Content-Type", kind.get(name.rpartition(".")[2], "text/event-stream"))
        self.end_headers()
        if name == "events":
            self.wfile.write(f"event: state\ndata: {self.server.state}\n\n".encode())
            self.server.left.wait()
        elif name == "state":
            self.wfile.write(self.server.state.encode())
        else:
            self.wfile.write((PROJECT / "client" / "page" / name).read_bytes())

    def log_message(self, *args):
        pass


def test_the_page_goes_where_the_deployment_goes_on_the_same_host(chromium):
    new = Told()
    old = Told(handover={"job": 1, "phase": "handed_over", "address": new.url})
    with opened(chromium) as shown:
        shown.goto(old.url)
        says(shown, "#handover", "The next jobs serve.*new address")
        old.leave()
        shown.wait_for_url(f"{new.url}/")
        says(shown, "#jobs tbody", "4711")
        for width in (320, 480, 481, 900, 901, 1000, 1001, 2000):
            shown.set_viewport_size({"width": width, "height": 800})
            assert shown.evaluate(STICKS_OUT) == [], width
    new.leave()


def test_else_it_says_where_that_is_and_goes_on_when_there_is_an_answer(chromium):
    moved = {"job": 1, "phase": "handed_over", "address": "http://node7:5000"}
    old = Told(handover=moved)
    with opened(chromium) as shown:
        shown.goto(old.url)
        says(shown, "#handover", "node7")
        old.leave()
        says(shown, "#lost", "has moved to http://node7:5000.*orch.py --link")
        again = Told(old.server_port)
        says(shown, "#state", "degraded")
        assert shown.locator("#lost").inner_text() == ""
    again.leave()
