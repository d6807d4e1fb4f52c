"""The client's calls for runs, against a servicer that keeps its requests."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from tests.client.fake_adapter import wire_status
from typing_extensions import override

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1 import run_pb2_grpc
from kfadapter_grpc.client import (
    AdapterError,
    Client,
    InvalidFieldError,
    KfpError,
    KfpUnavailableError,
    ParameterTypeError,
    RunState,
)
from kfadapter_grpc.contract.runs import run_id_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

ID = "00000000-0000-4000-8000-000000000001"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class FakeRuns(run_pb2_grpc.RunServiceServicer):
    """Responds with one run, after some failures, and keeps its requests."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.failures: list[AdapterError] = []
        self.seconds = 0.0

    @override
    def Create(self, request: pb.CreateRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Starts it."""
        return self._response(request, context)

    @override
    def Get(self, request: pb.GetRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Gets it."""
        return self._response(request, context)

    @override
    def List(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:
        """Lists it on two pages."""
        token = "" if request.page_token else "more"
        return pb.ListRunsResponse(runs=[self._response(request, context)], next_page_token=token)

    @override
    def Terminate(self, request: pb.TerminateRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Terminates it."""
        return self._response(request, context)

    @override
    def Retry(self, request: pb.RetryRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Retries it."""
        return self._response(request, context)

    @override
    def Archive(self, request: pb.ArchiveRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Archives it."""
        return self._response(request, context)

    @override
    def Unarchive(self, request: pb.UnarchiveRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Unarchives it."""
        return self._response(request, context)

    @override
    def Delete(self, request: pb.DeleteRunRequest, context: grpc.ServicerContext) -> pb.DeleteRunResponse:
        """Deletes it, unless it may be missing."""
        self._response(request, context)
        return pb.DeleteRunResponse(run_id="" if request.allow_missing else ID)

    @override
    def Watch(self, request: pb.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[pb.RunEvent]:
        """Reports it."""
        yield pb.RunEvent(changed=pb.RunChanged(run=self._response(request, context)))

    @override
    def ReadLogs(self, request: pb.ReadLogsRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadLogsResponse]:
        """Returns its id as the log."""
        yield pb.ReadLogsResponse(chunk=self._response(request, context).run_id.encode())

    def _response(self, request: Message, context: grpc.ServicerContext) -> pb.Run:
        self.requests.append(request)
        self.seconds = context.time_remaining() or math.inf
        if self.failures:
            context.abort_with_status(wire_status(self.failures.pop(0)))
        return pb.Run(run_id=ID)

    @property
    def asked(self) -> dict[str, object]:
        """The fields of the last request."""
        return MessageToDict(self.requests[-1], preserving_proto_field_name=True)


@pytest.fixture
def fake() -> FakeRuns:
    """The servicer."""
    return FakeRuns()


@pytest.fixture
def client(connect: type[Client], fake: FakeRuns) -> Iterator[Client]:
    """A client of a server with it, for the namespace `team-a`."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        run_pb2_grpc.add_RunServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with connect(f"127.0.0.1:{port}", namespace="team-a") as made:
            yield made
        server.stop(None).wait(10)


def test_everything_is_sent(client: Client, fake: FakeRuns) -> None:
    """Each argument has its field in the request; tuples are lists."""
    client.runs.create(
        pipeline_id=ID,
        version_name="2",
        experiment_name="실험",
        create_experiment=True,
        parameters={"n": 7, "xs": (1, [{"a": (True, None)}])},
        display_name="이름",
        description="설명",
        labels={"a": "b"},
        request_id="r-1",
        validate_only=True,
        caching=False,
        service_account="trainer",
    )
    assert fake.asked == {
        "pipeline_id": ID,
        "version_name": "2",
        "experiment_name": "실험",
        "create_experiment": True,
        "parameters": {"n": 7.0, "xs": [1.0, [{"a": [True, None]}]]},
        "display_name": "이름",
        "description": "설명",
        "labels": {"a": "b"},
        "request_id": "r-1",
        "validate_only": True,
        "caching_enabled": False,
        "service_account": "trainer",
        "namespace": "team-a",
    }


def test_a_request_id_is_made(client: Client, fake: FakeRuns) -> None:
    """Each call gets a new request id, but validate_only gets none."""
    client.runs.create("p")
    client.runs.create("p")
    client.runs.create("p", validate_only=True)
    ids = [request.request_id for request in fake.requests if isinstance(request, pb.CreateRunRequest)]
    assert len(set(ids)) == 3
    assert ids[2] == ""
    assert "caching_enabled" not in fake.asked


def test_an_unknown_outcome_is_repeated_under_the_same_request_id(client: Client, fake: FakeRuns) -> None:
    """A call of unknown outcome is retried with the same request id, at most twice."""
    fake.failures = [KfpUnavailableError("away", retry_after=0.0) for _ in range(2)]
    assert client.runs.create("p").run_id == ID
    assert len({str(request) for request in fake.requests}) == 1
    assert len(fake.requests) == 3
    fake.failures = [KfpUnavailableError("away", retry_after=0.0) for _ in range(3)]
    with pytest.raises(KfpUnavailableError):
        client.runs.create("p")
    assert len(fake.requests) == 6


def test_other_failures_are_not_repeated(client: Client, fake: FakeRuns) -> None:
    """An error reported by KFP is not retried."""
    fake.failures = [KfpError("boom")]
    with pytest.raises(KfpError):
        client.runs.create("p")
    assert len(fake.requests) == 1


def test_all_pages(client: Client, fake: FakeRuns) -> None:
    """A listing requests page after page with the same filter."""
    states = (state for state in (RunState.FAILED,))
    found = client.runs.list(
        experiment_id=ID,
        states=states,
        created_after=AT,
        finished_after=AT,
        display_name_contains="x",
        labels={"a": "b"},
        pipeline_id=ID,
        pipeline_version_id=ID,
        archived=True,
        order_by="run_id",
        page_size=1,
    )
    assert [run.run_id for run in found] == [ID, ID]
    assert fake.asked == {
        "page_size": 1,
        "page_token": "more",
        "order_by": "run_id",
        "filter": {
            "experiment_id": ID,
            "states": ["RUN_STATE_FAILED"],
            "created_after": "2026-01-02T03:04:05Z",
            "finished_after": "2026-01-02T03:04:05Z",
            "display_name_contains": "x",
            "labels": {"a": "b"},
            "pipeline_id": ID,
            "pipeline_version_id": ID,
            "storage_state": "STORAGE_STATE_ARCHIVED",
            "namespace": "team-a",
        },
    }


def test_calls_about_one_run(client: Client, fake: FakeRuns) -> None:
    """Each method calls its own RPC for the run."""
    for call in (client.runs.retry, client.runs.archive, client.runs.unarchive):
        assert call(ID).run_id == ID
    assert client.runs.delete(ID) is True
    assert client.runs.delete(ID, allow_missing=True) is False
    kinds = [type(request).__name__ for request in fake.requests]
    verbs = ("Retry", "Archive", "Unarchive", "Delete", "Delete")
    assert kinds == [f"{verb}RunRequest" for verb in verbs]


def test_a_wait_has_time(client: Client, fake: FakeRuns) -> None:
    """The deadline is longer than the requested wait."""
    client.runs.terminate(ID, wait=600)
    assert fake.asked == {"run_id": ID, "wait": "600s"}
    assert fake.seconds > 600
    client.runs.terminate(ID)
    assert fake.asked == {"run_id": ID}


@pytest.mark.parametrize(
    "given",
    [
        {"pipeline_name": "p", "pipeline_id": ID},
        {"pipeline_name": "p", "version_name": "1", "pipeline_version_id": ID},
        {"pipeline_name": "p", "experiment_name": "e", "experiment_id": ID},
    ],
)
def test_only_one_name_of_a_thing(client: Client, fake: FakeRuns, given: dict[str, str]) -> None:
    """Two names for one resource are INVALID_FIELD, before anything is sent."""
    with pytest.raises(InvalidFieldError):
        client.runs.create(**given)  # type: ignore[arg-type]
    assert fake.requests == []


@pytest.mark.parametrize("value", [AT, {1, 2}, b"x", [object()], {"a": AT}])
def test_what_is_no_json(client: Client, fake: FakeRuns, value: object) -> None:
    """A value that is not JSON is PARAMETER_TYPE with the parameter's name, before anything is sent."""
    with pytest.raises(ParameterTypeError, match=r"parameters\.x"):
        client.runs.create("p", parameters={"x": value})  # type: ignore[dict-item]
    assert fake.requests == []


def test_the_id_of_a_run(client: Client) -> None:
    """The id of a run is derived from the request id and the namespace."""
    assert client.runs.id_for("r") == run_id_for("r", "team-a")
    assert client.runs.id_for("r", namespace="team-b") == run_id_for("r", "team-b")
