"""ExperimentService: the lifecycle of an experiment, pages, and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.calling import CALL_SECONDS
from tests.contract.running import failure

from kfadapter.v1 import common_pb2
from kfadapter.v1 import experiment_pb2 as pb

if TYPE_CHECKING:
    from tests.conformance.calling import Api

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def test_the_life_of_an_experiment(api: Api, name: str) -> None:
    """It is created, found by id and name, archived and unarchived, and not found after it is deleted."""
    made = api.experiments.Create(pb.CreateExperimentRequest(name=name, description="실험"), timeout=CALL_SECONDS)
    experiment_id = made.experiment_id
    assert (made.name, made.description, made.storage_state) == (name, "실험", common_pb2.STORAGE_STATE_AVAILABLE)
    for request in (pb.GetExperimentRequest(name=name), pb.GetExperimentRequest(experiment_id=experiment_id)):
        assert api.experiments.Get(request, timeout=CALL_SECONDS).experiment_id == experiment_id
    archive = pb.ArchiveExperimentRequest(experiment_id=experiment_id)
    for _ in range(2):  # archiving it again is a no-op
        archived = api.experiments.Archive(archive, timeout=CALL_SECONDS)
        assert archived.storage_state == common_pb2.STORAGE_STATE_ARCHIVED
    assert listed(api, name) == []
    assert listed(api, name, storage_state=common_pb2.STORAGE_STATE_ARCHIVED) == [name]
    back = api.experiments.Unarchive(pb.UnarchiveExperimentRequest(experiment_id=experiment_id), timeout=CALL_SECONDS)
    assert back.storage_state == common_pb2.STORAGE_STATE_AVAILABLE
    delete = pb.DeleteExperimentRequest(experiment_id=experiment_id)
    assert api.experiments.Delete(delete, timeout=CALL_SECONDS).experiment_id == experiment_id
    assert failure(lambda: api.experiments.Delete(delete)).reason == "EXPERIMENT_NOT_FOUND"
    delete.allow_missing = True
    assert api.experiments.Delete(delete, timeout=CALL_SECONDS).experiment_id == ""


def listed(api: Api, name: str, **fields: object) -> list[str]:
    """The names of the experiments that contain a text, page by page."""
    request = pb.ListExperimentsRequest(name_contains=name, page_size=1, order_by="name", **fields)  # type: ignore[arg-type]
    names: list[str] = []
    while True:
        page = api.experiments.List(request, timeout=CALL_SECONDS)
        names += [one.name for one in page.experiments]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return names


def test_existing_names(api: Api, name: str) -> None:
    """ALREADY_EXISTS / EXPERIMENT_EXISTS; with allow_existing the existing experiment."""
    made = api.experiments.Create(pb.CreateExperimentRequest(name=name), timeout=CALL_SECONDS)
    reported = failure(lambda: api.experiments.Create(pb.CreateExperimentRequest(name=name)))
    assert (reported.code, reported.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXPERIMENT_EXISTS")
    again = api.experiments.Create(pb.CreateExperimentRequest(name=name, allow_existing=True), timeout=CALL_SECONDS)
    assert again.experiment_id == made.experiment_id


def test_pages(api: Api, name: str) -> None:
    """Pages are in order; a token is valid with its filter only."""
    names = [f"{name}-{number}" for number in range(3)]
    for one in names:
        api.experiments.Create(pb.CreateExperimentRequest(name=one), timeout=CALL_SECONDS)
    assert listed(api, name) == names
    request = pb.ListExperimentsRequest(name_contains=name, page_size=1)
    token = api.experiments.List(request, timeout=CALL_SECONDS).next_page_token
    other = pb.ListExperimentsRequest(name_contains="other", page_token=token)
    assert failure(lambda: api.experiments.List(other)).reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("rpc", ["Get", "Archive", "Unarchive", "Delete"])
def test_an_experiment_that_is_not_there(api: Api, rpc: str) -> None:
    """NOT_FOUND / EXPERIMENT_NOT_FOUND names the experiment."""
    request = getattr(pb, f"{rpc}ExperimentRequest")(experiment_id=UNKNOWN_ID)
    reported = failure(lambda: getattr(api.experiments, rpc)(request, timeout=CALL_SECONDS))
    assert (reported.code, reported.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")
    assert reported.resource == ("experiment", UNKNOWN_ID)


def test_wrong_fields(api: Api) -> None:
    """INVALID_ARGUMENT / INVALID_FIELD names each."""
    for call, request, field in (
        (api.experiments.Create, pb.CreateExperimentRequest(), "name"),
        (api.experiments.Get, pb.GetExperimentRequest(), "experiment"),
        (api.experiments.List, pb.ListExperimentsRequest(page_size=-1), "page_size"),
        (api.experiments.List, pb.ListExperimentsRequest(order_by="colour"), "order_by"),
    ):
        reported = failure(lambda call=call, request=request: call(request, timeout=CALL_SECONDS))  # type: ignore[misc]
        assert (reported.code, reported.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert [one for one, _ in reported.violations] == [field]
