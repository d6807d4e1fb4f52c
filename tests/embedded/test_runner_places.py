"""Files of steps: written, read, changed and imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.run_file import Watcher, artifacts_of, parameters_of, run, served_spec
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.test_native import ended
from tests.object_store import ObjectStore, Stored

from kfadapter_embedded.execution import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.embedded.conftest import Caller

pytestmark = pytest.mark.slow
SOURCE = Path(__file__).with_name("runner_pipelines.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, SOURCE, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def try_out(compiled: Path, tmp_path: Path) -> Callable[..., Watcher]:
    """Runs a pipeline to its end."""

    def tried(name: str, **parameters: object) -> Watcher:
        return run(served_spec((compiled / f"{name}.yaml").read_text("utf-8")), tmp_path / "run", parameters)

    (tmp_path / "run").mkdir()
    return tried


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An object store with its settings in the environment."""
    with ObjectStore() as store:
        for name, value in {
            "AWS_ENDPOINT_URL": store.url,
            "AWS_REGION": "here",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
        }.items():
            monkeypatch.setenv(name, value)
        yield store


def _output(watcher: Watcher, task: str) -> Any:  # noqa: ANN401  # JSON
    return parameters_of(watcher.last(task))["Output"]


def test_files_of_steps(try_out: Callable[..., Watcher]) -> None:
    """custom_path is stored at the planned URI, get_uri has a scheme, and a step changes its own copy of an input."""
    watcher = try_out("files-of-steps")
    assert watcher.ends["run"] == (State.SUCCEEDED, "")
    assert [_output(watcher, task) for task in ("change", "change-2")] == ["행", "행"]
    assert _output(watcher, "describe") == "Artifact True out 행"
    assert _output(watcher, "describe-2") == "Artifact True model.txt model"
    assert _output(watcher, "describe-3") == "Artifact True out 열"
    root = "minio://mlpipeline/v2/artifacts/files-of-steps/run/write-at-own-uri/"
    assert _output(watcher, "write-at-own-uri").startswith(root)
    (made,) = artifacts_of(watcher.last("write-elsewhere"))["out"]
    assert made["uri"].startswith("file://")
    assert Path(made["uri"].removeprefix("file://")).read_text("utf-8") == "행"


def test_file_elsewhere(try_out: Callable[..., Watcher], tmp_path: Path) -> None:
    """A path outside the store raises a warning: no cluster uploads from there."""
    watcher = try_out("file-elsewhere", path=str(tmp_path / "mine"))
    assert watcher.ends["run"] == (State.SUCCEEDED, "")
    (warning,) = watcher.last("write-at-path").warnings
    assert "(artifact-elsewhere)" in warning


@pytest.mark.parametrize("uri", ["s3://bucket/data", "minio://bucket/data"])
def test_imports(try_out: Callable[..., Watcher], objects: ObjectStore, uri: str) -> None:
    """An imported object is downloaded once, and each step with it as an input has its own copy."""
    objects.put("bucket/data", "행".encode())
    watcher = try_out("imports-of-objects", uri=uri)
    assert watcher.ends["run"] == (State.SUCCEEDED, "")
    assert [_output(watcher, task) for task in ("change", "change-2")] == ["행", "행"]
    assert sum(one.method == "GET" and one.path == "bucket/data" for one in objects.requests) == 1


def test_import_into_workspace(try_out: Callable[..., Watcher], objects: ObjectStore, tmp_path: Path) -> None:
    """An object is downloaded into the workspace at its import, and the steps that take it share it there."""
    objects.put("bucket/data", "행".encode())
    watcher = try_out("imports-into-workspace", uri="s3://bucket/data")
    assert watcher.ends["run"] == (State.SUCCEEDED, "")
    assert [_output(watcher, task) for task in ("change", "change-2")] == ["행", "행+"]
    assert Path(tmp_path, "run/workspace/.artifacts/s3/bucket/data").read_text("utf-8") == "행++"


def test_import_into_workspace_that_fails(try_out: Callable[..., Watcher], objects: ObjectStore) -> None:
    """A download into the workspace that fails is a failure of the import."""
    objects.denied = True
    watcher = try_out("imports-into-workspace", uri="s3://bucket/data")
    assert watcher.last("importer").message.startswith(
        "failed to execute importer component: failed to create MLMD artifact from ImporterSpec: failed to download "
        "artifact to workspace: s3://bucket/data: its store denied access"
    )


FAULTS: list[tuple[dict[str, object], str]] = [
    ({"denied": True}, "its store denied access"),
    ({"redirect": "http://127.0.0.1:1"}, "unreachable or failed"),
    ({"objects": {"bucket/data": Stored(size=6 << 30)}}, "at most 5368709120 are downloaded"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_imports_that_cannot_be_had(
    try_out: Callable[..., Watcher], objects: ObjectStore, fault: dict[str, object], words: str
) -> None:
    """A failed download fails the step that takes it, with our message and that of KFP's launcher."""
    objects.put("bucket/data", b"x")
    for name, value in fault.items():
        setattr(objects, name, value)
    watcher = try_out("imports-of-objects", uri="s3://bucket/data")
    state, error = watcher.ends["run"]
    assert state is State.FAILED
    assert error.startswith("task change failed: its input 'data' cannot be had: s3://bucket/data")
    assert words in error
    message = watcher.last("change").message
    assert message.startswith(
        'failed to execute component: failed to download input artifact "data" from remote storage'
    )


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("https://host/data.csv", "no provider scheme found in artifact URI: https://host/data.csv"),
        ("oci://registry/model:1", "the system.Dataset artifact type does not support OCI registries"),
        ("/no/such/file", "there is no such file on this machine"),
    ],
)
def test_imports_that_kfp_refuses(try_out: Callable[..., Watcher], uri: str, words: str) -> None:
    """Artifacts that KFP's importer rejects fail it (`component/importer_launcher.go:ImportSpecToMLMDArtifact`)."""
    state, error = try_out("imports-of-objects", uri=uri).ends["run"]
    assert state is State.FAILED
    assert words in error


def test_pod(caller: Caller, compiled: Path) -> None:
    """A step has the name and the id of the pod that the API lists for it, and no number if it is never retried."""
    reference = a_pipeline(caller, (compiled / "pods.yaml").read_bytes())
    run_id = a_run(caller, display_name="pods", pipeline_version_reference=reference)
    (task,) = [one for one in ended(caller, run_id)["tasks"] if one["name"] == "pod"]
    (pod,) = [one for one in task["pods"] if one["type"] == "EXECUTOR"]
    (found,) = [one["value"] for one in task["outputs"]["parameters"]]
    assert found == [pod["name"], pod["uid"], ""], json.dumps(task)
