"""The servicer of recurring runs alone, under grpcio-testing: message in, one repository call, message out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

import grpc_testing
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc import StatusCode

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import Order, Page, PageRequest
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.recurring_runs import (
    CreateRecurringRunRequest,
    CronSchedule,
    IntervalSchedule,
    ListRecurringRunsRequest,
    RecurringRun,
)
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.recurring_runs import RecurringRuns

SERVICE = pb.DESCRIPTOR.services_by_name["RecurringRunService"]
ID = "00000000-0000-4000-8000-000000000001"
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LATER = datetime(2027, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
RECURRING = RecurringRun(
    ID,
    "매일",
    enabled=True,
    schedule=CronSchedule("0 0 4 * * *", MADE, LATER),
    max_concurrency=3,
    catch_up=True,
    pipeline_id="p-id",
    pipeline_version_id="v-id",
    experiment_id="e-id",
    parameters={"n": 7, "text": "7", "deep": {"list": [1, None, True]}},
    description="설명",
    created_at=MADE,
    updated_at=LATER,
    namespace="team-a",
    service_account="runner",
    error="것",
    ended=True,
    computed_next_start_at=LATER,
)
SHOWN = {
    "recurring_run_id": ID,
    "display_name": "매일",
    "enabled": True,
    "cron": {"cron": "0 0 4 * * *", "start_at": "2026-01-02T03:04:05Z", "end_at": "2027-01-02T03:04:05Z"},
    "max_concurrency": 3,
    "catch_up": True,
    "pipeline_id": "p-id",
    "pipeline_version_id": "v-id",
    "experiment_id": "e-id",
    "parameters": {"n": 7.0, "text": "7", "deep": {"list": [1.0, None, True]}},
    "description": "설명",
    "created_at": "2026-01-02T03:04:05Z",
    "updated_at": "2027-01-02T03:04:05Z",
    "namespace": "team-a",
    "service_account": "runner",
    "error": "것",
    "ended": True,
    "computed_next_start_at": "2027-01-02T03:04:05Z",
}


@dataclass
class FakeRepository:
    """Keeps the arguments of calls, and always returns the same values."""

    asked: list[object] = field(default_factory=list)
    item: RecurringRun = RECURRING

    def create(self, request: CreateRecurringRunRequest, call: Call) -> RecurringRun:
        """Returns the recurring run."""
        self.asked += [request]
        assert call.remaining() > 0
        return self.item

    def get(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Returns the recurring run."""
        self.asked += ["get", recurring_run_id]
        assert not call.cancelled
        return self.item

    def list(self, where: ListRecurringRunsRequest, page: PageRequest, call: Call) -> Page[RecurringRun]:
        """Returns a page that has a next one."""
        self.asked += [where, page]
        assert not call.cancelled
        return Page((self.item,), "kfp-token", 450)


@pytest.fixture
def repository() -> FakeRepository:
    """The repository behind the servicer."""
    return FakeRepository()


@pytest.fixture
def server(repository: FakeRepository) -> grpc_testing.Server:
    """The servicer without any interceptor."""
    servicer = RecurringRunServicer(cast("RecurringRuns", repository), "from-settings")
    return grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())


def _unary(server: grpc_testing.Server, method: str, request: object) -> object:
    rpc = server.invoke_unary_unary(SERVICE.methods_by_name[method], (), request, 5)
    response, _, code, details = rpc.termination()
    assert code is StatusCode.OK, details
    return response


def _shown(response: object) -> object:
    return MessageToDict(response, preserving_proto_field_name=True)  # type: ignore[arg-type]


def _request(**fields: object) -> pb.CreateRecurringRunRequest:
    return ParseDict(fields, pb.CreateRecurringRunRequest())


