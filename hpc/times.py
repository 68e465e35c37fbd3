"""Slurm's time formats (sbatch(1), --time)."""

from __future__ import annotations

import re

#: One year. Slurm takes more, but a longer limit is a slip of the pen.
MAX_SECONDS = 365 * 86400

_FORMS = (
    (re.compile(r"(?P<m>\d{1,9})", re.ASCII), "MM"),
    (re.compile(r"(?P<m>\d{1,9}):(?P<s>[0-5]?\d)", re.ASCII), "MM:SS"),
    (re.compile(r"(?P<h>\d{1,9}):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d)", re.ASCII), "HH:MM:SS"),
    (re.compile(r"(?P<d>\d{1,9})-(?P<h>\d{1,2})", re.ASCII), "D-HH"),
    (re.compile(r"(?P<d>\d{1,9})-(?P<h>\d{1,2}):(?P<m>[0-5]?\d)", re.ASCII), "D-HH:MM"),
    (
        re.compile(r"(?P<d>\d{1,9})-(?P<h>\d{1,2}):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d)", re.ASCII),
        "D-HH:MM:SS",
    ),
)

FORMATS = ", ".join(name for _, name in _FORMS)


def parse_time(text: str) -> int:
    """Seconds meant by `text` in one of Slurm's formats (`FORMATS`).

    Raises ValueError with what is allowed; also for nothing (which Slurm takes as "no limit"),
    for more than a year, and for fields that overflow (25 hours after a day, 61 minutes).
    """
    for pattern, _ in _FORMS:
        match = pattern.fullmatch(text)
        if match:
            return _checked_seconds({key: int(value) for key, value in match.groupdict().items()})
    raise ValueError(f"must be a time as Slurm writes it: {FORMATS}")


def _checked_seconds(fields: dict[str, int]) -> int:
    days, hours = fields.get("d", 0), fields.get("h", 0)
    if "d" in fields and hours > 23:
        raise ValueError("has more than 23 hours after the days")
    seconds = days * 86400 + hours * 3600 + fields.get("m", 0) * 60 + fields.get("s", 0)
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError("must be more than 0 and at most 365 days")
    return seconds


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds meant by a number and its unit, such as 30m. Raises ValueError with what is
    allowed."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError("must be a number and its unit (90s, 30m, 2h, 1d), at most 365 days")
    return seconds


def format_time(seconds: int) -> str:
    """`seconds` as D-HH:MM:SS or HH:MM:SS, the form that sbatch and squeue print."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock
