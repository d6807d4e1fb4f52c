"""The commands for recurring runs, with a service that holds one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.cli.conftest import Kfadapter
from tests.client.test_recurring_runs import ID, FakeRecurringRuns

from kfadapter.v1 import pipeline_pb2_grpc, recurring_run_pb2_grpc, run_pb2, run_pb2_grpc
from kfadapter_grpc.client import CronSchedule, IntervalSchedule, RecurringRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.fake_adapter import FakeAdapter

NEXT = datetime(2027, 1, 2, 4, tzinfo=timezone.utc)
LAST = datetime(2026, 12, 31, 23, tzinfo=timezone.utc)
DAILY = RecurringRun(ID, "매일", enabled=True, schedule=CronSchedule("0 0 4 * * *"), computed_next_start_at=NEXT)
ENDED = replace(DAILY, ended=True, computed_next_start_at=None)


class LastRun(run_pb2_grpc.RunServiceServicer):
    """A service with one run of the recurring run."""

    def List(self, request: run_pb2.ListRunsRequest, _context: object) -> run_pb2.ListRunsResponse:  # noqa: N802
        """Returns the run if the request asks for the last run only."""
        assert (request.filter.recurring_run_id, request.page_size, request.order_by) == (ID, 1, "")
        run = run_pb2.Run(run_id=ID, display_name="train-7-1", state=run_pb2.RUN_STATE_FAILED)
        run.scheduled_at.FromDatetime(LAST)
        return run_pb2.ListRunsResponse(runs=[run])


@pytest.fixture
def recurring() -> FakeRecurringRuns:
    """A service with one recurring run."""
    return FakeRecurringRuns()


@pytest.fixture
def kfadapter(fake: FakeAdapter, recurring: FakeRecurringRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has the pipeline `train` and no experiment service."""
    fake.add("train")
    with ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(fake, server)
        recurring_run_pb2_grpc.add_RecurringRunServiceServicer_to_server(recurring, server)
        run_pb2_grpc.add_RunServiceServicer_to_server(LastRun(), server)  # type: ignore[abstract]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Kfadapter(f"127.0.0.1:{port}")
        server.stop(None).wait(10)


@pytest.mark.parametrize(
    ("item", "state"),
    [(DAILY, "enabled"), (ENDED, "ended"), (replace(DAILY, enabled=False, computed_next_start_at=None), "disabled")],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_its_state_and_next_start(
    kfadapter: Kfadapter, recurring: FakeRecurringRuns, item: RecurringRun, state: str
) -> None:
    """The list and the view show whether it is enabled or has ended, and the next start, marked as computed."""
    recurring.item = item
    listed = kfadapter("recurring").out.splitlines()
    assert listed[0].split() == ["NAME", "ID", "STATE", "SCHEDULE", "LAST", "NEXT", "(COMPUTED)"]
    listed = kfadapter("recurring", "-o", "wide").out.splitlines()
    assert f"  {state}  " in listed[1]
    shown = kfadapter("recurring", "show", ID).out
    assert f"{state}\n" in shown
    assert ("2027-01-02" in listed[1], "Next (computed)" in shown) == ((state == "enabled"),) * 2
    record = json.loads(kfadapter("recurring", "show", ID, "-o", "json").out)
    assert record["ended"] is item.ended
    assert record["computed_next_start_at"] == ("2027-01-02T04:00:00Z" if state == "enabled" else None)


@pytest.mark.parametrize(
    ("end_at", "enabled", "follows"),
    [
        (None, True, True),
        (LAST + timedelta(hours=2), True, True),
        (LAST + timedelta(hours=1), True, False),
        (None, False, False),
    ],
)
def test_its_last_start(
    kfadapter: Kfadapter, recurring: FakeRecurringRuns, end_at: datetime | None, *, enabled: bool, follows: bool
) -> None:
    """The list and the view show the last start and its run; an interval without catch-up counts from that start."""
    interval = IntervalSchedule(timedelta(minutes=90), None, end_at)
    recurring.item = replace(DAILY, schedule=interval, computed_next_start_at=None, enabled=enabled)
    listed = kfadapter("recurring", "-o", "wide").out.splitlines()[1]
    shown = kfadapter("recurring", "show", ID).out
    for text in (listed, shown):
        assert "2026-12-31 23:00:00 UTC" in text
        assert ("2027-01-01 00:30:00 UTC" in text) is follows
    assert "  FAILED  train-7-1\n" in shown


def test_references(kfadapter: Kfadapter, recurring: FakeRecurringRuns) -> None:
    """A recurring run is found by its name and the beginning of its id; a similar name is suggested."""
    recurring.item = replace(DAILY, created_at=LAST)
    for text in (ID, "매일", ID[:8]):
        assert kfadapter("recurring", "enable", text, "-o", "name").out == f"{ID}\n"
    assert kfadapter("recurring", "show", "없음").code == 5
    assert "Did you mean '매일'?" in kfadapter("recurring", "show", "매일2").err
    assert kfadapter("recurring", "delete", "없음", "--allow-missing").err == "not found: recurring run 없음\n"


def test_names_stand_beside_ids(kfadapter: Kfadapter, recurring: FakeRecurringRuns, fake: FakeAdapter) -> None:
    """Pipeline, version and experiment are shown by name and id, or by id if the name is unknown."""
    version = fake.versions["train"][0]
    recurring.item = replace(
        DAILY,
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.pipeline_version_id,
        experiment_id="33333333-0000-4000-8000-000000000001",
    )
    shown = kfadapter("recurring", "show", ID).out
    assert f"train ({version.pipeline_id})\n" in shown
    assert f"{version.name} ({version.pipeline_version_id})\n" in shown
    assert "  33333333-0000-4000-8000-000000000001\n" in shown
    assert kfadapter("recurring", "disable", ID).out == "disabled the recurring run '매일'\n"
