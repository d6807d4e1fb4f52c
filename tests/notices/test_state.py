"""The health and metrics of a notifier."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.notices.boxes import Box, at, box, seen

from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.metrics.catalog import NOTIFY_CATALOG
from kfadapter_oran.notices.process import NotifierState
from kfadapter_oran.notices.receiver import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Box]:
    """An outbox with one finished run and one in progress."""
    with box(tmp_path / "notices.db") as opened:
        opened.outbox.record(seen("r", "SUCCEEDED", at(minutes=1)))
        opened.outbox.record(seen("s", "RUNNING"))
        yield opened


@pytest.fixture
def parts() -> SimpleNamespace:
    """Working components."""
    return SimpleNamespace(alive=True, problem="", compared_at=None, is_alive=lambda: True, is_receiving=lambda: True)


@pytest.fixture
def state(made: Box, parts: SimpleNamespace) -> NotifierState:
    """The state of the notifier."""
    reported = NotifierState(made.ledger, SimpleNamespace(dropped=3))  # type: ignore[arg-type]
    reported.read_from(parts, parts)  # type: ignore[arg-type]
    return reported


def test_every_metric_of_the_catalog_is_reported(state: NotifierState) -> None:
    """The metrics are those of the catalog, with its names, kinds and labels, plus the metrics of the process."""
    state.count(Outcome.AWAY)
    text = generate_latest(state.registry)
    families = {one.name: one for one in text_string_to_metric_families(text.decode())}
    reported = {
        name: (one.type, one.documentation, {frozenset(sample.labels) for sample in one.samples})
        for name, one in families.items()
        if not name.startswith("process_")
    }
    assert reported == {
        one.name.removesuffix("_total"): (one.kind, one.text, {frozenset(one.labels)}) for one in NOTIFY_CATALOG
    }
    samples = {(one.name, *one.labels.values()): one.value for family in families.values() for one in family.samples}
    assert samples["kfadapter_notify_notices", "pending"] == 1
    assert samples["kfadapter_notify_notices", "parked"] == 0
    assert samples["kfadapter_notify_attempts_total", "away"] == 1
    assert samples["kfadapter_notify_attempts_total", "delivered"] == 0
    assert samples["kfadapter_notify_open_runs",] == 1
    assert samples["kfadapter_notify_oldest_pending_seconds",] > 0
    assert samples["kfadapter_log_lines_dropped_total",] == 3


def test_health_follows_what_a_restart_may_mend(state: NotifierState, made: Box, parts: SimpleNamespace) -> None:
    """Health is ok while threads are alive and the outbox is usable; other problems are reported without failing it."""
    well, body = state.health()
    reported = json.loads(body)
    assert well
    assert (reported["status"], reported["pending"], reported["parked"], reported["open_runs"]) == ("ok", 1, 0, 1)
    parts.is_receiving = lambda: False
    assert state.health()[0]
    parts.problem = "the outbox cannot be written: disk full"
    well, body = state.health()
    assert (well, json.loads(body)["problem"]) == (False, parts.problem)
    parts.problem, parts.is_alive = "", lambda: False
    assert not state.health()[0]
    parts.is_alive = lambda: True
    made.database.close()
    well, body = state.health()
    assert (well, json.loads(body)["problem"].startswith("the outbox cannot be read")) == (False, True)


def test_health_over_http(state: NotifierState, parts: SimpleNamespace) -> None:
    """/healthz returns 200 or 503; /metrics is served by the same endpoint."""
    with MetricsEndpoint("127.0.0.1:0", state.registry, state.health) as endpoint:
        with urllib.request.urlopen(f"http://{endpoint.address}/healthz", timeout=30) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert json.loads(answer.read())["status"] == "ok"
        parts.is_alive = lambda: False
        with pytest.raises(urllib.error.HTTPError) as failed:
            urllib.request.urlopen(f"http://{endpoint.address}/healthz", timeout=30)
        with failed.value as answer:
            assert (answer.code, json.loads(answer.read())["status"]) == (503, "failing")
        with urllib.request.urlopen(f"http://{endpoint.address}/metrics", timeout=30) as answer:
            assert b"kfadapter_notify_notices" in answer.read()
