"""RecurringRunService: the lifecycle of a recurring run, pages, and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import json_format
from tests.conformance.calling import CALL_SECONDS
from tests.contract.running import failure

from kfadapter.v1 import experiment_pb2
from kfadapter.v1 import recurring_run_pb2 as pb

if TYPE_CHECKING:
    from tests.conformance.calling import Api

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
YEARLY = {"cron": {"cron": "0 0 0 1 1 *"}}


def create(api: Api, **fields: Any) -> pb.RecurringRun:  # noqa: ANN401 - fields as JSON has them
    """Creates a recurring run."""
    request = json_format.ParseDict(fields, pb.CreateRecurringRunRequest())
    return api.recurring_runs.Create(request, timeout=CALL_SECONDS)


@pytest.fixture
def experiment(api: Api, name: str) -> str:
    """The name of a new experiment, with a pipeline of that name."""
    api.upload("tests/data/pipelines/hello_world.yaml", name)
    api.experiments.Create(experiment_pb2.CreateExperimentRequest(name=name), timeout=CALL_SECONDS)
    return name


def test_the_life_of_a_recurring_run(api: Api, experiment: str) -> None:
    """It is created as requested, disabled and enabled, and not found after it is deleted."""
    made = create(
        api,
        pipeline_name=experiment,
        experiment_name=experiment,
        display_name="해마다",
        max_concurrency=2,
        parameters={"times": 2},
        **YEARLY,
    )
    run_id = made.recurring_run_id
    assert (made.display_name, made.enabled, made.max_concurrency) == ("해마다", True, 2)
    assert (made.cron.cron, json_format.MessageToDict(made.parameters)) == ("0 0 0 1 1 *", {"times": 2})
    got = api.recurring_runs.Get(pb.GetRecurringRunRequest(recurring_run_id=run_id), timeout=CALL_SECONDS)
    assert (got.recurring_run_id, got.enabled, got.pipeline_id) == (run_id, True, made.pipeline_id)
    for _ in range(2):  # disabling it again is a no-op
        disable = pb.DisableRecurringRunRequest(recurring_run_id=run_id)
        assert not api.recurring_runs.Disable(disable, timeout=CALL_SECONDS).enabled
    assert api.recurring_runs.Enable(
        pb.EnableRecurringRunRequest(recurring_run_id=run_id), timeout=CALL_SECONDS
    ).enabled
    delete = pb.DeleteRecurringRunRequest(recurring_run_id=run_id)
    assert api.recurring_runs.Delete(delete, timeout=CALL_SECONDS).recurring_run_id == run_id
    assert failure(lambda: api.recurring_runs.Delete(delete)).reason == "RECURRING_RUN_NOT_FOUND"
    delete.allow_missing = True
    assert api.recurring_runs.Delete(delete, timeout=CALL_SECONDS).recurring_run_id == ""


def test_pages(api: Api, experiment: str) -> None:
    """Those of an experiment, page by page; a token is valid with its filter only."""
    names = [f"{experiment}-{number}" for number in range(3)]
    for one in names:
        create(api, pipeline_name=experiment, experiment_name=experiment, display_name=one, disabled=True, **YEARLY)
    request, seen = pb.ListRecurringRunsRequest(experiment_name=experiment, page_size=2, order_by="created_at"), []
    page = api.recurring_runs.List(request, timeout=CALL_SECONDS)
    seen += [one.display_name for one in page.recurring_runs]
    request.page_token = page.next_page_token
    seen += [one.display_name for one in api.recurring_runs.List(request, timeout=CALL_SECONDS).recurring_runs]
    assert sorted(seen) == names
    other = pb.ListRecurringRunsRequest(page_token=page.next_page_token)
    assert failure(lambda: api.recurring_runs.List(other)).reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("rpc", ["Get", "Enable", "Disable", "Delete"])
def test_a_recurring_run_that_is_not_there(api: Api, rpc: str) -> None:
    """NOT_FOUND / RECURRING_RUN_NOT_FOUND names the recurring run."""
    request = getattr(pb, f"{rpc}RecurringRunRequest")(recurring_run_id=UNKNOWN_ID)
    reported = failure(lambda: getattr(api.recurring_runs, rpc)(request, timeout=CALL_SECONDS))
    assert (reported.code, reported.reason) == (grpc.StatusCode.NOT_FOUND, "RECURRING_RUN_NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pipeline_name": "absent", **YEARLY}, "PIPELINE_NOT_FOUND"),
        ({"experiment_name": "absent", **YEARLY}, "EXPERIMENT_NOT_FOUND"),
        ({"version_name": "absent", **YEARLY}, "VERSION_NOT_FOUND"),
        ({"parameters": {"times": "둘"}, **YEARLY}, "PARAMETER_TYPE"),
        ({"parameters": {"absent": 1}, **YEARLY}, "PARAMETER_UNKNOWN"),
        ({"cron": {"cron": "never"}}, "INVALID_FIELD"),
        ({"interval": {"interval": "-1s"}}, "INVALID_FIELD"),
        ({}, "INVALID_FIELD"),
    ],
)
def test_what_cannot_be_scheduled(api: Api, experiment: str, fields: dict[str, Any], reason: str) -> None:
    """Each mistake has its reason, and nothing is created."""
    request = {"pipeline_name": experiment, "experiment_name": experiment, **fields}
    assert failure(lambda: create(api, **request)).reason == reason
    everything = pb.ListRecurringRunsRequest(experiment_name=experiment)
    assert not api.recurring_runs.List(everything, timeout=CALL_SECONDS).recurring_runs
