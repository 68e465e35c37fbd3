"""What hands a deployment over, once a second: `python3 -m client.handover`, by lib/handover.sh."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from client.handover.course import Course
from client.handover.door import Door
from client.handover.settings import Settings
from client.handover.state import StateFile
from contracts.errors import OrchError
from contracts.job_files import handover_file
from engines.http.asking import NoAnswer, asking
from engines.http.headers import headers_of
from engines.http.urls import parse

#: Seconds between looks, and that /health may take.
LOOK_S, HEALTH_S = 1.0, 5.0


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="client.handover", allow_abbrev=False)
    for name in ("job-id", "engine", "engine-job", "scripts", "url"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("job", "job-end", "limit"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("chain", "output", "door"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("until", "lasts", "max-jobs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--qdrant-job", default="")
    for name in ("token-file", "ca"):
        parser.add_argument(f"--{name}", type=Path)
    return parser.parse_args()


def _asker(token_file: Path | None, ca: Path | None) -> Callable[[str], bool]:
    """What says whether a request would be answered at the door at a URL."""
    headers, _ = headers_of((), token_file, "ollama", {})

    def answers(url: str) -> bool:
        ask = asking(parse(url, "ollama"), headers, HEALTH_S, ca=str(ca) if ca else None)
        try:
            return ask("/health").status == 200
        except NoAnswer:
            return False

    return answers


def main() -> None:
    """Look once a second, as long as the job lives."""
    given = vars(_given())
    answers = _asker(given.pop("token_file"), given.pop("ca"))
    settings = Settings(**given)
    course = Course(settings, Door(settings.door), answers)
    file, said = StateFile(handover_file(settings.chain)), ""
    while True:
        try:
            now = time.time()
            course.look(now)
            if course.serves:
                file.write(course.state, now)
        except (OSError, OrchError) as error:
            if str(error) != said:
                said = str(error)
                sys.stderr.write(f"hand-over: {said}\n")
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
