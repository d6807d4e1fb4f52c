"""The servicer of runs alone: message in, one repository call, message out; all mistakes are reported at once."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import grpc_testing
import pytest
from google.protobuf.json_format import ParseDict
from grpc import StatusCode

from kfadapter.v1 import run_pb2 as pb
from kfadapter_grpc.codec import read_request, to_record
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
from kfadapter_grpc.contract.runs import (
    CreateRunRequest,
    GetRunRequest,
    ListRunsRequest,
    Run,
    RunFilter,
    RunState,
    RunStateChange,
    RunTask,
    TerminateRunRequest,
)
from kfadapter_grpc.services.responses import message
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.contract.call import Call

SERVICE = pb.DESCRIPTOR.services_by_name["RunService"]
ID = "00000000-0000-4000-8000-000000000001"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LATER = datetime(2027, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TASK = RunTask(
    name="train",
    task_id="t-id",
    state=RunState.FAILED,
    error="ValueError: 모양",
    started_at=AT,
    finished_at=LATER,
    pod_name="pod",
    state_history=(RunStateChange(RunState.RUNNING, AT), RunStateChange(RunState.FAILED, LATER, "x")),
    outputs=(
        RunOutput("loss", 0.5),
        RunOutput("nothing", None),
        RunOutput("list", [1, {"a": "나"}]),
        RunOutput.of("m", RunArtifact("system.Metrics", "s3://m", {"accuracy": 0.9})),
        RunOutput.of("bare", RunArtifact()),
    ),
)
RUN = Run(
    run_id=ID,
    display_name="이름",
    state=RunState.FAILED,
    error="task 'train' failed",
    pipeline_id="p-id",
    pipeline_name="p",
    pipeline_version_id="v-id",
    pipeline_version_name="v",
    experiment_id="e-id",
    experiment_name="e",
    parameters={"n": 7, "half": 0.5, "text": "7", "deep": {"list": [1, None, True]}},
    description="설명",
    labels={"team": "비전"},
    created_at=AT,
    finished_at=LATER,
    scheduled_at=AT,
    state_history=(RunStateChange(RunState.PENDING, AT),),
    tasks=(TASK,),
    service_account="trainer",
    storage_state=StorageState.ARCHIVED,
    recurring_run_id="rr-id",
    etag="etag",
)


@pytest.mark.parametrize("run", [RUN, Run("r"), Run("r", tasks=(RunTask("t"),))])
def test_a_run_goes_over_the_wire_whole(run: Run) -> None:
    """All that the server knows of a run, its tasks and their outputs reaches the client; unset fields stay unset."""
    sent = message(run, pb.Run)
    assert to_record(pb.Run.FromString(sent.SerializeToString()), Run) == run


def test_every_state_has_its_value() -> None:
    """KFP's states map one to one to the contract's."""
    states = {message(Run("r", state=state), pb.Run).state for state in RunState}
    assert states == set(pb.RunState.values())


# --- create -----------------------------------------------------------------------------------------------------


def _create(**fields: object) -> CreateRunRequest:
    message = ParseDict({"pipeline_name": "p", **fields}, pb.CreateRunRequest())
    return read_request(message, CreateRunRequest, "own")


def test_the_least_and_the_most_that_can_be_requested() -> None:
    """Defaults: latest version, default experiment, configured namespace, caching as declared by the tasks."""
    assert _create() == CreateRunRequest(PipelineRef(name="p", namespace="own"), VersionRef(), namespace="own")
    most = _create(
        version_name="2",
        experiment_name="실험",
        parameters={"n": 7, "x": [None, {"a": True}]},
        display_name="이름",
        description="두\n줄",
        labels={"a": "b"},
        request_id="r-1",
        validate_only=True,
        create_experiment=True,
        caching_enabled=False,
        service_account="trainer",
        namespace="team-a",
    )
    assert most == CreateRunRequest(
        pipeline=PipelineRef(name="p", namespace="team-a"),
        version=VersionRef(name="2"),
        experiment=ExperimentRef(name="실험", namespace="team-a"),
        parameters={"n": 7.0, "x": [None, {"a": True}]},
        display_name="이름",
        description="두\n줄",
        labels={"a": "b"},
        request_id="r-1",
        validate_only=True,
        create_experiment=True,
        caching_enabled=False,
        service_account="trainer",
        namespace="team-a",
    )


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no pipeline": ({"pipeline_name": ""}, "pipeline"),
    "empty version": ({"version_name": ""}, "version"),
    "empty experiment": ({"experiment_id": ""}, "experiment"),
    "version id": ({"pipeline_version_id": "2"}, "pipeline_version_id"),
    "experiment id": ({"experiment_id": "Default"}, "experiment_id"),
    "name of 256 bytes": ({"display_name": "가" * 85 + "x"}, "display_name"),
    "name of two lines": ({"display_name": "a\nb"}, "display_name"),
    "description of 256 bytes": ({"description": "가" * 85 + "x"}, "description"),
    "description and labels": ({"description": "x" * 200, "labels": {"k": "v" * 40}}, "description"),
    "labels alone": ({"labels": {"k": "v" * 250}}, "labels"),
    "caching takes room": ({"description": "x" * 200, "caching_enabled": False}, "description"),
    "NUL": ({"description": "a\0b"}, "description"),
    "empty label": ({"labels": {"": "x"}}, "labels"),
    "reserved label": ({"labels": {"_from": "x"}}, "labels"),
    "request id": ({"request_id": "a b"}, "request_id"),
    "long request id": ({"request_id": "a" * 64}, "request_id"),
    "caching asked for": ({"caching_enabled": True}, "caching_enabled"),
    "service account": ({"service_account": "Trainer!"}, "service_account"),
    "namespace": ({"namespace": "Team A"}, "namespace"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str) -> None:
    """An invalid field is INVALID_FIELD, before KFP is called."""
    fields, name = WRONG[case]
    with pytest.raises(InvalidFieldError) as caught:
        _create(**fields)
    assert {violation.field for violation in caught.value.violations} == {name}


@pytest.mark.parametrize(
    "fields",
    [
        {"display_name": "가" * 85},
        {"description": "가" * 85},
        {"description": "x" * 207, "labels": {"k": "v" * 27}},
        {"description": "x" * 188, "caching_enabled": False},
        {"request_id": "a" * 63},
    ],
)
def test_what_just_fits(fields: dict[str, object]) -> None:
    """Values at the limits are accepted; the limits are KFP's, in bytes."""
    assert _create(**fields)


