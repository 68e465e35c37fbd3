"""Somebody who watches a deployment: what GET /events has told so far."""

import json
import subprocess
import threading

from contracts.live.state import WHOLE, State


class Watcher:
    """Follows the events by curl, as the deployment's owner."""

    def __init__(self, place, record):
        header = place.output / "deployments" / record["id"] / "user.header"
        url = record["endpoints"]["client"]
        command = ["curl", "-sN", "--noproxy", "*", "-H", f"@{header}", f"{url}/events"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.state, self.seen, self.over = None, [], threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        name = ""
        for line in self.process.stdout:
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                before = self.state or State.model_construct()
                self.state = (
                    State.model_validate(data) if name == WHOLE else before.after(name, data)
                )
                self.seen.append(self.state)
        self.over.set()

    def saw(self, what):
        """Whether it was ever so."""
        return any(what(state) for state in self.seen)

    def close(self):
        self.process.terminate()
        self.process.wait()
