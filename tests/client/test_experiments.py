"""The client's calls for experiments, against a servicer that keeps them in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from typing_extensions import override

from kfadapter.v1 import common_pb2, experiment_pb2_grpc
from kfadapter.v1 import experiment_pb2 as pb
from kfadapter_grpc.client import AmbiguousNameError, Client, InvalidFieldError
from kfadapter_grpc.contract.experiments import Experiment
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.interceptors.errors import wire_status
from kfadapter_grpc.methods import READ_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
ID = "00000000-0000-4000-8000-000000000001"


class FakeExperiments(experiment_pb2_grpc.ExperimentServiceServicer):
    """Responds with one experiment, and keeps its requests and their deadlines."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.seconds: list[float] = []

    @override
    def Create(self, request: pb.CreateExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Creates it."""
        return self._response(request, context)

    @override
    def Get(self, request: pb.GetExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Gets it, unless the name is `two`."""
        if request.name == "two":
            context.abort_with_status(wire_status(AmbiguousNameError("two of them", resource_name="two"), "r-1"))
        return self._response(request, context)

    @override
    def List(self, request: pb.ListExperimentsRequest, context: grpc.ServicerContext) -> pb.ListExperimentsResponse:
        """Lists it on two pages."""
        item = self._response(request, context)
        token = "" if request.page_token else "more"
        return pb.ListExperimentsResponse(experiments=[item], next_page_token=token)

    @override
    def Archive(self, request: pb.ArchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Archives it."""
        return self._response(request, context, common_pb2.STORAGE_STATE_ARCHIVED)

    @override
    def Unarchive(self, request: pb.UnarchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Unarchives it."""
        return self._response(request, context)

    @override
    def Delete(self, request: pb.DeleteExperimentRequest, context: grpc.ServicerContext) -> pb.DeleteExperimentResponse:
        """Deletes it, unless it may be missing."""
        self._response(request, context)
        return pb.DeleteExperimentResponse(experiment_id="" if request.allow_missing else ID)

    def _response(
        self,
        request: Message,
        context: grpc.ServicerContext,
        state: common_pb2.StorageState.ValueType = common_pb2.STORAGE_STATE_AVAILABLE,
    ) -> pb.Experiment:
        self.requests.append(request)
        self.seconds.append(context.time_remaining() or 0)
        item = pb.Experiment(experiment_id=ID, name="실험", description="d", storage_state=state, namespace="team-a")
        item.created_at.FromDatetime(MADE)
        return item


@pytest.fixture
def fake() -> FakeExperiments:
    """The servicer."""
    return FakeExperiments()


@pytest.fixture
def client(connect: type[Client], fake: FakeExperiments) -> Iterator[Client]:
    """A client of a server with it, for the namespace `team-a`."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with connect(f"127.0.0.1:{port}", namespace="team-a") as made:
            yield made
        server.stop(None).wait(10)


AVAILABLE = Experiment(ID, "실험", "d", MADE, None, StorageState.AVAILABLE, "team-a")


def test_create(client: Client, fake: FakeExperiments) -> None:
    """All arguments are sent, the response is typed, and the deadline is that of a write."""
    assert client.experiments.create("실험", description="d", allow_existing=True) == AVAILABLE
    assert fake.requests == [
        pb.CreateExperimentRequest(name="실험", description="d", allow_existing=True, namespace="team-a")
    ]
    assert fake.seconds[0] > READ_SECONDS + 5


def test_get(client: Client, fake: FakeExperiments) -> None:
    """By name or by id, not both; an ambiguous name has its own error class."""
    assert client.experiments.get("실험") == client.experiments.get(experiment_id=ID) == AVAILABLE
    assert fake.requests == [
        pb.GetExperimentRequest(name="실험", namespace="team-a"),
        pb.GetExperimentRequest(experiment_id=ID, namespace="team-a"),
    ]
    with pytest.raises(InvalidFieldError, match="only one of experiment_id and name"):
        client.experiments.get("실험", experiment_id=ID)
    with pytest.raises(AmbiguousNameError, match="two of them"):
        client.experiments.get("two")


def test_list_continues_to_the_end(client: Client, fake: FakeExperiments) -> None:
    """Page after page is requested, with the same filters."""
    assert list(client.experiments.list(name_contains="실", archived=True, order_by="name", page_size=1)) == [
        AVAILABLE,
        AVAILABLE,
    ]
    wanted = pb.ListExperimentsRequest(
        page_size=1,
        order_by="name",
        name_contains="실",
        storage_state=common_pb2.STORAGE_STATE_ARCHIVED,
        namespace="team-a",
    )
    first, second = fake.requests
    assert first == wanted
    wanted.page_token = "more"  # noqa: S105 - no secret
    assert second == wanted


def test_what_changes_is_reported(client: Client) -> None:
    """Archiving returns the experiment in its new state; deleting returns whether it existed."""
    assert client.experiments.archive(ID).storage_state is StorageState.ARCHIVED
    assert client.experiments.unarchive(ID).storage_state is StorageState.AVAILABLE
    assert client.experiments.delete(ID)
    assert not client.experiments.delete(ID, allow_missing=True)
