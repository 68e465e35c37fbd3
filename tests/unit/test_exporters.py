"""The exporters as a job starts them, against a stand-in Ollama and a stand-in for
NVIDIA's driver."""

import contextlib
import http.client
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from events import PATIENCE_S, undisturbed
from paced_server import Pace
from ports import free_port
from standin_nvml import Gpu, stand_in

from engines.gpus.described import ENERGY
from exporters.ollama import unix_time

ROOT = Path(__file__).resolve().parents[2]

# Two GPUs at 100 W and 300 W, values that real cards have, one that has no power reading, and one
# that does not answer.
GPUS = (
    Gpu("GPU-a", busy=(37, 11), used_mib=1024, watts=100, celsius=41, mhz=(1980, 2619), reasons=1),
    Gpu("GPU-b", busy=(99, 50), used_mib=70000, watts=300, celsius=66, mhz=(1700, 2619),
        reasons=68),
    Gpu("GPU-c", "NVIDIA T400", busy=None, total_mib=4, used_mib=1, watts=None, celsius=30,
        mhz=(300, 405), reasons=None),
    Gpu("lost"),
)  # fmt: skip


@pytest.fixture
def driver(tmp_path):
    """The environment with a stand-in for NVIDIA's driver."""
    return stand_in(tmp_path, *GPUS)


