"""The moved PipelineMgr, tested as docs/training-manager.md shows it to the training manager."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import MagicMock, patch

import pytest
import requests

from kfadapter_grpc.client import InvalidPipelineFileError, PermissionDeniedError, Pipeline
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.training_manager import PipelineMgr, training_start
from kfadapter_oran import responses

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = SimpleNamespace(kf_adapter_ip="127.0.0.1", kf_adapter_port=1)


class TMError(Exception):
    """The training manager's own exception."""


class Manager(PipelineMgr):
    """The class in the training manager."""

    error_class = TMError


@patch.object(PipelineMgr, "client")
def test_lists(client: MagicMock) -> None:
    """What replaces a patched `requests.get` for pipelines and versions."""
    client.pipelines.list.return_value = [Pipeline("1", "a"), Pipeline("2", "b")]
    found = Manager().get_all_pipelines()["pipelines"]
    assert [one["pipeline_id"] for one in found] == ["1", "2"]  # type: ignore[union-attr, index, call-overload]
    version = MagicMock()
    version.name = "1.0"
    client.pipelines.list_versions.return_value = [version]
    assert Manager().get_all_pipeline_versions("pipeline1") == {"versions_list": ["1.0"]}


@patch.object(PipelineMgr, "client")
def test_upload(client: MagicMock, tmp_path: Path) -> None:
    """What replaces a patched `requests.post` for an upload, and for one that fails."""
    assert Manager().upload_pipeline_file("pipeline1", tmp_path / "x.yaml", "Test pipeline") is True
    client.pipelines.upload.side_effect = InvalidPipelineFileError("Invalid file")
    with pytest.raises(TMError, match="cannot upload pipeline 'pipeline1': Invalid file"):
        Manager().upload_pipeline_file("pipeline1", tmp_path / "x.yaml", "Test pipeline")


@patch.object(PipelineMgr, "client")
def test_start(client: MagicMock) -> None:
    """What replaces a patched `requests.post` for a training job; a refusal is a response in JSON, as before."""
    for start in (Manager().start_training, lambda details, job: training_start(CONFIG, details, job)):
        response = start({"pipeline_name": "qoe"}, "usecase12")
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        client.runs.create.side_effect = PermissionDeniedError("no")
        response = start({"pipeline_name": "qoe"}, "usecase12")
        assert (response.status_code, response.json()["reason"]) == (403, "PERMISSION_DENIED")
        client.runs.create.side_effect = None


@pytest.mark.parametrize("loaded", [True, False])
def test_an_unreachable_adapter(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`training_start` raises the ConnectionError of `requests`, which the training manager catches, or Python's."""
    if not loaded:
        monkeypatch.delitem(sys.modules, "requests")
    wanted = requests.exceptions.ConnectionError if loaded else builtins.ConnectionError
    with pytest.raises(wanted, match=r"cannot connect to 127\.0\.0\.1:1") as caught:
        training_start(CONFIG, {"pipeline_name": "qoe"}, "usecase12")
    assert type(caught.value) is wanted


def test_the_reason_of_a_failure() -> None:
    """A run's body has the reason of its failure, as far as known."""
    body = responses.run_body(Run("1", "r", RunState.FAILED, "메모리 부족"))
    assert body == {"run_id": "1", "run_name": "r", "run_status": "FAILED", "run_error": "메모리 부족"}
