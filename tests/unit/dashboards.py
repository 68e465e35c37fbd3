"""What the files in monitoring/ ask Prometheus for."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
DASHBOARDS = MONITORING / "grafana" / "dashboards"
PROVISIONING = MONITORING / "grafana" / "provisioning"
RULES = MONITORING / "rules"

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
# What of an expression holds no metric's name: texts, matchers, ranges, and lists of labels.
_NO_METRICS = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)'
)
_NAME = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")
_WORDS = {"and", "or", "unless", "offset", "bool"}


@dataclass(frozen=True)
class Query:
    """One of a dashboard's questions, as Grafana would send it."""

    dashboard: str
    panel: str
    expr: str


def boards():
    """Every dashboard, by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def queries(**variables):
    """All queries: those of panels and annotations, and what fills the lists of variables.

    `variables` are the values of the dashboards' and of Grafana's own. One without a value is a
    KeyError.
    """
    for name, board in boards().items():
        for title, expr in _questions(board):
            filled = _VARIABLE.sub(lambda match: variables[match[1]], expr)
            yield Query(name, title, filled)


def _questions(board):
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in board["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", _series_with_label(variable["query"])


def _series_with_label(query):
    """An expression that has a result where a list of a label's values has an entry."""
    series, label = _LABEL_VALUES.fullmatch(query).groups()
    matchers = f'{label}!=""'
    if series.endswith("}"):
        return f"{series[:-1]}, {matchers}}}"
    return f"{series}{{{matchers}}}"


def rules():
    """Every rule of monitoring/rules, as a dictionary."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def metrics(expr):
    """The names of the metrics in an expression."""
    return set(_NAME.findall(_NO_METRICS.sub(" ", expr))) - _WORDS
