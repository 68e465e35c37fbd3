"""Whether a run's figures may be used: reasons against it, each a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_ERROR_RATE = 0.01


def reasons_against(summary: Mapping[str, Any]) -> list[str]:
    """What makes the figures of a summary unusable; nothing for a valid run."""
    requests, concurrency = summary["requests"], summary["concurrency"]
    reasons = []
    if summary["stopped"]:
        done = requests["succeeded"] + requests["failed"]
        reasons.append(
            f"The run was stopped after {done} of {requests['planned']} requests: "
            f"{summary['stopped']}."
        )
    reasons += _of_failures(requests)
    if concurrency["max"] < concurrency["asked"] <= requests["planned"]:
        reasons.append(
            f"At most {concurrency['max']} requests were in flight at once, but "
            f"{concurrency['asked']} clients were asked for."
        )
    return reasons


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader should know that does not make the figures unusable by itself: a replica that
    was out. The requests that failed by it count, as all do, in the reasons."""
    return [
        f"{replica['url']} was out {_when(outage)}, so the others had its share: {outage['why']}."
        for replica in summary["replicas"]
        for outage in replica["outages"]
    ]


def _when(outage: Mapping[str, Any]) -> str:
    if outage["to"] is None:
        return f"from {outage['from']:.2f} s on"
    return f"from {outage['from']:.2f} s to {outage['to']:.2f} s"


def _of_failures(requests: Mapping[str, Any]) -> list[str]:
    ended = requests["succeeded"] + requests["failed"]
    classes = ", ".join(f"{count} {name}" for name, count in requests["errors"].items())
    if not requests["succeeded"]:
        return [f"No request succeeded{f' ({classes})' if classes else ''}."]
    reasons = []
    if requests["failed"] > MAX_ERROR_RATE * ended:
        reasons.append(
            f"{requests['failed']} of {ended} requests failed ({classes}); at most "
            f"{MAX_ERROR_RATE:.0%} may."
        )
    if requests["without_tokens"] > MAX_ERROR_RATE * requests["succeeded"]:
        reasons.append(
            f"{requests['without_tokens']} of {requests['succeeded']} answers had no tokens, or "
            "their number is missing."
        )
    return reasons
