"""requests.csv: requests.jsonl for spreadsheets, a row per request in flat columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from contracts.figures import SINGLE
from contracts.json_object import JsonObject
from loadgen.measurements import RequestLine

#: Seconds and counts as in requests.jsonl, whose `gaps` are only summed up here. A column stays at
#: its place, so that new ones come at the end.
_COLUMNS = (
    "request", "client", "replica", "retried", "retried_from", "intended", "due", "sent", "connect",
    "ttft", "e2e", "tpot", "n_gaps", "mean_gap", "max_gap", "output_tokens", "input_tokens",
    "server_load", "server_prefill", "server_decode", "server_total", "server_queue",
    "server_embed", "server_search", "in_window", "http_status", "error", "message", "ttfo",
    "finish",
)  # fmt: skip
COLUMNS = tuple(dict.fromkeys((*_COLUMNS, *(figure.key for figure in SINGLE))))
# A spreadsheet takes a text that begins so for a formula, and messages come from servers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(requests: Sequence[RequestLine]) -> Iterator[str]:
    """Yield the head and a line for each request (RFC 4180); unknown cells are empty."""
    yield csv_line(COLUMNS)
    for request in requests:
        row = _flat(request)
        yield csv_line([row.get(column) for column in COLUMNS])


def _flat(request: RequestLine) -> JsonObject:
    gaps = request["gaps"]
    server = {f"server_{key}": value for key, value in request["server"].items()}
    mean, longest = (sum(gaps) / len(gaps), max(gaps)) if gaps else (None, None)
    return {**request, **server, "n_gaps": len(gaps), "mean_gap": mean, "max_gap": longest}


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def csv_line(cells: Iterable[object]) -> str:
    """Return a line of a table; no cell is a formula to a program that opens it."""
    line = io.StringIO()
    csv.writer(line).writerow(map(_cell, cells))
    return line.getvalue()
