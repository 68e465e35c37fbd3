"""Lines for people."""

from __future__ import annotations

import sys


def print_line(text: str) -> None:
    """Print a line for people, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Print a line about what went wrong, on stderr."""
    sys.stderr.write(f"loadgen: {text}\n")
