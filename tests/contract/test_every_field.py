"""Everything that KFP returns for a run, a recurring run or an experiment arrives, each value in its own field."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict
from tests.connecting import connect
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter.v1 import experiment_pb2, recurring_run_pb2, run_pb2
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceStub
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.services.experiments import ExperimentServicer
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from tests.contract.conftest import Serve

ID = "11111111-1111-4111-8111-111111111111"
PIPELINE, VERSION, EXPERIMENT, RECURRING = (ID.replace("1", digit) for digit in "2345")
RUN: dict[str, object] = {
    "run_id": ID,
    "display_name": "첫 실행",
    "description": "무엇을 위한 것인지",
    "experiment_id": EXPERIMENT,
    "pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION},
    "runtime_config": {"parameters": {"값": [1, "둘"]}},
    "service_account": "runner",
    "recurring_run_id": RECURRING,
    "storage_state": "ARCHIVED",
    "state": "RUNNING",
    "created_at": "2026-01-01T00:00:01Z",
    "scheduled_at": "2026-01-01T00:00:02Z",
    "state_history": [{"update_time": "2026-01-01T00:00:04Z", "state": "RUNNING"}],
}


def test_a_run(serve: Serve) -> None:
    """A scheduled run that is executing."""
    with ScriptedKfp() as kfp, contextlib.closing(connect(kfp.url)) as backend:
        kfp.on("GET", f"/runs/{ID}$", answers(200, RUN)).on("GET", "", answers(404, {}))
        stub = RunServiceStub(
            serve(RunServicer(backend.runs, watches=WatchPoller(backend.runs), logs=backend.run_logs)).channel
        )
        found = as_json(stub.Get(run_pb2.GetRunRequest(run_id=ID)))
    assert found.pop("etag")
    assert found == {
        "run_id": ID,
        "display_name": "첫 실행",
        "description": "무엇을 위한 것인지",
        "experiment_id": EXPERIMENT,
        "pipeline_id": PIPELINE,
        "pipeline_version_id": VERSION,
        "parameters": {"값": [1.0, "둘"]},
        "service_account": "runner",
        "recurring_run_id": RECURRING,
        "storage_state": "STORAGE_STATE_ARCHIVED",
        "state": "RUN_STATE_RUNNING",
        "created_at": "2026-01-01T00:00:01Z",
        "scheduled_at": "2026-01-01T00:00:02Z",
        "state_history": [{"at": "2026-01-01T00:00:04Z", "state": "RUN_STATE_RUNNING"}],
    }


def test_an_etag_names_the_states_of_tasks(serve: Serve) -> None:
    """The etag changes with a task's state, even if nothing else of the run changes."""
    etags = set()
    with ScriptedKfp() as kfp, contextlib.closing(connect(kfp.url)) as backend:
        runs = ({**RUN, "run_details": {"task_details": [task(state)]}} for state in ("PENDING", "RUNNING", "FAILED"))
        kfp.on("GET", f"/runs/{ID}$", *(answers(200, one) for one in runs)).on("GET", "", answers(404, {}))
        stub = RunServiceStub(
            serve(RunServicer(backend.runs, watches=WatchPoller(backend.runs), logs=backend.run_logs)).channel
        )
        for _ in range(3):
            etags.add(stub.Get(run_pb2.GetRunRequest(run_id=ID)).etag)
    assert len(etags) == 3


def task(state: str) -> dict[str, str]:
    """A task as KFP lists it."""
    return {"display_name": "train", "task_id": "t", "state": state, "start_time": "2026-01-01T00:00:03Z"}


def test_a_recurring_run(serve: Serve) -> None:
    """An enabled recurring run, with a schedule that has a start and an end."""
    job = {
        "recurring_run_id": ID,
        "display_name": "날마다",
        "description": "무엇을 위한 것인지",
        "experiment_id": EXPERIMENT,
        "pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION},
        "runtime_config": {"parameters": {"값": 1}},
        "service_account": "runner",
        "mode": "ENABLE",
        "status": "ENABLED",
        "max_concurrency": "3",
        "no_catchup": False,
        "namespace": "team",
        "created_at": "2026-01-01T00:00:01Z",
        "updated_at": "2026-01-01T00:00:02Z",
        "trigger": {
            "cron_schedule": {
                "cron": "0 0 4 * * *",
                "start_time": "2026-01-01T00:00:03Z",
                "end_time": "2036-01-01T00:00:04Z",
            }
        },
    }
    with ScriptedKfp() as kfp, contextlib.closing(connect(kfp.url)) as backend:
        kfp.on("GET", f"/recurringruns/{ID}$", answers(200, job)).on("GET", "", answers(404, {}))
        stub = RecurringRunServiceStub(serve(RecurringRunServicer(backend.recurring_runs)).channel)
        found = as_json(stub.Get(recurring_run_pb2.GetRecurringRunRequest(recurring_run_id=ID)))
    found.pop("computed_next_start_at", None)
    assert found == {
        "recurring_run_id": ID,
        "display_name": "날마다",
        "description": "무엇을 위한 것인지",
        "experiment_id": EXPERIMENT,
        "pipeline_id": PIPELINE,
        "pipeline_version_id": VERSION,
        "parameters": {"값": 1.0},
        "service_account": "runner",
        "enabled": True,
        "max_concurrency": 3,
        "catch_up": True,
        "namespace": "team",
        "created_at": "2026-01-01T00:00:01Z",
        "updated_at": "2026-01-01T00:00:02Z",
        "cron": {"cron": "0 0 4 * * *", "start_at": "2026-01-01T00:00:03Z", "end_at": "2036-01-01T00:00:04Z"},
    }


def test_an_experiment(serve: Serve) -> None:
    """An archived experiment, in a namespace."""
    experiment = {
        "experiment_id": ID,
        "display_name": "실험",
        "description": "무엇을 위한 것인지",
        "namespace": "team",
        "storage_state": "ARCHIVED",
        "created_at": "2026-01-01T00:00:01Z",
        "last_run_created_at": "2026-01-01T00:00:02Z",
    }
    with ScriptedKfp() as kfp, contextlib.closing(connect(kfp.url)) as backend:
        kfp.on("GET", f"/experiments/{ID}$", answers(200, experiment))
        stub = ExperimentServiceStub(serve(ExperimentServicer(backend.experiments)).channel)
        found = as_json(stub.Get(experiment_pb2.GetExperimentRequest(experiment_id=ID)))
    assert found == {
        "experiment_id": ID,
        "name": "실험",
        "description": "무엇을 위한 것인지",
        "namespace": "team",
        "storage_state": "STORAGE_STATE_ARCHIVED",
        "created_at": "2026-01-01T00:00:01Z",
        "last_run_created_at": "2026-01-01T00:00:02Z",
    }


def as_json(message: run_pb2.Run | recurring_run_pb2.RecurringRun | experiment_pb2.Experiment) -> dict[str, object]:
    """All fields of a message that are set."""
    return dict(MessageToDict(message, preserving_proto_field_name=True))
