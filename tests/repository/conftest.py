"""A repository in front of an embedded KFP, and in front of one that misbehaves."""

from __future__ import annotations

import hashlib
import io
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.runs_kfp import RunsKfp
from tests.scripted_kfp import ScriptedKfp
from tests.transcripts import PIPELINES

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import FileKind, PipelineFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.kfp.pipelines import Pipelines
    from kfadapter_grpc.kfp.runs import Runs


@pytest.fixture
def repository(embedded_url: str) -> Iterator[Pipelines]:
    """The repository in front of the embedded KFP."""
    backend = connect(embedded_url)
    yield backend.pipelines
    backend.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedKfp]:
    """A KFP that follows the test's script."""
    with ScriptedKfp() as server:
        yield server


@pytest.fixture
def before_scripted(scripted: ScriptedKfp) -> Iterator[Pipelines]:
    """The repository in front of the scripted KFP."""
    backend = connect(scripted.url)
    yield backend.pipelines
    backend.close()


@pytest.fixture
def name() -> str:
    """A pipeline's name that no other test uses."""
    return f"이름 {uuid.uuid4().hex[:12]}"


@pytest.fixture
def kfp() -> Iterator[RunsKfp]:
    """A KFP that stores runs."""
    kfp = RunsKfp()
    with kfp.server:
        yield kfp


@pytest.fixture
def runs(kfp: RunsKfp) -> Iterator[Runs]:
    """The repository of runs in front of it."""
    backend = connect(kfp.url)
    yield backend.runs
    backend.close()


def call(seconds: float = 20) -> Call:
    """A call with a time limit."""
    return Call(f"test-{uuid.uuid4().hex}", seconds)


def pipeline_file(stem: str = "hello_world", suffix: str = "") -> PipelineFile:
    """One of the sample pipelines; a suffix changes its bytes."""
    data = (PIPELINES / f"{stem}.yaml").read_bytes() + suffix.encode()
    return PipelineFile(io.BytesIO(data), len(data), hashlib.sha256(data).digest(), FileKind.YAML)
