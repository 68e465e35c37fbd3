"""The command line's options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.asking.slots import DEFAULT, MOST
from batch.given.lines import PATHS
from contracts.errors import UsageError

_EPILOG = """Exit codes: 0 all lines are answered, 4 some have failed in the end, or it had to stop,
2 the input is wrong or the conditions are others (nothing was sent), 5 --until came first, 130
told to end. The same command again does what is missing. See docs/batch.md."""


@dataclass(frozen=True)
class Options:
    """What was asked for. `until`: Unix time."""

    given: Path
    out: Path | None
    url: str
    token_file: Path | None
    ca: str | None
    model: str | None
    conditions: Path | None
    until: float | None
    slots: int
    endpoint: str | None
    accept_changes: bool


def parse(arguments: Sequence[str] | None) -> Options:
    """Return what was given; argparse exits with 2. Raises UsageError."""
    found = _parser().parse_args(arguments)
    options = Options(**vars(found))
    if not 1 <= options.slots <= MOST:
        raise UsageError(f"--slots is {options.slots}, but must be 1 to {MOST}.")
    if options.model == "":
        raise UsageError("--model is empty; name one, or leave it out.")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m batch",
        description="Answer each line of a file, exactly once.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("given", metavar="IN", type=Path,
        help="OpenAI's batch lines, {\"prompt\": …} or plain text, a line each")  # fmt: skip
    add("--out", type=Path, metavar="OUT", help="answers (default: IN with .out in its name)")
    add("--url", required=True, help="http://HOST:PORT, https://HOST or unix:PATH")
    add("--token-file", type=Path, metavar="FILE", help="with the token alone")
    add("--ca", metavar="FILE", help="of CAs to trust for https (default: the system's)")
    add("--model", metavar="NAME", help="for lines that name none (default: the deployment's)")
    add("--conditions", type=Path, metavar="FILE",
        help="JSON object of texts: all that decides an answer beside its line (default: what the "
        "server says of itself)")  # fmt: skip
    add("--accept-changes", action="store_true",
        help="keep answers that were made under other conditions")  # fmt: skip
    add("--endpoint", choices=PATHS, metavar="PATH",
        help="what all lines ask at, such as /v1/embeddings: another line is wrong")  # fmt: skip
    add("--until", type=float, metavar="UNIX_TIME", help="stop then")
    add("--slots", type=int, default=DEFAULT, metavar="N",
        help=f"requests at once, for a server that does not say (default: {DEFAULT})")  # fmt: skip
    return parser
