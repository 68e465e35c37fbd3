#!/usr/bin/python3
"""Stands in for Grafana's server, which the test machines cannot have: it listens where Grafana's
environment says, takes the password from the file that it says, and answers nobody else. It stops
where a variable is missing, or where the files that it is to provision are not there."""

import base64
import http.server
import os
import pathlib
import sys

env = os.environ
assert sys.argv[1] == "server" and sys.argv[2] == "--homepath"
assert env["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
assert env["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
assert pathlib.Path(env["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
for name in ("datasources/prometheus.yml", "dashboards/orch.yml"):
    assert (pathlib.Path(env["GF_PATHS_PROVISIONING"]) / name).is_file()
assert env["ORCH_PROMETHEUS_URL"].startswith("http://127.0.0.1:")
assert list(pathlib.Path(env["ORCH_DASHBOARDS"]).glob("*.json"))
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
