"""RecurringRunService on a real server, in front of a KFP that replays recordings: codes, reasons and details."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from tests.connecting import connect
from tests.contract.running import failure
from tests.repository.played import PIPELINE, VERSION, placed, played, with_pipeline
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve

ID = placed("RR")
RECORDED = "recurring_runs"
CREATE = r"/recurringruns$"
ONE = rf"/recurringruns/{ID}$"


@pytest.fixture
def stub(serve: Serve, kfp: ScriptedKfp) -> Iterator[RecurringRunServiceStub]:
    """A stub of the adapter in front of it."""
    backend = connect(kfp.url)
    yield RecurringRunServiceStub(serve(RecurringRunServicer(backend.recurring_runs)).channel)
    backend.close()


def daily(**fields: object) -> pb.CreateRecurringRunRequest:
    """A request to run the recorded pipeline daily."""
    wanted = {"pipeline_name": "rec", "cron": {"cron": "0 4 * * *"}, "display_name": "rr", **fields}
    return ParseDict(wanted, pb.CreateRecurringRunRequest())


def test_the_life_of_a_recurring_run(stub: RecurringRunServiceStub, kfp: ScriptedKfp) -> None:
    """Create, Get, List, Disable, Enable and Delete return what KFP keeps."""
    with_pipeline(kfp).on("POST", CREATE, played("create, cron", RECORDED))
    made = stub.Create(daily(parameters={"recipient": "cron"}))
    assert (made.recurring_run_id, made.pipeline_id, made.pipeline_version_id) == (ID, PIPELINE, VERSION)
    assert (made.cron.cron, made.enabled, made.max_concurrency) == ("0 0 4 * * *", True, 1)
    assert dict(made.parameters) == {"recipient": "cron"}
    kfp.on("GET", ONE, *(played(note, RECORDED) for note in ("get", "get disabled", "get")))
    kfp.on("POST", ":disable", played("disable", RECORDED)).on("POST", ":enable", played("enable", RECORDED))
    kfp.on("GET", r"/recurringruns\?", played("list", "kfp-2.5/recurring_runs"))
    assert stub.Get(pb.GetRecurringRunRequest(recurring_run_id=ID)) == made
    assert not stub.Disable(pb.DisableRecurringRunRequest(recurring_run_id=ID)).enabled
    assert stub.Enable(pb.EnableRecurringRunRequest(recurring_run_id=ID)) == made
    listed = stub.List(pb.ListRecurringRunsRequest())
    assert [item.WhichOneof("schedule") for item in listed.recurring_runs] == ["cron", "interval"]
    assert (listed.total_size, listed.next_page_token) == (2, "")
    kfp.on("DELETE", ONE, played("delete", RECORDED), played("delete again", RECORDED))
    assert stub.Delete(pb.DeleteRecurringRunRequest(recurring_run_id=ID)).recurring_run_id == ID
    again = stub.Delete(pb.DeleteRecurringRunRequest(recurring_run_id=ID, allow_missing=True))
    assert again.recurring_run_id == ""


def test_wrong_parameters_are_reported_at_once(stub: RecurringRunServiceStub, kfp: ScriptedKfp) -> None:
    """INVALID_ARGUMENT / PARAMETER_UNKNOWN, with a violation for each one that is wrong."""
    with_pipeline(kfp)
    it = failure(lambda: stub.Create(daily(parameters={"recipient": 7, "recipent": "x"})))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PARAMETER_UNKNOWN")
    assert {name for name, _ in it.violations} == {"parameters.recipient", "parameters.recipent"}
    assert kfp.paths("POST") == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pipeline_name": "absent"}, "PIPELINE_NOT_FOUND"),
        ({"version_name": "absent"}, "VERSION_NOT_FOUND"),
        ({"experiment_name": "absent"}, "EXPERIMENT_NOT_FOUND"),
    ],
)
def test_what_it_needs_must_be_there(
    stub: RecurringRunServiceStub, kfp: ScriptedKfp, fields: dict[str, object], reason: str
) -> None:
    """NOT_FOUND names the missing resource."""
    kfp.on("GET", r"/pipelines/names/absent", played("get unknown name", "pipelines"))
    with_pipeline(kfp).on("GET", r"/versions\?", answers(200, {}))
    it = failure(lambda: stub.Create(daily(**fields)))
    assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, reason)


def test_an_ambiguous_experiment_is_reported(stub: RecurringRunServiceStub, kfp: ScriptedKfp) -> None:
    """FAILED_PRECONDITION / AMBIGUOUS_NAME, for Create and for List."""
    items = [{"experiment_id": f"id-{number}", "display_name": "exp"} for number in range(2)]
    kfp.on("GET", r"/experiments\?", answers(200, {"experiments": items, "total_size": 2}))
    with_pipeline(kfp)
    for it in (
        failure(lambda: stub.Create(daily(experiment_name="exp"))),
        failure(lambda: stub.List(pb.ListRecurringRunsRequest(experiment_name="exp"))),
    ):
        assert (it.code, it.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_NAME")


def test_what_is_not_there_is_reported(stub: RecurringRunServiceStub, kfp: ScriptedKfp) -> None:
    """NOT_FOUND / RECURRING_RUN_NOT_FOUND names it."""
    kfp.on("GET", r"/recurringruns/", played("get unknown", RECORDED))
    it = failure(lambda: stub.Get(pb.GetRecurringRunRequest(recurring_run_id=ID)))
    assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, "RECURRING_RUN_NOT_FOUND")
    assert it.resource == ("recurring run", ID)


def test_a_bad_schedule_is_reported(stub: RecurringRunServiceStub, kfp: ScriptedKfp) -> None:
    """INVALID_ARGUMENT / INVALID_FIELD, from the adapter before KFP is called, or from KFP."""
    with_pipeline(kfp).on("POST", CREATE, played("bad cron", RECORDED))
    for cron in ("bad", "@daily"):
        it = failure(lambda cron=cron: stub.Create(daily(cron={"cron": cron})))  # type: ignore[misc]
        assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert [name for name, _ in it.violations] == ["cron.cron"]
    assert len(kfp.paths("POST")) == 1
