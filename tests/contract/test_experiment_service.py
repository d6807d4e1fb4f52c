"""ExperimentService on a real server, in front of a KFP that replays recordings: codes, reasons and details."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.connecting import connect
from tests.contract.running import failure
from tests.repository.played import placed, played
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter.v1 import common_pb2
from kfadapter.v1 import experiment_pb2 as pb
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceStub
from kfadapter_grpc.services.experiments import ExperimentServicer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve

ID = placed("EXPERIMENT")
LIST = r"/experiments(\?|$)"
ONE = rf"/experiments/{ID}$"


@pytest.fixture
def stub(serve: Serve, kfp: ScriptedKfp) -> Iterator[ExperimentServiceStub]:
    """A stub of the adapter in front of it."""
    backend = connect(kfp.url)
    yield ExperimentServiceStub(serve(ExperimentServicer(backend.experiments)).channel)
    backend.close()


def test_the_life_of_an_experiment(stub: ExperimentServiceStub, kfp: ScriptedKfp) -> None:
    """Create, Get, List, Archive, Unarchive and Delete return what KFP keeps."""
    recorded = "experiments"
    kfp.on("POST", r"/experiments$", played("create", recorded)).on("GET", LIST, played("list by name", recorded))
    kfp.on("GET", ONE, played("archived state", recorded), played("get", recorded))
    kfp.on("POST", ":archive", played("archive", recorded)).on("POST", ":unarchive", played("unarchive", recorded))
    kfp.on("DELETE", ONE, played("delete", recorded), played("delete again", recorded))
    made = stub.Create(pb.CreateExperimentRequest(name="exp", description="실험"))
    assert (made.experiment_id, made.name, made.description) == (ID, "exp", "실험")
    assert made.created_at.ToJsonString() == "2026-01-02T03:04:05Z"
    assert not made.HasField("last_run_created_at")
    assert made.storage_state == common_pb2.STORAGE_STATE_AVAILABLE
    assert stub.Get(pb.GetExperimentRequest(name="exp")) == made
    listed = stub.List(pb.ListExperimentsRequest())
    assert (list(listed.experiments), listed.total_size, listed.next_page_token) == ([made], 1, "")
    archived = stub.Archive(pb.ArchiveExperimentRequest(experiment_id=ID))
    assert archived.storage_state == common_pb2.STORAGE_STATE_ARCHIVED
    assert stub.Unarchive(pb.UnarchiveExperimentRequest(experiment_id=ID)) == made
    assert stub.Delete(pb.DeleteExperimentRequest(experiment_id=ID)).experiment_id == ID
    assert stub.Delete(pb.DeleteExperimentRequest(experiment_id=ID, allow_missing=True)).experiment_id == ""


def test_what_exists_is_reported(stub: ExperimentServiceStub, kfp: ScriptedKfp) -> None:
    """ALREADY_EXISTS / EXPERIMENT_EXISTS names the experiment."""
    kfp.on("POST", r"/experiments$", played("same name again", "experiments"))
    it = failure(lambda: stub.Create(pb.CreateExperimentRequest(name="exp")))
    assert (it.code, it.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXPERIMENT_EXISTS")
    assert (it.resource, it.metadata["name"]) == (("experiment", "exp"), "exp")


def test_what_is_not_there_is_reported(stub: ExperimentServiceStub, kfp: ScriptedKfp) -> None:
    """NOT_FOUND / EXPERIMENT_NOT_FOUND, by id and by name."""
    kfp.on("GET", r"/experiments/", played("get unknown", "experiments")).on("GET", LIST, answers(200, {}))
    for request, named in (
        (pb.GetExperimentRequest(experiment_id=ID), ID),
        (pb.GetExperimentRequest(name="없다"), "없다"),
    ):
        it = failure(lambda request=request: stub.Get(request))  # type: ignore[misc]
        assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")
        assert it.resource == ("experiment", named)


def test_an_ambiguous_name_is_reported(stub: ExperimentServiceStub, kfp: ScriptedKfp) -> None:
    """FAILED_PRECONDITION / AMBIGUOUS_NAME lists the ids to choose from."""
    items = [{"experiment_id": f"id-{number}", "display_name": "exp"} for number in range(2)]
    kfp.on("GET", LIST, answers(200, {"experiments": items, "total_size": 2}))
    it = failure(lambda: stub.Get(pb.GetExperimentRequest(name="exp")))
    assert (it.code, it.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_NAME")
    assert it.metadata["experiment_ids"] == "id-0, id-1"


def test_a_token_belongs_to_its_listing(stub: ExperimentServiceStub, kfp: ScriptedKfp) -> None:
    """A page token used with other filters is INVALID_PAGE_TOKEN, and KFP is not called."""
    item = {"experiment_id": "id-0", "display_name": "exp"}
    kfp.on("GET", LIST, answers(200, {"experiments": [item], "total_size": 2, "next_page_token": "more"}))
    token = stub.List(pb.ListExperimentsRequest(page_size=1)).next_page_token
    asked = len(kfp.requests)
    it = failure(lambda: stub.List(pb.ListExperimentsRequest(page_token=token, name_contains="x")))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    assert len(kfp.requests) == asked
