"""Inputs and outputs of the tasks of a file of KFP v1, from the nodes of its Workflow."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call
from tests.runs_kfp import RunsKfp

from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput, RunMetric, RunOutput
from kfadapter_grpc.contract.runs import RunSource, RunSourceState
from kfadapter_grpc.kfp.mlmd.store import StoreSettings
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_ID = "0d1f2a1e-6d3b-4a6e-9d5e-0c1d2e3f4a5b"
KEY = "artifacts/v1/2026/01/02/v1-1"
LOG = {"name": "main-logs", "s3": {"key": f"{KEY}/main.log"}}
TRAIN = {
    "id": "v1-1",
    "displayName": "train",
    "type": "Pod",
    "templateName": "train",
    "boundaryID": "v1",
    "startedAt": "2026-01-02T03:04:00Z",
    "finishedAt": "2026-01-02T03:04:05Z",
    "inputs": {"parameters": [{"name": "epochs", "value": "3"}, {"name": "unset"}]},
    "outputs": {
        "parameters": [{"name": "train-loss", "value": "0.09626272360157163", "valueFrom": {"path": "/loss"}}],
        "artifacts": [
            {"name": "mlpipeline-metrics", "path": "/metrics.json", "s3": {"key": f"{KEY}/mlpipeline-metrics.tgz"}},
            {"name": "train-모델", "path": "/model", "s3": {"bucket": "other", "key": f"{KEY}/train-model.tgz"}},
            LOG,
        ],
        "exitCode": "0",
    },
}
TEST = {
    "id": "v1-2",
    "displayName": "test",
    "startedAt": "2026-01-02T03:04:05Z",
    "type": "Pod",
    "templateName": "test",
    "boundaryID": "v1",
    "inputs": {
        "artifacts": [
            {"name": "model", "path": "/in", "s3": {"bucket": "other", "key": f"{KEY}/train-model.tgz"}},
            {"name": "raw", "raw": {"data": "x"}},
            {"name": "table", "s3": {"key": "elsewhere.csv"}},
        ]
    },
}
MODEL = RunArtifact(
    "system.Artifact",
    f"minio://other/{KEY}/train-model.tgz",
    artifact_id="v1-1/train-모델",
    name="train-모델",
    run_id=RUN_ID,
    task_id="v1-1",
    created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
)


def _manifest(repository: object = None) -> str:
    whole = {"id": "v1", "displayName": "v1", "type": "DAG", "templateName": "main"}
    nodes = {node["id"]: {"name": node["id"], "phase": "Succeeded", **node} for node in (whole, TRAIN, TEST)}
    ref = {"artifactRepositoryRef": {"artifactRepository": repository}} if repository else {}
    metadata = {"name": "v1", "namespace": "kubeflow", "labels": {"pipeline/runid": RUN_ID}}
    return json.dumps({"metadata": metadata, "status": {"nodes": nodes, **ref}})


def test_inputs_and_outputs() -> None:
    """Parameters are strings; artifacts are where Argo stored them, and come from the task that produced them."""
    train, test = sorted(read_nodes(_manifest()).tasks, key=lambda task: task.task_id)
    assert train.inputs == (RunInput("epochs", "3"),)
    metrics, loss, model = sorted(train.outputs, key=lambda one: one.name)
    assert loss == RunOutput("train-loss", value="0.09626272360157163")
    assert model == RunOutput.of("train-모델", MODEL)
    assert metrics.artifacts[0].type == "system.Metrics"
    assert metrics.artifacts[0].uri == f"minio://mlpipeline/{KEY}/mlpipeline-metrics.tgz"
    assert test.inputs[0] == RunInput("model", None, (MODEL,), "train", "train-모델", has_value=False)
    assert [(one.name, one.artifacts[0].uri, one.source_task) for one in test.inputs[1:]] == [
        ("table", "minio://mlpipeline/elsewhere.csv", "")
    ]


@pytest.mark.parametrize(
    ("repository", "uri"),
    [
        ({"s3": {"bucket": "ours", "endpoint": "minio-service.kubeflow:9000"}}, "minio://ours"),
        ({"s3": {"bucket": "ours", "endpoint": "s3.amazonaws.com"}}, "s3://ours"),
    ],
)
def test_repositories(repository: object, uri: str) -> None:
    """The bucket and the kind of store are those of Argo's artifact repository."""
    train = next(task for task in read_nodes(_manifest(repository)).tasks if task.name == "train")
    metrics = next(one for one in train.outputs if one.name == "mlpipeline-metrics")
    assert metrics.artifacts[0].uri == f"{uri}/{KEY}/mlpipeline-metrics.tgz"


@pytest.fixture
def kfp() -> Iterator[RunsKfp]:
    """A KFP that keeps runs."""
    kfp = RunsKfp()
    with kfp.server:
        yield kfp


def test_metrics(kfp: RunsKfp) -> None:
    """Metrics of `mlpipeline-metrics` are read from v1beta1; ML Metadata is not called for such a run."""
    run_id = kfp.add(run_id=RUN_ID, state="SUCCEEDED")
    logged = [{"name": "accuracy", "node_id": "v1-1", "number_value": 0.91, "format": "PERCENTAGE"}]
    logged += [{"name": "rows", "node_id": "v1-2", "number_value": 7}]
    kfp.manifests[run_id] = {
        "run": {"id": run_id, "metrics": logged},
        "pipeline_runtime": {"workflow_manifest": _manifest()},
    }
    with closing(connect(kfp.url, mlmd=StoreSettings("metadata.invalid:8080"))) as backend:
        run = backend.runs.get(run_id, View.FULL, call())
    assert run.metrics == (
        RunMetric("accuracy", 0.91, "train", "mlpipeline-metrics"),
        RunMetric("rows", 7, "test", "mlpipeline-metrics"),
    )
    assert run.sources is not None
    assert run.sources.outputs == RunSource(RunSourceState.AVAILABLE)
