"""ArtifactService: what the tasks of runs produced is listed, compared and read, on every KFP.

What this KFP does not report, or the adapter was not configured to read, is skipped by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import json_format
from tests.conformance.calling import CALL_SECONDS, outputs
from tests.contract.running import failure, reported

from kfadapter.v1 import artifact_pb2, run_pb2
from kfadapter.v1.artifact_pb2_grpc import ArtifactServiceStub

if TYPE_CHECKING:
    from tests.conformance.calling import Api

AVAILABLE = run_pb2.RUN_SOURCE_STATE_AVAILABLE
FOLDER = {"config.json": 2, "깊이/가중치.bin": 1000}


@pytest.fixture(scope="module")
def artifacts(channel: grpc.Channel) -> ArtifactServiceStub:
    """The service under test."""
    return ArtifactServiceStub(channel)


@pytest.fixture(scope="module")
def run(api: Api) -> run_pb2.Run:
    """A run with an output of each type, a loop, and a branch that is not taken."""
    name = "conformance-artifacts"
    api.upload("tests/conformance/artifact_types.yaml", name)
    run = api.follow(api.start(name, {"rows": 3}).run_id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    if run.sources.outputs.state != AVAILABLE:
        pytest.skip(f"outputs: {run.sources.outputs.message}")
    return run


def listed(artifacts: ArtifactServiceStub, **where: object) -> list[run_pb2.RunArtifact]:
    """All artifacts, in pages of two."""
    request = artifact_pb2.ListArtifactsRequest(page_size=2, **where)  # type: ignore[arg-type]
    found: list[run_pb2.RunArtifact] = []
    while True:
        page = artifacts.List(request, timeout=CALL_SECONDS)
        found += page.artifacts
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def one(artifacts: ArtifactServiceStub, run: run_pb2.Run, name: str) -> run_pb2.RunArtifact:
    """The artifact of an output of the first task."""
    (found,) = listed(artifacts, run_id=run.run_id, task="make", name=name)
    return found


def test_each_type(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """Every artifact has its type, name, task and an id; each is listed once, and Get returns it."""
    found = listed(artifacts, run_id=run.run_id)
    shown = [(one.task.replace("for-loop-1", "each"), one.name, one.type) for one in found]
    assert sorted(shown) == sorted(
        [
            ("make", "data", "system.Dataset"),
            ("make", "model", "system.Model"),
            ("make", "scores", "system.Metrics"),
            ("make", "curves", "system.ClassificationMetrics"),
            ("make", "page", "system.HTML"),
            ("make", "note", "system.Markdown"),
            *(
                ("each[0]/train", name, kind)
                for name, kind in (("fitted", "system.Model"), ("scores", "system.Metrics"))
            ),
            *(
                ("each[1]/train", name, kind)
                for name, kind in (("fitted", "system.Model"), ("scores", "system.Metrics"))
            ),
        ]
    )
    assert len({one.artifact_id for one in found}) == len(found)
    for each in found:
        request = artifact_pb2.GetArtifactRequest(run_id=run.run_id, artifact_id=each.artifact_id)
        assert artifacts.Get(request, timeout=CALL_SECONDS) == each
        assert each.run_id == run.run_id
    models = listed(artifacts, run_id=run.run_id, type="Model", task="train")
    assert [each.name for each in models] == ["fitted", "fitted"]


def test_metadata_and_metrics(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """What the code set is returned completely, with its meaning for the type."""
    assert dict(one(artifacts, run, "data").metadata) == {"설명": "자료"}
    assert dict(one(artifacts, run, "scores").metrics) == {"accuracy": 0.75, "rows": 3.0}
    curves = one(artifacts, run, "curves")
    assert [(each.false_positive_rate, each.true_positive_rate) for each in curves.roc_curve] == [
        (0.0, 0.0),
        (0.5, 0.75),
        (1.0, 1.0),
    ]
    assert list(curves.confusion_matrix.categories) == ["cat", "dog"]
    assert [list(row.counts) for row in curves.confusion_matrix.rows] == [[3, 1], [0, 4]]


def test_inputs_and_outputs_of_tasks(run: run_pb2.Run) -> None:
    """A run has the inputs of each task, with their sources, and its outputs; a group only those it declares."""
    make = next(task for task in run.tasks if task.name == "make")
    assert [(each.name, each.value.number_value, each.source_task) for each in make.inputs] == [("rows", 3, "")]
    assert outputs(run, "make") == {"Output": 0.75}
    assert outputs(run, "choose") == {"Output": 2}
    choose = next(task for task in run.tasks if task.name == "choose")
    (models,) = choose.inputs
    assert (models.name, len(models.artifacts)) == ("models", 2)
    trained = [task for task in run.tasks if task.name.endswith("train")]
    for task in trained:
        (data,) = [each for each in task.inputs if each.name == "data"]
        assert (data.source_task, data.source_output) == ("make", "data")
        assert data.artifacts[0].name == "data"
    skipped = [task for task in run.tasks if task.state in {run_pb2.RUN_STATE_SKIPPED, run_pb2.RUN_STATE_OMITTED}]
    assert skipped
    assert not any(task.outputs for task in skipped)


def test_tables_of_metrics(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """Runs are compared by parameters and metrics, as returned for each run."""
    where = run_pb2.RunFilter(pipeline_id=run.pipeline_id)
    page = artifacts.ListMetrics(artifact_pb2.ListMetricsRequest(filter=where), timeout=CALL_SECONDS)
    row = next(each for each in page.runs if each.run_id == run.run_id)
    assert row.source.state == AVAILABLE
    assert json_format.MessageToDict(row.parameters) == {"rows": 3.0}
    assert list(row.metrics) == list(run.metrics)
    shown = {(each.task.replace("for-loop-1", "each"), each.name): each.value for each in row.metrics}
    assert shown == {
        ("make", "accuracy"): 0.75,
        ("make", "rows"): 3.0,
        ("each[0]/train", "loss"): 0.25,
        ("each[1]/train", "loss"): 0.5,
    }


def read(
    artifacts: ArtifactServiceStub, artifact: run_pb2.RunArtifact, **part: object
) -> tuple[artifact_pb2.ArtifactContent, bytes]:
    """What is announced of an artifact, and its bytes; skips if this adapter may not read them."""
    request = artifact_pb2.ReadArtifactRequest(
        run_id=artifact.run_id,
        artifact_id=artifact.artifact_id,
        **part,  # type: ignore[arg-type]
    )
    try:
        sent = list(artifacts.Read(request, timeout=CALL_SECONDS))
    except grpc.RpcError as error:
        if reported(error).reason == "ARTIFACT_NOT_READABLE":
            pytest.skip(f"bytes: {reported(error).message}")
        raise
    return sent[0].content, b"".join(each.chunk for each in sent[1:])


def test_bytes_of_a_file(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """The whole file or a part, with name and size."""
    whole = "".join(f"줄 {number}\n" for number in range(3)).encode()
    data = one(artifacts, run, "data")
    content, sent = read(artifacts, data)
    assert (content.size, content.is_directory, sent) == (len(whole), False, whole)
    assert read(artifacts, data, offset=4, length=5)[1] == whole[4:9]
    assert read(artifacts, one(artifacts, run, "note"))[1] == b"# report"


def test_bytes_of_a_folder(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """Its files are listed, and each can be read by its path."""
    model = one(artifacts, run, "model")
    content, archive = read(artifacts, model)
    assert (content.is_directory, content.media_type, content.entry_count) == (True, "application/x-tar", 2)
    assert {each.path: each.size for each in content.entries} == FOLDER
    assert len(archive) > sum(FOLDER.values())
    assert read(artifacts, model, path="깊이/가중치.bin")[1] == b"x" * 1000


def test_missing_resources(artifacts: ArtifactServiceStub, run: run_pb2.Run) -> None:
    """An unknown run, task or artifact has its own reason, and the ids of one run are unknown in another."""
    nobody = "00000000-0000-4000-8000-000000000000"
    made = one(artifacts, run, "data").artifact_id
    for reason, call in {
        "RUN_NOT_FOUND": lambda: artifacts.Get(artifact_pb2.GetArtifactRequest(run_id=nobody, artifact_id=made)),
        "ARTIFACT_NOT_FOUND": lambda: artifacts.Get(
            artifact_pb2.GetArtifactRequest(run_id=run.run_id, artifact_id=nobody)
        ),
        "TASK_NOT_FOUND": lambda: artifacts.List(artifact_pb2.ListArtifactsRequest(run_id=run.run_id, task="없음")),
    }.items():
        assert failure(call).reason == reason


def test_a_run_that_failed(artifacts: ArtifactServiceStub, api: Api, name: str) -> None:
    """Artifacts of earlier tasks are returned; a failed task has none, and that is no error."""
    api.upload("tests/data/pipelines/fails_with_exit_handler.yaml", name)
    failed = api.follow(api.start(name, {"message": "x"}).run_id)
    if failed.sources.outputs.state != AVAILABLE:
        pytest.skip(f"outputs: {failed.sources.outputs.message}")
    assert listed(artifacts, run_id=failed.run_id) == []
    where = run_pb2.RunFilter(pipeline_id=failed.pipeline_id)
    page = artifacts.ListMetrics(artifact_pb2.ListMetricsRequest(filter=where), timeout=CALL_SECONDS)
    assert [(row.run_id, list(row.metrics), row.source.state) for row in page.runs] == [(failed.run_id, [], AVAILABLE)]
