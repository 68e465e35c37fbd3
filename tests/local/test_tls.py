"""A deployment whose client service is asked by https."""

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request

import openai
import pytest
from events import PATIENCE_S
from place import PROJECT, SMALL, wait_for
from programs import needed

from contracts.job_files import monitoring_login
from hpc.web import call


@pytest.fixture(scope="module")
def deployed(shared_place):
    recipe = shared_place.recipe(
        model=str(SMALL), n_clients=2, n_requests_per_client=2, tls=True, through="door"
    )
    result = shared_place.orch(recipe, "--site", "local")
    assert result.returncode == 0, result.stderr
    (record,) = shared_place.records()
    return shared_place, record, result.stdout


def test_the_record_has_the_address_and_the_digest_of_the_certificate_shown(deployed):
    place, record, _ = deployed
    host, _, port = record["endpoints"]["client"].removeprefix("https://").rpartition(":")
    authority = place.token_file(record).with_name("authority.pem")
    shown = ssl.get_server_certificate((host, int(port)), ca_certs=str(authority))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    assert record["certificate_sha256"] == digest


def test_its_benchmark_was_measured(deployed):
    _, record, _ = deployed
    assert record["benchmark"]["successful"] == record["benchmark"]["total_queries"] == 4


def test_the_lines_that_are_printed_work_as_they_stand(deployed):
    place, _, printed = deployed
    (curl,) = re.findall(r"^ *ask +(.*)$", printed, re.M)
    ran = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, cwd=place.folder)
    assert json.loads(ran.stdout)["response"], ran
    (exports,) = re.findall(r"^ *openai +(.*)$", printed, re.M)
    asks = "import openai; print([one.id for one in openai.OpenAI().models.list()])"
    script = f"{exports}\n{sys.executable} -c '{asks}'"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=place.folder)
    assert ran.returncode == 0, ran.stderr
    assert SMALL.stem.lower() in ran.stdout


def test_who_does_not_know_the_authority_sends_no_token(deployed):
    _, record, _ = deployed
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(base_url=record["endpoints"]["client"] + "/v1", api_key="x",
                      max_retries=0).models.list()  # fmt: skip


def test_plain_http_is_not_answered(deployed):
    _, record, _ = deployed
    plain = record["endpoints"]["client"].replace("https://", "http://")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(OSError, match=r"HTTP Error 400|reset|closed|disconnected"):
        opener.open(plain + "/health", timeout=30)


@pytest.mark.parametrize("right", [True, False])
def test_the_load_generator_knows_the_door_by_its_authority(deployed, right, tmp_path):
    place, record, _ = deployed
    token = place.token_file(record)
    ca = ["--ca", str(token.with_name("authority.pem"))] if right else []
    command = [sys.executable, "-m", "loadgen", "--url", record["endpoints"]["client"],
               "--model", record["model"], "--token-file", str(token.with_name("user.token")), *ca,
               "--clients", "1", "--requests", "2", "--num-predict", "4",
               "--out", str(tmp_path / "run")]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "SSL_CERT_FILE"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment)
    assert (ran.returncode == 0) == right, ran
    assert right or ("certificate" in ran.stderr and "Traceback" not in ran.stderr)


def test_prometheus_scrapes_it_by_the_authority_that_it_knows(place):
    needed("prometheus", "prometheus")
    recipe = place.recipe(tls=True, monitoring={"enabled": True})
    result = place.orch(recipe, "--site", "local", "--no-benchmark")
    assert result.returncode == 0, result.stderr
    (record,) = place.records()
    query = record["endpoints"]["prometheus"] + "/api/v1/query?query=up%7Bjob%3D%22client%22%7D"

    def found():
        answer = call("GET", query, header_file=monitoring_login(place.output).header)
        return [one["value"][1] for one in answer.json["data"]["result"]]

    wait_for(lambda: found() == ["1"], PATIENCE_S, lambda: f"found: {found()}")
