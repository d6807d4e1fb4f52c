"""Runs of the same pipelines have the same result on the server under test and on replayed KFPs behind an adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from difflib import ndiff
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.conformance.calling import CALL_SECONDS, calling
from tests.conformance.cases import CASES, NEXT, OLD, TARGET, WHY_FAILED, Case, shown
from tests.e2e.conftest import serve
from tests.mlmd import FakeStore, Recording
from tests.recorded_runs import recorded_native
from tests.runs_kfp import RunsKfp

from kfadapter.v1 import artifact_pb2, pipeline_pb2, run_pb2
from kfadapter.v1.artifact_pb2_grpc import ArtifactServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import grpc
    from tests.conformance.calling import Api

pytestmark = pytest.mark.slow
SOURCES = {
    NEXT: Path(__file__).parents[1] / "embedded" / "native_pipelines.py",
    OLD: Path(__file__).with_name("mlmd_pipelines.py"),
}
ELSEWHERE = "KFADAPTER_TEST_TARGET" in os.environ
AVAILABLE = run_pb2.RUN_SOURCE_STATE_AVAILABLE
BEGUN = {run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELED}
GROUPS = {pipeline_pb2.TASK_KIND_DAG, pipeline_pb2.TASK_KIND_LOOP, pipeline_pb2.TASK_KIND_CONDITION}


@pytest.fixture(scope="module")
def artifacts(channel: grpc.Channel) -> ArtifactServiceStub:
    """The service under test."""
    return ArtifactServiceStub(channel)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines, in a folder for each KFP, and their input files."""
    folder = tmp_path_factory.mktemp("recorded")
    for kfp, source in SOURCES.items():
        (folder / kfp).mkdir()
        subprocess.run([sys.executable, source, folder / kfp], check=True, capture_output=True)
    (folder / "a.csv").write_text("a,b\n1,2\n", "utf-8")
    (folder / "model.txt").write_text("x" * 16, "utf-8")
    return folder


def pipeline(compiled: Path, case: Case) -> bytes:
    """The file of a case's pipeline."""
    return (compiled / case.kfp / f"{case.pipeline}.yaml").read_bytes().replace(b"/FOLDER", bytes(compiled))


# --- the server under test ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run(api: Api, artifacts: ArtifactServiceStub, compiled: Path, name: str, case: Case) -> None:
    """A run of the pipeline has the recorded result."""
    if ELSEWHERE and case.is_local:
        pytest.skip("its tasks need files of this machine")
    api.upload(pipeline(compiled, case), name)
    parameters = json.loads(json.dumps(case.parameters).replace("{folder}", str(compiled)))
    run = become(api, case, api.start(name, parameters).run_id)
    if case.until == "repeated":
        run = api.follow(api.start(name, parameters).run_id)
    if run.sources.outputs.state != AVAILABLE:
        pytest.skip(f"outputs: {run.sources.outputs.message}")
    check(artifacts, run, case, *(WHY_FAILED if ELSEWHERE else [TARGET]))


def become(api: Api, case: Case, run_id: str) -> run_pb2.Run:
    """Makes a run proceed as in the case."""
    if case.until == "terminated":
        api.follow(run_id, lambda run: any(one.name == "nap" and one.started_at.seconds for one in run.tasks))
        api.runs.Terminate(run_pb2.TerminateRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    run = api.follow(run_id)
    if case.until == "retried":
        assert run.state == run_pb2.RUN_STATE_FAILED
        api.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS)
        run = api.follow(run_id)
    return run


def check(artifacts: ArtifactServiceStub, run: run_pb2.Run, case: Case, *kfps: str) -> None:
    """Compares a run with the expected result on one of the KFPs, and its parts with each other."""
    assert run.sources.outputs.state == AVAILABLE
    found = shown(run, cached=case.until == "repeated")
    expected = [case.shows(one) for one in kfps]
    assert found in expected, "\n".join(ndiff(expected[0].splitlines(), found.splitlines()))
    failed = [one.error for one in run.tasks if one.state == run_pb2.RUN_STATE_FAILED and one.kind not in GROUPS]
    assert bool(failed) is bool(case.raised)
    for error in failed:
        assert any(WHY_FAILED[one].format(case.raised) in error for one in kfps), error
    for task in run.tasks:
        assert (task.started_at.seconds > 0) is (task.state in BEGUN), task
    made = {one.artifact_id: one for task in run.tasks for output in task.outputs for one in output.artifacts}
    taken = {one.artifact_id for task in run.tasks for given in task.inputs for one in given.artifacts}
    assert taken <= made.keys()
    listed = artifacts.List(artifact_pb2.ListArtifactsRequest(run_id=run.run_id), timeout=CALL_SECONDS).artifacts
    assert {(one.artifact_id, one.uri, one.task_id) for one in listed} == {
        (one.artifact_id, one.uri, one.task_id) for one in made.values()
    }


# --- replayed KFPs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replayed(compiled: Path) -> Iterator[Mapping[str, tuple[Api, ArtifactServiceStub]]]:
    """An adapter in front of each replayed KFP."""
    store = FakeStore(*(Recording(case.name) for case in CASES if case.kfp == OLD))
    following, old = RunsKfp(tasks={}), RunsKfp()
    for case in CASES:
        if case.kfp == NEXT:
            put_next(following, case, compiled)
        else:
            put_old(old, case, compiled)
    with (
        following.server,
        old.server,
        serve(following.url) as next_adapter,
        serve(old.url, "--mlmd-address", store.start()) as old_adapter,
        calling(next_adapter.target) as next_api,
        calling(old_adapter.target) as old_api,
    ):
        yield {kfp: (api, ArtifactServiceStub(api.channel)) for kfp, api in ((NEXT, next_api), (OLD, old_api))}
    store.stop()


def put_next(kfp: RunsKfp, case: Case, compiled: Path) -> None:
    """Makes a KFP serve a recorded run and its tasks, with the spec of a run that was started from a file."""
    stage = recorded_native(case.name)[-1]
    run = {key: value for key, value in stage["run"].items() if key != "pipeline_version_reference"}
    kfp.runs[run["run_id"]] = {**run, "pipeline_spec": yaml.safe_load(pipeline(compiled, case))}
    kfp.tasks = {**(kfp.tasks or {}), run["run_id"]: stage["tasks"]}


def put_old(kfp: RunsKfp, case: Case, compiled: Path) -> None:
    """Makes a KFP serve a run and its Workflow, with its outputs in ML Metadata."""
    recording = Recording(case.name)
    manifest = json.loads(recording.workflow().manifest())
    if case.until == "terminated":  # as in run_nodes/terminated_running
        manifest["spec"] = {"activeDeadlineSeconds": 0}
    run_id = kfp.add(
        run_id=recording.run_id,
        state="FAILED" if case.raised or case.until == "terminated" else "SUCCEEDED",
        run_details={"task_details": [{"display_name": recording.name}]},
        pipeline_spec=yaml.safe_load(pipeline(compiled, case)),
    )
    kfp.manifests[run_id] = {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recorded_run(replayed: Mapping[str, tuple[Api, ArtifactServiceStub]], case: Case) -> None:
    """The recorded run has the recorded result."""
    api, artifacts = replayed[case.kfp]
    run_id = Recording(case.name).run_id if case.kfp == OLD else recorded_native(case.name)[-1]["run"]["run_id"]
    check(artifacts, api.get(run_id), case, case.kfp)
