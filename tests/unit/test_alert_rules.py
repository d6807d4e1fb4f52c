"""Alert rules, recording rules and the dashboard: valid for Prometheus, and about metrics that exist."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import promql_parser
import pytest
import yaml

from kfadapter_grpc.contract.errors import all_error_classes
from kfadapter_grpc.metrics.catalog import CATALOG, NOTIFY_CATALOG, Metric

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "alerts" / "prometheusrule.yaml"
DASHBOARD = ROOT / "deploy" / "dashboards" / "kfadapter.json"
RUNBOOKS = ROOT / "docs" / "reference" / "runbooks.md"
GUIDE = ROOT / "docs" / "observability.md"
SCRAPED = {"namespace", "instance", "pod", "job"}
"""Labels that come from scraping."""
PROCESS = {"process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
"""Metrics of the Prometheus client library."""


@dataclass(frozen=True)
class Rule:
    """One alert rule, or a recording rule, whose name is that of the series."""

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    wait: str


@cache
def all_rules() -> list[Rule]:
    """All rules of the file; fails if it has keys that Prometheus does not know."""
    document = yaml.safe_load(FILE.read_text())["spec"]
    assert set(document) == {"groups"}
    found = []
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "record", "expr", "for", "labels", "annotations"}
            assert ("alert" in rule) != ("record" in rule)
            name, notes = rule.get("alert") or rule["record"], rule.get("annotations", {})
            found.append(Rule(name, rule["expr"], rule["labels"], notes, rule.get("for", "1s")))
    return found


def rules() -> list[Rule]:
    """The alerts."""
    return [rule for rule in all_rules() if ":" not in rule.alert]


@cache
def recorded() -> dict[str, set[str]]:
    """The labels of each series that the rules record."""
    return {rule.alert: {*rule.labels, "namespace"} for rule in all_rules() if ":" in rule.alert}


@cache
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
    if name in recorded():
        return recorded()[name]
    return {*SCRAPED, "le"} if name in PROCESS else {*SCRAPED, "le", *series()[name].labels}


def test_the_file_has_rules() -> None:
    """There are alerts, each with a unique name."""
    names = [rule.alert for rule in rules()]
    assert len(names) > 10
    assert len(set(names)) == len(names)


def test_a_file_for_prometheus_alone() -> None:
    """The command of docs/observability.md makes the file that Prometheus reads without the operator."""
    (command,) = re.findall(r"^(sed .*) >kfadapter.rules.yaml$", GUIDE.read_text(), re.MULTILINE)
    made = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, check=True).stdout
    assert yaml.safe_load(made) == yaml.safe_load(FILE.read_text())["spec"]


def runbooks() -> list[str]:
    """The headings of the page of runbooks."""
    return re.findall(r"^## (Kfadapter\w+)$", RUNBOOKS.read_text(), re.MULTILINE)


def test_every_alert_has_a_runbook() -> None:
    """There is one section for each alert, in their order, and each alert links to its own."""
    assert runbooks() == [rule.alert for rule in rules()]
    for rule in rules():
        assert rule.annotations["runbook_url"] == f"docs/reference/runbooks.md#{rule.alert.lower()}"


def test_what_is_recorded() -> None:
    """Each objective is recorded for the same windows, and every recorded series is used by an alert."""
    names = [(rule.alert, rule.labels["slo"]) for rule in all_rules() if ":" in rule.alert]
    assert sorted(names) == sorted(itertools.product(recorded(), {"availability", "latency"}))
    used = {
        (one.name, matcher.value)
        for rule in rules()
        for one in selectors(rule.expr)
        for matcher in one.matchers.matchers
    }
    assert set(names) <= used


def queries() -> list[tuple[str, str]]:
    """Each query of the dashboard, without Grafana's variables, and how its lines are named."""
    document = json.loads(DASHBOARD.read_text())
    targets = [target for panel in document["panels"] for target in panel.get("targets", [])]
    return [
        (one["expr"].replace("$__rate_interval", "5m").replace("$namespace", "x"), one["legendFormat"])
        for one in targets
    ]


@pytest.mark.parametrize(("expr", "legend"), queries())
def test_a_query_of_the_dashboard(expr: str, legend: str) -> None:
    """It is PromQL, about series and labels that exist, and so is the name of its lines."""
    asked = selectors(expr)
    assert asked
    for one in asked:
        assert one.name in {*series(), *PROCESS, *recorded()}
        assert {matcher.name for matcher in one.matchers.matchers} <= allowed(str(one.name))
    known = {label for one in asked for label in allowed(str(one.name))}
    named = set(re.findall(r"{{(\w+)}}", legend))
    grouped = {label.strip() for text in re.findall(r"\bby \(([^)]*)\)", expr) for label in text.split(",")}
    assert grouped | named <= known
    assert named <= grouped or not grouped


def test_the_dashboard_as_a_whole() -> None:
    """Panels have ids of their own and do not cover each other."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: f"{rule.alert}-{rule.labels.get('slo', '')}")
class TestRule:
    """Each rule."""

    def test_its_metrics_exist(self, rule: Rule) -> None:
        """The expression is PromQL, and uses series that the adapter exports, with labels that these have."""
        asked = selectors(rule.expr)
        assert asked
        for one in asked:
            assert one.name in {*series(), *PROCESS, *recorded()}
            assert {matcher.name for matcher in one.matchers.matchers} <= allowed(str(one.name))

    def test_it_groups_by_labels_that_exist(self, rule: Rule) -> None:
        """Labels in `by`, `on` and annotations are labels of the series that are used."""
        known = {label for one in selectors(rule.expr) for label in allowed(str(one.name))}
        grouped = {
            label.strip() for text in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule.expr) for label in text.split(",")
        }
        reported = set(re.findall(r"\$labels\.(\w+)", " ".join(rule.annotations.values())))
        assert grouped | reported <= known
        if grouped and "and on" not in rule.expr:
            assert reported <= grouped

    def test_its_values_exist(self, rule: Rule) -> None:
        """Each reason in a matcher is a reason of the contract."""
        reasons = {error.reason for error in all_error_classes()}
        for one in selectors(rule.expr):
            assert {matcher.value for matcher in one.matchers.matchers if matcher.name == "reason"} <= reasons

    def test_it_names_the_remedy(self, rule: Rule) -> None:
        """An alert has a name of ours, a severity, a delay that Prometheus can parse, a summary and a description."""
        if ":" in rule.alert:
            assert re.fullmatch(r"kfadapter:\w+:ratio_rate\w+", rule.alert)
            return
        assert re.fullmatch(r"Kfadapter[A-Z]\w+", rule.alert)
        assert rule.labels["severity"] in {"warning", "critical"}
        assert promql_parser.parse_duration(rule.wait) is not None
        assert set(rule.annotations) == {"runbook_url", "summary", "description"}
        assert all(rule.annotations[name].endswith(".") for name in ("summary", "description"))