@pytest.fixture
def start(server):
    """Start the exporters of the stand-in Ollama; the process, with where it listens (`port`)."""
    started = []

    def begin(*arguments, environment=None, ollama=None):
        port = free_port()
        command = [sys.executable, "-m", "exporters", "--listen", f"127.0.0.1:{port}"]
        if "--metrics" not in arguments:
            command += ["--ollama", ollama or f"http://127.0.0.1:{server.port}"]
        command += map(str, arguments)
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:1", **(environment or {})}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        process.port = port
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def get(port, path="/metrics", login=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers={} if login is None else {"Authorization": login})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(port, wanted=None, login=None):
    """The samples by name with labels, once the exporter is up and, where given, has `wanted`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            status, text = get(port, login=login)
            assert status == 200
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            found = {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines)}
            if wanted is None or any(name.startswith(wanted) for name in found):
                return found
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Ollama ---


def test_it_tells_what_ollama_has_and_what_is_loaded(start, server):
    server.pace = Pace(size=2_000, size_vram=1_500, models=("a:7b", "b:latest"))
    found = scrape(start("--gpus", 2, "--job-end", 1_700_000_000).port)
    assert found.pop("ollama_scrape_duration_seconds") > 0
    assert found == {
        "ollama_up": 1,
        'ollama_version_info{version="0.0.0-stand-in"}': 1,
        "ollama_models_on_disk": 2,
        "ollama_models_loaded": 2,
        'ollama_model_size_bytes{model="a:7b"}': 2_000,
        'ollama_model_size_bytes{model="b:latest"}': 2_000,
        'ollama_model_vram_bytes{model="a:7b"}': 1_500,
        'ollama_model_vram_bytes{model="b:latest"}': 1_500,
        'ollama_model_expires_timestamp_seconds{model="a:7b"}': 1_893_456_000.123456,
        'ollama_model_expires_timestamp_seconds{model="b:latest"}': 1_893_456_000.123456,
        "orch_gpus_requested": 2,
        "orch_job_end_timestamp_seconds": 1_700_000_000,
    }


OWN_METRICS = """# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 41
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
"""


class Own(http.server.BaseHTTPRequestHandler):
    """A stand-in of an engine that has metrics of its own, for who has its token."""

    def do_GET(self):
        known = self.headers["Authorization"] == "Bearer word" and self.path == "/metrics"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(OWN_METRICS.encode() if known else b"no")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("token", "up"), [("word", 1), ("another", 0)])
def test_metrics_of_an_engine_are_passed_on(start, tmp_path, token, up):
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{engine.server_port}/metrics"
        exporter = start("--metrics", at, "--gpus", 1, "--token-file", tmp_path / "token")
        found = scrape(exporter.port)
        engine.shutdown()
    assert found.pop("engine_scrape_duration_seconds") > 0
    passed_on = {"llamacpp:tokens_predicted_total": 41, "llamacpp:requests_processing": 2}
    assert found == {"engine_up": up, "orch_gpus_requested": 1, **(passed_on if up else {})}


def test_an_ollama_that_is_not_there_is_not_up_and_no_error(start):
    found = scrape(start("--gpus", 1, ollama=f"http://127.0.0.1:{free_port()}").port)
    assert found.pop("ollama_scrape_duration_seconds") > 0
    assert found == {"ollama_up": 0, "orch_gpus_requested": 1}


def test_whoever_asks_is_to_send_the_login(start, driver, tmp_path):
    (tmp_path / "header").write_text("Authorization: Basic b3JjaDpvZi1vdXJz\n")
    (tmp_path / "header").chmod(0o600)
    gpus = free_port()
    asked = ("--login", tmp_path / "header", "--gpu-listen", f"127.0.0.1:{gpus}")
    process = start(*asked, environment=driver)
    scrape(process.port, login="Basic b3JjaDpvZi1vdXJz")
    for port in (process.port, gpus):
        for sent in (None, "", "Basic b3JjaDpvZi15b3Vycw==", "Bearer b3JjaDpvZi1vdXJz", "\xff"):
            assert get(port, login=sent) == (401, "")
        assert get(port, "/elsewhere")[0] == 401
        assert get(port, login="Basic b3JjaDpvZi1vdXJz")[0] == 200


@pytest.mark.parametrize("text", ["", "X-Key: secret", "secret", "Authorization: secret\n" * 2])
def test_a_file_that_holds_no_login_is_refused_and_not_shown(start, tmp_path, text):
    (tmp_path / "header").write_text(text)
    process = start("--login", tmp_path / "header")
    assert process.wait(PATIENCE_S) == 1
    said = process.stderr.read()
    assert str(tmp_path / "header") in said and "secret" not in said


@undisturbed
def test_an_ollama_that_hangs_is_not_up_in_less_than_two_seconds(start):
    with socket.socket() as listener:  # it takes connections, and says nothing
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = start(ollama=f"http://127.0.0.1:{listener.getsockname()[1]}")
        found = scrape(process.port)
    assert found["ollama_up"] == 0
    assert 1 < found["ollama_scrape_duration_seconds"] < 2


def test_another_server_at_ollamas_address_is_not_up(start):
    """It answers 404 to what Ollama would answer."""
    first = start()
    scrape(first.port)
    assert scrape(start(ollama=f"http://127.0.0.1:{first.port}").port)["ollama_up"] == 0


def test_an_authority_that_cannot_be_used_is_named_at_once(start, server, tmp_path):
    process = start("--ca", tmp_path / "none.pem", ollama=f"https://127.0.0.1:{server.port}")
    assert f"--ca {tmp_path / 'none.pem'} cannot be used" in process.stderr.readline()
    assert process.wait(PATIENCE_S) == 1


def test_who_shows_no_certificate_is_not_up(start, server, certificates):
    ollama = f"https://127.0.0.1:{server.port}"
    process = start("--ca", certificates / "ca.pem", ollama=ollama)
    assert scrape(process.port)["ollama_up"] == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-06-01T12:00:00Z", 1748779200.0),
        ("2025-06-01T14:00:00.5+02:00", 1748779200.5),
        ("2025-06-01T12:00:00.123456789Z", 1748779200.123456),
        ("2318-01-01T00:00:00Z", 10981785600.0),  # kept for ever
        ("soon", None),
    ],
)
def test_times_are_read_as_go_writes_them(text, seconds):
    assert unix_time(text) == (seconds and pytest.approx(seconds, abs=1e-6))


# --- GPUs ---


def test_gpus_have_the_names_and_labels_of_dcgm_exporter(start, driver):
    port = free_port()
    start("--gpu-listen", f"127.0.0.1:{port}", environment=driver)
    found = scrape(port, "DCGM_FI_DEV_GPU_UTIL")
    host = socket.gethostname()

    def of(name, index):
        model, uuid = "NVIDIA H100", "ab"[index]
        labels = f'Hostname="{host}",UUID="GPU-{uuid}",device="nvidia{index}",gpu="{index}"'
        return found[f'{name}{{{labels},modelName="{model}"}}']

    expected = {
        "GPU_UTIL": (37, 99),
        "MEM_COPY_UTIL": (11, 50),
        "FB_USED": (1024, 70000),
        "FB_FREE": (79999, 11023),  # but for what the driver keeps for itself
        "POWER_USAGE": (100, 300),
        "GPU_TEMP": (41, 66),
        "SM_CLOCK": (1980, 1700),
        "MEM_CLOCK": (2619, 2619),
        "CLOCK_THROTTLE_REASONS": (1, 0x44),
    }
    for name, values in expected.items():
        assert tuple(of(f"DCGM_FI_DEV_{name}", index) for index in (0, 1)) == values


def test_what_a_gpu_does_not_tell_is_left_out(start, driver):
    port = free_port()
    start("--gpu-listen", f"127.0.0.1:{port}", environment=driver)
    names = {name.partition("{")[0] for name in scrape(port, "DCGM") if "T400" in name}
    assert names == {
        f"DCGM_FI_DEV_{name}"
        for name in ("FB_USED", "FB_FREE", "GPU_TEMP", "SM_CLOCK", "MEM_CLOCK")
    }


def test_energy_is_the_drivers_counter(start, driver):
    """Of the stand-in: power by the time since the machine began."""
    port = free_port()
    start("--gpu-listen", f"127.0.0.1:{port}", environment=driver)
    energy = re.compile(rf'{ENERGY}{{.*UUID="GPU-(.)"')
    since = time.monotonic()
    found = scrape(port, ENERGY)
    joules = {m[1]: value / 1000 for name, value in found.items() if (m := energy.match(name))}
    assert joules.keys() == {"a", "b"}
    assert 100 * since <= joules["a"] <= 100 * time.monotonic()
    assert joules["b"] == pytest.approx(3 * joules["a"], rel=1e-3)


def test_an_older_driver_is_asked_by_its_own_names(start, tmp_path):
    port = free_port()
    old = stand_in(tmp_path, GPUS[1], old=True)
    start("--gpu-listen", f"127.0.0.1:{port}", environment=old)
    found = scrape(port, "DCGM")
    values = {name.partition("{")[0]: value for name, value in found.items()}
    assert values["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"] == 0x44
    assert values["DCGM_FI_DEV_FB_USED"] == 70000


# --- as a process ---


def test_it_ends_at_once_when_told_to(start, driver):
    port = free_port()
    process = start("--gpu-listen", f"127.0.0.1:{port}", environment=driver)
    scrape(port, "DCGM")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_one_sentence(start, driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--gpu-listen", f"127.0.0.1:{port}", environment=driver)
        _, words = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert words == (
        f"exporters: cannot listen on 127.0.0.1:{port} (Address already in use); choose another "
        "port.\n"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"LD_LIBRARY_PATH": ""}, "there is no libnvidia-ml.so.1"),
        ({"STANDIN_NVML": "/nothing"}, "NVIDIA's driver says: Driver Not Loaded"),
    ],
)
def test_without_a_driver_it_says_what_to_do(start, driver, change, why):
    process = start("--gpu-listen", "127.0.0.1:0", environment={**driver, **change})
    _, words = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert words.startswith(f"exporters: there is nothing to tell about GPUs ({why}")
    assert words.endswith("give the container the GPUs (--nv).\n") and words.count("\n") == 1


def test_there_is_nothing_but_metrics(start):
    process = start()
    scrape(process.port)
    assert get(process.port, "/")[0] == 404


def test_every_metric_is_in_the_documentation(start, driver):
    described = (ROOT / "docs" / "monitoring.md").read_text()
    port = free_port()
    process = start("--job-end", 1, "--gpu-listen", f"127.0.0.1:{port}", environment=driver)
    found = {**scrape(process.port), **scrape(port, "DCGM")}
    names = {name.partition("{")[0] for name in found}
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in described] == []


def test_scrapes_at_once_are_all_answered(start):
    process = start()
    scrape(process.port)
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(process.port))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [status for status, _ in found] == [200] * 20