def test_create_passes_everything(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """All fields reach the repository, and are returned unchanged."""
    request = _request(
        pipeline_name="학습",
        version_name="2",
        experiment_id=ID,
        cron={"cron": " 0 0  4 * * *", "start_at": "2026-01-02T03:04:05Z", "end_at": "2027-01-02T03:04:05Z"},
        parameters={"n": 7, "deep": {"list": [1, None]}},
        display_name="매일",
        description="설명",
        max_concurrency=10,
        catch_up=True,
        disabled=True,
        service_account="runner",
        namespace="team-a",
    )
    assert _shown(_unary(server, "Create", request)) == SHOWN
    assert repository.asked == [
        CreateRecurringRunRequest(
            PipelineRef(name="학습", namespace="team-a"),
            CronSchedule("0 0 4 * * *", MADE, LATER),
            VersionRef(name="2"),
            ExperimentRef(ID, namespace="team-a"),
            {"n": 7.0, "deep": {"list": [1.0, None]}},
            "매일",
            "설명",
            10,
            catch_up=True,
            disabled=True,
            service_account="runner",
            namespace="team-a",
        )
    ]


def test_create_has_defaults(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Defaults: latest version, default experiment, one concurrent run, enabled, the configured namespace."""
    repository.item = RecurringRun(ID, schedule=IntervalSchedule(timedelta(seconds=90)))
    shown = _shown(_unary(server, "Create", _request(pipeline_id=ID, interval={"interval": "90s"})))
    assert shown == {"recurring_run_id": ID, "interval": {"interval": "90s"}}
    pipeline = PipelineRef(ID, namespace="from-settings")
    schedule = IntervalSchedule(timedelta(seconds=90))
    assert repository.asked == [CreateRecurringRunRequest(pipeline, schedule, namespace="from-settings")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("0 4 * * *", "0 0 4 * * *"), ("*/5 * * * 1-5", "0 */5 * * * 1-5"), ("@daily", "@daily"), ("1 2 3 4 5 6",) * 2],
)
def test_five_fields_are_those_of_crontab(
    server: grpc_testing.Server, repository: FakeRepository, given: str, kept: str
) -> None:
    """KFP would read the minute as the second, so a second is added; six fields and descriptors are unchanged."""
    _unary(server, "Create", _request(pipeline_id=ID, cron={"cron": given}))
    (asked,) = repository.asked
    assert isinstance(asked, CreateRecurringRunRequest)
    assert asked.schedule == CronSchedule(kept)


def test_one_without_schedule_is_shown(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """A recurring run without a schedule, which KFP may hold, is returned without one."""
    repository.item = RecurringRun(ID)
    response = _unary(server, "Get", pb.GetRecurringRunRequest(recurring_run_id=ID))
    assert isinstance(response, pb.RecurringRun)
    assert response.WhichOneof("schedule") is None


def test_list_binds_the_token_to_the_listing(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Experiment, size and order reach the repository; its token is only accepted with the same request."""
    request = pb.ListRecurringRunsRequest(page_size=5000, order_by="display_name", experiment_name="실험")
    first = _unary(server, "List", request)
    order = Order("display_name", descending=False)
    experiment = ExperimentRef(name="실험", namespace="from-settings")
    where = ListRecurringRunsRequest(experiment, "from-settings", page_size=5000, order_by="display_name")
    assert repository.asked == [where, PageRequest(1000, "", order)]
    assert isinstance(first, pb.ListRecurringRunsResponse)
    assert ([_shown(item) for item in first.recurring_runs], first.total_size) == ([SHOWN], 450)
    request.page_token = first.next_page_token
    _unary(server, "List", request)
    assert repository.asked[-1] == PageRequest(1000, "kfp-token", order)


CRON = {"cron": "0 0 4 * * *"}
WRONG: dict[str, tuple[dict[str, object], list[str]]] = {
    "everything": (
        {"display_name": "이" * 86, "description": "\0", "max_concurrency": 11, "namespace": "No"},
        ["pipeline", "schedule", "display_name", "description", "max_concurrency", "namespace"],
    ),
    "below one": ({"pipeline_id": ID, "cron": CRON, "max_concurrency": -1}, ["max_concurrency"]),
    "empty names": (
        {"pipeline_name": "", "version_name": "", "experiment_name": "", "cron": CRON},
        ["pipeline", "version", "experiment"],
    ),
    "no ids": (
        {"pipeline_id": "p", "pipeline_version_id": "v", "experiment_id": "e", "cron": CRON},
        ["pipeline_id", "pipeline_version_id", "experiment_id"],
    ),
    "a blank name": ({"pipeline_id": ID, "cron": CRON, "display_name": " "}, ["display_name"]),
    "four fields": ({"pipeline_id": ID, "cron": {"cron": "0 4 * *"}}, ["cron.cron"]),
    "seven fields": ({"pipeline_id": ID, "cron": {"cron": "0 0 4 * * * 2027"}}, ["cron.cron"]),
    "no fields": ({"pipeline_id": ID, "cron": {}}, ["cron.cron"]),
    "a cron without end": ({"pipeline_id": ID, "cron": {"cron": "0 " * 5 + "1," * 100}}, ["cron.cron"]),
    "no interval": ({"pipeline_id": ID, "interval": {}}, ["interval.interval"]),
    "below a second": ({"pipeline_id": ID, "interval": {"interval": "0.5s"}}, ["interval.interval"]),
    "a part of a second": ({"pipeline_id": ID, "interval": {"interval": "90.5s"}}, ["interval.interval"]),
    "backwards": ({"pipeline_id": ID, "interval": {"interval": "-60s"}}, ["interval.interval"]),
    "a thousand years": ({"pipeline_id": ID, "interval": {"interval": "31557600000s"}}, ["interval.interval"]),
    "before all times": ({"pipeline_id": ID, "cron": {**CRON, "start_at": "1969-01-01T00:00:00Z"}}, ["cron.start_at"]),
    "an end before the start": (
        {"pipeline_id": ID, "cron": {**CRON, "start_at": "2027-01-01T00:00:00Z", "end_at": "2026-01-01T00:00:00Z"}},
        ["cron.end_at"],
    ),
    "an end at the start": (
        {
            "pipeline_id": ID,
            "interval": {"interval": "60s", "start_at": "2027-01-01T00:00:00Z", "end_at": "2027-01-01T00:00:00Z"},
        },
        ["interval.end_at"],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_fields_are_reported(repository: FakeRepository, what: str) -> None:
    """All invalid fields are reported at once, and the repository is not called."""
    fields, violations = WRONG[what]
    with pytest.raises(InvalidFieldError) as caught:
        RecurringRunServicer(cast("RecurringRuns", repository)).Create(_request(**fields), None)
    assert [violation.field for violation in caught.value.violations] == violations
    assert repository.asked == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_reported(repository: FakeRepository, number: float) -> None:
    """Numbers in a Struct that JSON does not have are rejected."""
    request = _request(pipeline_id=ID, cron=CRON)
    request.parameters.fields["x"].number_value = number
    with pytest.raises(InvalidFieldError) as caught:
        RecurringRunServicer(cast("RecurringRuns", repository)).Create(request, None)
    assert [violation.field for violation in caught.value.violations] == ["parameters.x"]