def test_parameters_that_are_not_json() -> None:
    """NaN, which a Struct can carry, is rejected."""
    request = pb.CreateRunRequest(pipeline_name="p")
    request.parameters["x"] = math.nan
    with pytest.raises(InvalidFieldError, match="parameters"):
        read_request(request, CreateRunRequest)


def test_all_violations_are_reported_at_once() -> None:
    """Each invalid field has a violation."""
    with pytest.raises(InvalidFieldError) as caught:
        _create(pipeline_name="", request_id=" ", namespace="!", labels={"": ""})
    reported = {violation.field for violation in caught.value.violations}
    assert reported == {"pipeline", "request_id", "namespace", "labels"}


# --- ids, waits and filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", [ID, "nightly-1", "a:b_c.d", "9"])
def test_ids_of_runs(run_id: str) -> None:
    """Ids other than UUIDs are accepted, as by KFP."""
    assert read_request(pb.GetRunRequest(run_id=run_id), GetRunRequest) == GetRunRequest(run_id)


@pytest.mark.parametrize("run_id", ["", "a/b", ".", "..", "a b", "a?b", "한글", "x" * 300])
def test_what_is_no_id_of_a_run(run_id: str) -> None:
    """An invalid id is INVALID_FIELD; it never becomes part of a URL of KFP."""
    with pytest.raises(InvalidFieldError, match="run_id"):
        read_request(pb.GetRunRequest(run_id=run_id), GetRunRequest)


