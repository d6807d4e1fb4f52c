"""Runs, experiments and recurring runs as users of grpcurl create and see them."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.calling import calling
from tests.e2e.test_grpcurl import run as run_grpcurl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conformance.calling import Api
    from tests.e2e.conftest import Adapter


@pytest.fixture
def name() -> str:
    """A unique name."""
    return f"grpcurl-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def caller(executing: Adapter) -> Iterator[Api]:
    """Calls the same adapter with stubs, for waiting only."""
    with calling(executing.target) as made:
        yield made


@pytest.fixture(scope="module")
def call(grpcurl: str, executing: Adapter) -> Callable[..., dict[str, Any]]:
    """Makes a call that must succeed."""

    def ask(method: str, **request: object) -> dict[str, Any]:
        typed = json.dumps(request, ensure_ascii=False)
        done = run_grpcurl(grpcurl, executing, "-d", typed, "TARGET", f"kfadapter.v1.{method}")
        assert done.returncode == 0, done.stderr.decode()
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return ask


def test_a_run(call: Callable[..., dict[str, Any]], caller: Api, name: str) -> None:
    """Typed parameters are sent as JSON, including Korean text; state, parameters and outputs are returned."""
    caller.upload("tests/data/pipelines/hello_world.yaml", name)
    given = {"recipient": "세상 사람들", "times": 2}
    started = call("RunService/Create", pipeline_name=name, parameters=given, labels={"누구": "나"})
    assert (started["parameters"], started["labels"]) == (given, {"누구": "나"})
    caller.follow(started["run_id"])
    run = call("RunService/Get", run_id=started["run_id"], view="VIEW_FULL")
    assert (run["state"], run["pipeline_name"]) == ("RUN_STATE_SUCCEEDED", name)
    (task,) = [one for one in run["tasks"] if one["name"] == "greet"]
    assert task["outputs"] == [{"name": "Output", "value": "hello 세상 사람들, hello 세상 사람들"}]
    listed = call("RunService/List", filter={"pipeline_id": run["pipeline_id"]})
    assert [one["run_id"] for one in listed["runs"]] == [run["run_id"]]
    assert call("RunService/Terminate", run_id=run["run_id"])["state"] == "RUN_STATE_SUCCEEDED"
    assert call("RunService/Archive", run_id=run["run_id"])["storage_state"] == "STORAGE_STATE_ARCHIVED"
    assert call("RunService/Unarchive", run_id=run["run_id"])["storage_state"] == "STORAGE_STATE_AVAILABLE"
    assert call("RunService/Delete", run_id=run["run_id"]) == {"run_id": run["run_id"]}


def test_a_refused_run_reports_what_is_wrong(grpcurl: str, executing: Adapter, caller: Api, name: str) -> None:
    """Each wrong parameter is named, without any proto file."""
    caller.upload("tests/data/pipelines/all_parameter_types.yaml", name)
    request = json.dumps({"pipeline_name": name, "parameters": {"i": "7", "x": 1}})
    done = run_grpcurl(grpcurl, executing, "-d", request, "TARGET", "kfadapter.v1.RunService/Create")
    assert done.returncode != 0
    for part in ("InvalidArgument", "PARAMETER_", "parameters.s", "parameters.i", "parameters.x"):
        assert part in done.stderr.decode()


def test_experiments(call: Callable[..., dict[str, Any]], name: str) -> None:
    """An experiment is created once, found by name and id, listed, archived, unarchived, deleted."""
    made = call("ExperimentService/Create", name=name, description="모델 비교")
    assert (made["name"], made["description"]) == (name, "모델 비교")
    again = call("ExperimentService/Create", name=name, allow_existing=True)
    assert again["experiment_id"] == made["experiment_id"]
    by_id = {"experiment_id": made["experiment_id"]}
    assert call("ExperimentService/Get", name=name) == call("ExperimentService/Get", **by_id)
    listed = call("ExperimentService/List", name_contains=name)
    assert [one["name"] for one in listed["experiments"]] == [name]
    assert call("ExperimentService/Archive", **by_id)["storage_state"] == "STORAGE_STATE_ARCHIVED"
    assert call("ExperimentService/List", name_contains=name) == {}
    assert call("ExperimentService/Unarchive", **by_id)["storage_state"] == "STORAGE_STATE_AVAILABLE"
    assert call("ExperimentService/Delete", **by_id) == by_id
    assert call("ExperimentService/Delete", **by_id, allow_missing=True) == {}


@pytest.mark.parametrize(
    "schedule",
    [{"cron": {"cron": "0 0 4 * * *"}}, {"interval": {"interval": "3600s"}}],
    ids=["cron", "interval"],
)
def test_recurring_runs(
    call: Callable[..., dict[str, Any]], caller: Api, name: str, schedule: dict[str, object]
) -> None:
    """A recurring run is created with a schedule and typed parameters, found, listed, disabled, enabled, deleted."""
    caller.upload("tests/data/pipelines/hello_world.yaml", name)
    experiment = call("ExperimentService/Create", name=name)["experiment_id"]
    given = {"recipient": "날마다", "times": 1}
    made = call("RecurringRunService/Create", pipeline_name=name, experiment_name=name, parameters=given, **schedule)
    assert made["enabled"] is True
    assert made["parameters"] == given
    assert made.items() >= schedule.items()
    by_id = {"recurring_run_id": made["recurring_run_id"]}
    assert call("RecurringRunService/Get", **by_id)["experiment_id"] == experiment
    listed = call("RecurringRunService/List", experiment_name=name)
    assert [one["recurring_run_id"] for one in listed["recurring_runs"]] == list(by_id.values())
    assert "enabled" not in call("RecurringRunService/Disable", **by_id)
    assert call("RecurringRunService/Enable", **by_id)["enabled"] is True
    assert call("RecurringRunService/Delete", **by_id) == by_id
    assert call("RecurringRunService/Delete", **by_id, allow_missing=True) == {}
