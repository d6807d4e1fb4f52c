"""The servicer of experiments alone, under grpcio-testing: message in, one repository call, message out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import grpc_testing
import pytest
from grpc import StatusCode

from kfadapter.v1 import common_pb2
from kfadapter.v1 import experiment_pb2 as pb
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import (
    CreateExperimentRequest,
    Experiment,
    ExperimentRef,
    ListExperimentsRequest,
)
from kfadapter_grpc.contract.listing import Order, Page, PageRequest, StorageState
from kfadapter_grpc.services.experiments import ExperimentServicer

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.experiments import Experiments

SERVICE = pb.DESCRIPTOR.services_by_name["ExperimentService"]
ID = "00000000-0000-4000-8000-000000000001"
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EXPERIMENT = Experiment(ID, "실험", "설명", MADE, None, StorageState.ARCHIVED, "team-a")


@dataclass
class FakeRepository:
    """Keeps the arguments of calls, and always returns the same values."""

    asked: list[object] = field(default_factory=list)

    def create(self, request: CreateExperimentRequest, call: Call) -> Experiment:
        """Returns the experiment."""
        self.asked += [request]
        assert call.remaining() > 0
        return EXPERIMENT

    def get(self, ref: ExperimentRef, call: Call) -> Experiment:
        """Returns the experiment."""
        self.asked += [ref]
        assert not call.cancelled
        return EXPERIMENT

    def list(self, where: ListExperimentsRequest, page: PageRequest, call: Call) -> Page[Experiment]:
        """Returns a page that has a next one."""
        self.asked += [where, page]
        assert not call.cancelled
        return Page((EXPERIMENT,), "kfp-token", 450)


@pytest.fixture
def repository() -> FakeRepository:
    """The repository behind the servicer."""
    return FakeRepository()


@pytest.fixture
def server(repository: FakeRepository) -> grpc_testing.Server:
    """The servicer without any interceptor."""
    servicer = ExperimentServicer(cast("Experiments", repository), "from-settings")
    return grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())


def _unary(server: grpc_testing.Server, method: str, request: object) -> object:
    rpc = server.invoke_unary_unary(SERVICE.methods_by_name[method], (), request, 5)
    response, _, code, details = rpc.termination()
    assert code is StatusCode.OK, details
    return response


MESSAGE = pb.Experiment(
    experiment_id=ID,
    name="실험",
    description="설명",
    storage_state=common_pb2.STORAGE_STATE_ARCHIVED,
    namespace="team-a",
)
MESSAGE.created_at.FromDatetime(MADE)


def test_create_passes_everything(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """All fields reach the repository; an unknown time is not set in the response."""
    request = pb.CreateExperimentRequest(name="실험", description="여러\n줄", allow_existing=True, namespace="team-a")
    assert _unary(server, "Create", request) == MESSAGE
    _unary(server, "Create", pb.CreateExperimentRequest(name="x"))
    assert repository.asked == [
        CreateExperimentRequest("실험", "여러\n줄", allow_existing=True, namespace="team-a"),
        CreateExperimentRequest("x", namespace="from-settings"),
    ]


def test_get_by_id_and_by_name(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """An experiment is found by id or by name, in the namespace of the request or else the configured one."""
    assert _unary(server, "Get", pb.GetExperimentRequest(name="실험", namespace="team-b")) == MESSAGE
    assert _unary(server, "Get", pb.GetExperimentRequest(experiment_id=ID)) == MESSAGE
    assert repository.asked == [ExperimentRef("", "실험", "team-b"), ExperimentRef(ID, "", "from-settings")]


def test_list_binds_the_token_to_the_listing(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Filters, size and order reach the repository; its token is only accepted with the same request."""
    request = pb.ListExperimentsRequest(
        page_size=5000, order_by="name", name_contains="이", storage_state=common_pb2.STORAGE_STATE_ARCHIVED
    )
    first = _unary(server, "List", request)
    assert repository.asked == [
        ListExperimentsRequest("이", archived=True, namespace="from-settings", page_size=5000, order_by="name"),
        PageRequest(1000, "", Order("name", descending=False)),
    ]
    assert isinstance(first, pb.ListExperimentsResponse)
    assert (list(first.experiments), first.total_size) == ([MESSAGE], 450)
    request.page_token = first.next_page_token
    _unary(server, "List", request)
    assert repository.asked[-1] == PageRequest(1000, "kfp-token", Order("name", descending=False))


WRONG: dict[str, tuple[str, object, list[str]]] = {
    "all of Create": (
        "Create",
        pb.CreateExperimentRequest(name=" \n", description="설" * 86, namespace="No"),
        ["name", "name", "description", "namespace"],
    ),
    "a long name": ("Create", pb.CreateExperimentRequest(name="x" * 129), ["name"]),
    "a NUL": ("Create", pb.CreateExperimentRequest(name="x", description="a\0b"), ["description"]),
    "nothing named": ("Get", pb.GetExperimentRequest(), ["experiment"]),
    "an empty name": ("Get", pb.GetExperimentRequest(name=""), ["experiment"]),
    "no id": ("Get", pb.GetExperimentRequest(experiment_id="x"), ["experiment_id"]),
    "an empty id": ("Archive", pb.ArchiveExperimentRequest(), ["experiment_id"]),
    "a path": ("Unarchive", pb.UnarchiveExperimentRequest(experiment_id="../x"), ["experiment_id"]),
    "a name as id": ("Delete", pb.DeleteExperimentRequest(experiment_id="exp"), ["experiment_id"]),
    "a size below 0": ("List", pb.ListExperimentsRequest(page_size=-1), ["page_size"]),
    "another order": ("List", pb.ListExperimentsRequest(order_by="description"), ["order_by"]),
    "no such state": ("List", pb.ListExperimentsRequest(storage_state=7), ["storage_state"]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_fields_are_reported(repository: FakeRepository, what: str) -> None:
    """All invalid fields are reported at once, and the repository is not called."""
    method, request, fields = WRONG[what]
    with pytest.raises(InvalidFieldError) as caught:
        getattr(ExperimentServicer(cast("Experiments", repository)), method)(request, _Context())
    assert [violation.field for violation in caught.value.violations] == fields
    assert repository.asked == []


class _Context:
    """Is not used before the request is read."""
