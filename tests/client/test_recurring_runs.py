"""The client's calls for recurring runs, against a servicer that keeps its requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from typing_extensions import override

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter.v1 import recurring_run_pb2_grpc
from kfadapter_grpc.client import Client, CronSchedule, IntervalSchedule, InvalidFieldError, RecurringRun
from kfadapter_grpc.codec import to_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
ID = "00000000-0000-4000-8000-000000000001"
RECURRING = RecurringRun(
    ID,
    "매일",
    enabled=True,
    schedule=CronSchedule("0 0 4 * * *", MADE),
    max_concurrency=3,
    parameters={"n": 7, "half": 0.5, "text": "7", "deep": {"list": [1, None, True]}},
    created_at=MADE,
    namespace="team-a",
    ended=True,
    computed_next_start_at=MADE,
)


class FakeRecurringRuns(recurring_run_pb2_grpc.RecurringRunServiceServicer):
    """Responds with one recurring run, and keeps its requests."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.item = RECURRING

    @override
    def Create(self, request: pb.CreateRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Creates it."""
        return self._response(request)

    @override
    def Get(self, request: pb.GetRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Gets it."""
        return self._response(request)

    @override
    def List(self, request: pb.ListRecurringRunsRequest, context: grpc.ServicerContext) -> pb.ListRecurringRunsResponse:
        """Lists it on two pages."""
        token = "" if request.page_token else "more"
        return pb.ListRecurringRunsResponse(recurring_runs=[self._response(request)], next_page_token=token)

    @override
    def Enable(self, request: pb.EnableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Enables it."""
        return self._response(request)

    @override
    def Disable(self, request: pb.DisableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Disables it."""
        return self._response(request)

    @override
    def Delete(
        self, request: pb.DeleteRecurringRunRequest, context: grpc.ServicerContext
    ) -> pb.DeleteRecurringRunResponse:
        """Deletes it, unless it may be missing."""
        self._response(request)
        return pb.DeleteRecurringRunResponse(recurring_run_id="" if request.allow_missing else ID)

    def _response(self, request: Message) -> pb.RecurringRun:
        self.requests.append(request)
        return to_message(self.item, pb.RecurringRun)


@pytest.fixture
def fake() -> FakeRecurringRuns:
    """The servicer."""
    return FakeRecurringRuns()


@pytest.fixture
def client(connect: type[Client], fake: FakeRecurringRuns) -> Iterator[Client]:
    """A client of a server with it, for the namespace `team-a`."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        recurring_run_pb2_grpc.add_RecurringRunServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with connect(f"127.0.0.1:{port}", namespace="team-a") as made:
            yield made
        server.stop(None).wait(10)


def _asked(fake: FakeRecurringRuns) -> list[object]:
    return [MessageToDict(request, preserving_proto_field_name=True) for request in fake.requests]


def test_create(client: Client, fake: FakeRecurringRuns) -> None:
    """All arguments are sent; in the response, whole numbers are ints again."""
    made = client.recurring_runs.create(
        "학습",
        version_name="2",
        experiment_id=ID,
        schedule=CronSchedule("0 0 4 * * *", MADE, MADE + timedelta(days=1)),
        parameters={"n": 7, "deep": {"list": [1, None]}},
        display_name="매일",
        description="설명",
        max_concurrency=3,
        catch_up=True,
        enabled=False,
        service_account="runner",
    )
    assert (made, repr(made.parameters["n"])) == (RECURRING, "7")
    assert _asked(fake) == [
        {
            "pipeline_name": "학습",
            "version_name": "2",
            "experiment_id": ID,
            "cron": {"cron": "0 0 4 * * *", "start_at": "2026-01-02T03:04:05Z", "end_at": "2026-01-03T03:04:05Z"},
            "parameters": {"n": 7.0, "deep": {"list": [1.0, None]}},
            "display_name": "매일",
            "description": "설명",
            "max_concurrency": 3,
            "catch_up": True,
            "disabled": True,
            "service_account": "runner",
            "namespace": "team-a",
        }
    ]


def test_an_interval(client: Client, fake: FakeRecurringRuns) -> None:
    """An interval is returned as it was sent."""
    schedule = IntervalSchedule(timedelta(days=1, seconds=30), end_at=MADE)
    fake.item = RecurringRun(ID, schedule=schedule)
    assert client.recurring_runs.create(pipeline_id=ID, schedule=schedule) == RecurringRun(ID, schedule=schedule)
    assert _asked(fake) == [
        {
            "pipeline_id": ID,
            "interval": {"interval": "86430s", "end_at": "2026-01-02T03:04:05Z"},
            "max_concurrency": 1,
            "namespace": "team-a",
        }
    ]


def test_what_the_wire_cannot_hold(client: Client, fake: FakeRecurringRuns) -> None:
    """Two names for one resource and times out of range are rejected before anything is sent."""
    daily = CronSchedule("@daily")
    early = CronSchedule("@daily", datetime.min.replace(tzinfo=timezone(timedelta(hours=9))))
    with pytest.raises(InvalidFieldError, match="only one of pipeline_id and pipeline_name"):
        client.recurring_runs.create("x", pipeline_id=ID, schedule=daily)
    with pytest.raises(InvalidFieldError, match="only one of experiment_id and experiment_name"):
        client.recurring_runs.list(experiment_name="x", experiment_id=ID).page()
    with pytest.raises(InvalidFieldError, match="start_at"):
        client.recurring_runs.create("x", schedule=early)
    assert fake.requests == []


def test_list_continues_to_the_end(client: Client, fake: FakeRecurringRuns) -> None:
    """Page after page is requested, with the same filters."""
    listed = client.recurring_runs.list(experiment_name="실험", order_by="display_name", page_size=1)
    assert list(listed) == [RECURRING, RECURRING]
    wanted = {"page_size": 1, "order_by": "display_name", "experiment_name": "실험", "namespace": "team-a"}
    assert _asked(fake) == [wanted, {**wanted, "page_token": "more"}]


def test_what_is_named_by_id(client: Client, fake: FakeRecurringRuns) -> None:
    """Get, Enable and Disable return the recurring run; Delete returns whether it existed."""
    assert client.recurring_runs.get(ID) == client.recurring_runs.enable(ID) == client.recurring_runs.disable(ID)
    assert client.recurring_runs.delete(ID)
    assert not client.recurring_runs.delete(ID, allow_missing=True)
    assert [type(request).__name__ for request in fake.requests] == [
        "GetRecurringRunRequest",
        "EnableRecurringRunRequest",
        "DisableRecurringRunRequest",
        "DeleteRecurringRunRequest",
        "DeleteRecurringRunRequest",
    ]


def test_one_without_schedule(client: Client, fake: FakeRecurringRuns) -> None:
    """KFP may keep a recurring run without a schedule; the client returns None for it."""
    fake.item = RecurringRun(ID)
    assert client.recurring_runs.get(ID).schedule is None