@pytest.mark.parametrize(("wait", "seconds"), [("0s", 0), ("1.5s", 1.5), ("3600s", 3600)])
def test_how_long_to_wait(wait: str, seconds: float) -> None:
    """A wait of up to an hour is accepted."""
    request = ParseDict({"run_id": ID, "wait": wait}, pb.TerminateRunRequest())
    assert read_request(request, TerminateRunRequest) == TerminateRunRequest(ID, timedelta(seconds=seconds))


@pytest.mark.parametrize("wait", ["-1s", "3601s", "315576000000s"])
def test_how_long_not_to_wait(wait: str) -> None:
    """Any other wait is INVALID_FIELD."""
    with pytest.raises(InvalidFieldError, match="wait"):
        read_request(ParseDict({"run_id": ID, "wait": wait}, pb.TerminateRunRequest()), TerminateRunRequest)


def test_a_filter() -> None:
    """Every field is read; without any, it is all runs of the configured namespace that are not archived."""
    assert read_request(pb.ListRunsRequest(), ListRunsRequest, "own").filter == RunFilter(namespace="own")
    fields = {
        "experiment_id": ID,
        "states": ["RUN_STATE_FAILED", "RUN_STATE_PENDING"],
        "created_after": "2026-01-02T03:04:05Z",
        "finished_after": "2027-01-02T03:04:05Z",
        "display_name_contains": "x",
        "labels": {"a": "b"},
        "pipeline_id": ID,
        "pipeline_version_id": ID,
        "storage_state": "STORAGE_STATE_ARCHIVED",
        "namespace": "team-a",
    }
    assert read_request(
        ParseDict({"filter": fields}, pb.ListRunsRequest()), ListRunsRequest, "own"
    ).filter == RunFilter(
        experiment=ExperimentRef(ID, namespace="team-a"),
        states=frozenset({RunState.FAILED, RunState.PENDING}),
        created_after=AT,
        finished_after=LATER,
        display_name_contains="x",
        labels={"a": "b"},
        pipeline_id=ID,
        pipeline_version_id=ID,
        archived=True,
        namespace="team-a",
    )


def test_a_filter_of_which_everything_is_wrong() -> None:
    """Each invalid field has a violation, with its path in the request."""
    message = pb.RunFilter(
        experiment_id="x",
        states=[pb.RUN_STATE_UNSPECIFIED],
        display_name_contains="a\nb",
        labels={"k": "v" * 300},
        pipeline_id="x",
        pipeline_version_id="x",
        namespace="!",
    )
    message.created_after.seconds = 10**15
    with pytest.raises(InvalidFieldError) as caught:
        read_request(pb.ListRunsRequest(filter=message), ListRunsRequest)
    fields = "experiment_id states display_name_contains labels pipeline_id pipeline_version_id namespace created_after"
    assert {violation.field for violation in caught.value.violations} == {f"filter.{one}" for one in fields.split()}


# --- the servicer -----------------------------------------------------------------------------------------------


class FakeRuns:
    """A repository that has one run, and keeps its requests."""

    def __init__(self) -> None:
        self.waited = -1.0
        self.remaining = 0.0

    def terminate(self, run_id: str, wait_seconds: float, call: Call, seen: Callable[[Run], None]) -> Run:
        """Terminates it."""
        del seen
        self.waited, self.remaining = wait_seconds, call.remaining()
        return Run(run_id, state=RunState.CANCELING)


def test_a_caller_without_deadline_may_wait_longer() -> None:
    """The call's deadline is extended by the wait."""
    runs = FakeRuns()
    servicer = RunServicer(runs, watches=WatchPoller(runs), logs=None)  # type: ignore[arg-type]
    server = grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())
    request = ParseDict({"run_id": ID, "wait": "600s"}, pb.TerminateRunRequest())
    method = server.invoke_unary_unary(SERVICE.methods_by_name["Terminate"], {}, request, None)
    answer, _, code, _ = method.termination()
    assert (answer.state, code, runs.waited) == (pb.RUN_STATE_CANCELING, StatusCode.OK, 600)
    assert runs.remaining > 600
