"""The alert rules: valid for Prometheus, and about metrics that exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import promql_parser
import pytest
import yaml

from kfadapter_grpc.contract.errors import all_error_classes
from kfadapter_grpc.metrics.catalog import CATALOG, NOTIFY_CATALOG, Metric

FILE = Path(__file__).parents[2] / "deploy" / "alerts" / "kfadapter.rules.yaml"
SCRAPED = {"namespace", "instance", "pod", "job"}
"""Labels that come from scraping."""
PROCESS = {"process_open_fds", "process_max_fds"}
"""Metrics of the Prometheus client library."""


@dataclass(frozen=True)
class Rule:
    """One alert rule."""

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    wait: str


def rules() -> list[Rule]:
    """All rules of the file; fails if it has keys that Prometheus does not know."""
    document = yaml.safe_load(FILE.read_text())
    assert set(document) == {"groups"}
    found = []
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            found.append(Rule(rule["alert"], rule["expr"], rule["labels"], rule["annotations"], rule.get("for", "1s")))
    return found


def series() -> dict[str, Metric]:
    """The metrics that can be queried, by the names of series."""
    ends = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {metric.name + end: metric for metric in (*CATALOG, *NOTIFY_CATALOG) for end in ends[metric.kind]}


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    """Every series that an expression uses."""
    found: list[promql_parser.VectorSelector] = []

    def see(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expr), see)
    return found


def allowed(name: str) -> set[str]:
    """The labels that a series may have."""
    return {*SCRAPED, "le"} if name in PROCESS else {*SCRAPED, "le", *series()[name].labels}


def test_the_file_has_rules() -> None:
    """There are alerts, each with a unique name."""
    names = [rule.alert for rule in rules()]
    assert len(names) > 10
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.alert)
class TestRule:
    """Each rule."""

    def test_its_metrics_exist(self, rule: Rule) -> None:
        """The expression is PromQL, and uses series that the adapter exports, with labels that these have."""
        asked = selectors(rule.expr)
        assert asked
        for one in asked:
            assert one.name in {*series(), *PROCESS}
            assert {matcher.name for matcher in one.matchers.matchers} <= allowed(str(one.name))

    def test_it_groups_by_labels_that_exist(self, rule: Rule) -> None:
        """Labels in `by`, `on` and annotations are labels of the series that are used."""
        known = {label for one in selectors(rule.expr) for label in allowed(str(one.name))}
        grouped = {
            label.strip() for text in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule.expr) for label in text.split(",")
        }
        told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule.annotations.values())))
        assert grouped | told <= known
        if grouped and "and on" not in rule.expr:
            assert told <= grouped

    def test_its_values_exist(self, rule: Rule) -> None:
        """Each reason in a matcher is a reason of the contract."""
        reasons = {error.reason for error in all_error_classes()}
        for one in selectors(rule.expr):
            assert {matcher.value for matcher in one.matchers.matchers if matcher.name == "reason"} <= reasons

    def test_it_says_what_to_do(self, rule: Rule) -> None:
        """It has a name of ours, a severity, a delay that Prometheus can parse, a summary and a description."""
        assert re.fullmatch(r"Kfadapter[A-Z]\w+", rule.alert)
        assert rule.labels["severity"] in {"warning", "critical"}
        assert promql_parser.parse_duration(rule.wait) is not None
        assert set(rule.annotations) == {"summary", "description"}
        assert all(text.endswith(".") for text in rule.annotations.values())
