#!/usr/bin/python3
"""Stands in for Grafana's server, which the test machines cannot have: it listens where Grafana's
environment says, takes the password from the file that it says, and answers nobody else. It stops
where a variable is missing, where the files that it is to provision are not there, or where
Prometheus does not let it in by what they say."""

import base64
import http.server
import os
import pathlib
import re
import sys
import urllib.request

env = os.environ
assert sys.argv[1] == "server" and sys.argv[2] == "--homepath"
assert env["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
assert env["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
assert pathlib.Path(env["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
for name in ("datasources/prometheus.yml", "dashboards/orch.yml"):
    assert (pathlib.Path(env["GF_PATHS_PROVISIONING"]) / name).is_file()
assert env["ORCH_PROMETHEUS_URL"].startswith("http://127.0.0.1:")
assert list(pathlib.Path(env["ORCH_DASHBOARDS"]).glob("*.json"))
source = pathlib.Path(env["GF_PATHS_PROVISIONING"]) / "datasources" / "prometheus.yml"
file = re.search(r"basicAuthPassword: \$__file\{(.+)\}", source.read_text())
login = base64.b64encode(b"orch:" + pathlib.Path(file[1]).read_bytes().strip()).decode()
asked = urllib.request.Request(
    env["ORCH_PROMETHEUS_URL"] + "/-/healthy", headers={"Authorization": f"Basic {login}"}
)
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as answer:
    assert answer.status == 200
(pathlib.Path(env["GF_PATHS_DATA"]) / "grafana.db").write_text("")
secret = env["GF_SECURITY_ADMIN_PASSWORD"]
assert secret.startswith("$__file{") and secret.endswith("}")
password = pathlib.Path(secret[len("$__file{") : -1]).read_text().strip()
right = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers.get("Authorization") == right else 401)
        self.end_headers()

    def log_message(self, *arguments):
        pass


at = env["GF_SERVER_HTTP_ADDR"], int(env["GF_SERVER_HTTP_PORT"])
http.server.ThreadingHTTPServer(at, Handler).serve_forever()
