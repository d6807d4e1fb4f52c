"""The calls of O-RAN's training manager, as it makes them, through the stubs that replace its own."""

from __future__ import annotations

import subprocess
import sys
import uuid
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import ROOT, SECONDS
from tests.training_jobs import details

from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.training_manager import (
    ArgumentProfile,
    PipelineMgr,
    PipelineMgrError,
    Response,
    terminate_training,
    training_start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.e2e.conftest import Adapter

PIPELINE = ROOT / "tests" / "data" / "pipelines" / "all_parameter_types.yaml"


class TMError(Exception):
    """The training manager's own exception."""


class ManagedPipelines(PipelineMgr):
    """The class in the training manager after it has moved over."""

    error_class = TMError


class TrainingConfig:
    """The training manager's configuration, as far as the adapter needs it."""

    def __init__(self, target: str) -> None:
        self.kf_adapter_ip, self.kf_adapter_port = target.split(":")


@pytest.fixture
def pipelines(executing: Adapter, monkeypatch: pytest.MonkeyPatch) -> ManagedPipelines:
    """The stubs, configured by the variables of the training manager's deployment."""
    host, port = executing.target.split(":")
    monkeypatch.setenv("KF_ADAPTER_IP", host)
    monkeypatch.setenv("KF_ADAPTER_PORT", port)
    return ManagedPipelines()


@pytest.fixture
def name(pipelines: ManagedPipelines, executing: Adapter) -> Iterator[str]:
    """The name of a pipeline with one version."""
    unique = f"tm-{uuid.uuid4().hex[:12]}"
    assert pipelines.upload_pipeline_file(unique, PIPELINE, "모델을 학습한다") is True
    yield unique
    executing.printed("delete", unique, "--force", "-o", "name")


def started(response: Response) -> str:
    """Parses a response as the training manager does; returns the run's id."""
    assert "application/json" in response.headers["content-type"]
    assert response.status_code == 200
    assert response.json()["run_status"] == "scheduled"
    return str(response.json()["run_id"])


def test_pipelines_and_versions_are_found_again(pipelines: ManagedPipelines, name: str) -> None:
    """An uploaded pipeline is in the list, under the name that the other calls take, and so are all of its versions."""
    assert pipelines.upload_pipeline_file(name, PIPELINE, None)
    found: Any = pipelines.get_all_pipelines()
    mine = next(one for one in found["pipelines"] if one["display_name"] == name)
    assert mine["description"] == "모델을 학습한다"
    assert mine["pipeline_id"]
    assert parsedate_to_datetime(mine["created_at"]).tzinfo
    assert found["total_size"] == len(found["pipelines"])
    assert not found["next_page_token"]
    assert sorted(pipelines.get_all_pipeline_versions(name)["versions_list"]) == ["2", name]  # type: ignore[type-var, arg-type]


def test_experiments_are_a_dict_of_names(pipelines: ManagedPipelines) -> None:
    """Experiments are returned as a dict of names to ids."""
    assert pipelines.get_experiments()["Default"]


@pytest.mark.slow
def test_a_training_job(pipelines: ManagedPipelines, executing: Adapter, name: str) -> None:
    """A job started with text arguments succeeds with values of the declared types, and is found by its label."""
    response = pipelines.start_training(details(name, i="10", b="false"), "42")
    run_id = started(response)
    body: Any = response.json()
    assert {"trainingjob_id", "run_name", "experiment_name", "experiment_id", "pipeline_name", "pipeline_id"} <= set(
        body
    )
    assert body["arguments_left_out"] == [
        "featuregroup_name",
        "modelName",
        "modelVersion",
        "modellocation",
        "trainingjob_id",
    ]
    with Client(executing.target) as client:
        run = client.runs.wait(run_id, timeout=SECONDS)
        assert run.state is RunState.SUCCEEDED, run.error
        assert run.parameters["i"] == 10
        assert run.parameters["b"] is False
        assert run_id in {one.run_id for one in client.runs.list(labels={"trainingjob_id": "42"})}
    ended: Any = pipelines.terminate_training(run_id).json()
    assert ended["run_status"] == "SUCCEEDED"


def test_the_functions_take_the_configuration(executing: Adapter, name: str) -> None:
    """`training_start` and `terminate_training` call the adapter that the training manager's configuration names."""
    config = TrainingConfig(executing.target)
    run_id = started(training_start(config, details(name), "42"))
    assert terminate_training(config, run_id).ok


def test_a_text_of_another_type_is_named(pipelines: ManagedPipelines, name: str) -> None:
    """A text that is not a value of the declared type is rejected, and the response names the parameter."""
    response = pipelines.start_training(details(name, i="x"), "42")
    assert response.status_code == 400
    assert response.json()["reason"] == "PARAMETER_TYPE"
    assert "parameters.i" in str(response.json()["message"])


def test_without_a_profile_nothing_is_left_out(
    pipelines: ManagedPipelines, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the profile AS_GIVEN, an argument that the pipeline does not declare is rejected."""
    monkeypatch.setattr(ManagedPipelines, "profile", ArgumentProfile.AS_GIVEN)
    response = pipelines.start_training(details(name), "42")
    assert (response.status_code, response.json()["reason"]) == (400, "PARAMETER_UNKNOWN")


def test_missing_resources(pipelines: ManagedPipelines) -> None:
    """Unknown names are reported by the training manager's own exception or status, with reason and request id."""
    with pytest.raises(TMError, match=r"not found: pipeline 'nobody'.*PIPELINE_NOT_FOUND, request"):
        pipelines.get_all_pipeline_versions("nobody")
    assert pipelines.start_training(details("nobody"), "42").status_code == 404
    assert pipelines.terminate_training(str(uuid.uuid4())).status_code == 404
    with pytest.raises(TMError, match="No such file"):
        pipelines.upload_pipeline_file("x", ROOT / "nowhere.yaml", "")


def test_an_adapter_that_is_unreachable() -> None:
    """An unreachable adapter raises an exception, as over HTTP, which includes the address."""
    with pytest.raises(PipelineMgrError, match=r"cannot connect to 127\.0\.0\.1:1"):
        PipelineMgr("127.0.0.1:1").start_training(details("x"), "42")


def test_a_fork_gets_a_channel_of_its_own(executing: Adapter) -> None:
    """A process that forks before its first call, as a development server does, can call from the child."""
    program = (
        "import os\n"
        "from kfadapter_grpc.training_manager import PipelineMgr\n"
        f"pipelines = PipelineMgr({executing.target!r})\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    print('Default' in pipelines.get_experiments(), flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print('Default' in pipelines.get_experiments())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.split() == ["True", "True"]
