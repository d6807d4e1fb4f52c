"""ArtifactService on a real server: messages, page tokens, and the stream of an artifact's bytes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from tests.contract.running import reported
from tests.made_runs import FakeRuns, run_of

from kfadapter.v1 import artifact_pb2 as pb
from kfadapter.v1 import run_pb2
from kfadapter.v1.artifact_pb2_grpc import ArtifactServiceStub
from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import ArtifactContent, ArtifactEntry, ReadArtifactRequest
from kfadapter_grpc.kfp.artifacts import Artifacts
from kfadapter_grpc.services.artifacts import ArtifactServicer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message
    from tests.contract.conftest import Serve

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.kfp.runs import Runs

FOLDER = ArtifactContent("모델", "application/x-tar", None, True, (ArtifactEntry("가/b.txt", 3),), 1)


@dataclass
class Bytes:
    """The bytes of artifacts, provided by the test."""

    parts: list[ArtifactContent | bytes | Exception] = field(default_factory=lambda: [FOLDER, b"abc", b"def"])
    asked: list[tuple[str, ReadArtifactRequest]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)

    @contextmanager
    def read(
        self, artifact: RunArtifact, request: ReadArtifactRequest, call: Call, session: str
    ) -> Iterator[Iterator[ArtifactContent | bytes]]:
        """Yields the parts."""
        assert session == f"session of {artifact.artifact_id}"
        self.asked.append((artifact.uri, request))
        yield self._parts(call)

    def _parts(self, call: Call) -> Iterator[ArtifactContent | bytes]:
        for part in self.parts:
            self.left.append(call.remaining())
            if isinstance(part, Exception):
                raise part
            yield part


@pytest.fixture
def runs() -> FakeRuns:
    """Three runs."""
    return FakeRuns({f"r{index}": run_of(f"r{index}", index) for index in range(3)})


@pytest.fixture
def content() -> Bytes:
    """The bytes of their artifacts."""
    return Bytes()


@pytest.fixture
def stub(serve: Serve, runs: FakeRuns, content: Bytes) -> Iterator[ArtifactServiceStub]:
    """A stub of an adapter that serves them."""
    artifacts = Artifacts(cast("Runs", runs))
    yield ArtifactServiceStub(serve(ArtifactServicer(artifacts, read=content.read)).channel)
    artifacts.close()


def test_an_artifact(stub: ArtifactServiceStub) -> None:
    """Get and List return the same message, with the metadata interpreted."""
    found = stub.Get(pb.GetArtifactRequest(run_id="r1", artifact_id="r1-train-1-metrics"))
    assert MessageToDict(found, preserving_proto_field_name=True) == {
        "type": "system.Metrics",
        "uri": "s3://b/metrics",
        "metadata": {"accuracy": 2.0},
        "artifact_id": "r1-train-1-metrics",
        "name": "metrics",
        "run_id": "r1",
        "task_id": "train-1",
        "metrics": {"accuracy": 2.0},
        "task": "each[1]/train",
    }
    listed = stub.List(pb.ListArtifactsRequest(run_id="r1", task="each[1]/train", type="Metrics"))
    assert list(listed.artifacts) == [found]


def test_pages_of_many_runs(stub: ArtifactServiceStub, runs: FakeRuns) -> None:
    """Pages follow each other by page tokens alone; a bad run is a warning."""
    runs.bad = {"r1": errors.KfpError("부서짐")}
    request = pb.ListArtifactsRequest(page_size=3, type="Model")
    found: list[str] = []
    warnings: list[str] = []
    while True:
        page = stub.List(request)
        found += [one.artifact_id for one in page.artifacts]
        warnings += page.warnings
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == [f"r{run}-train-{task}-model" for run in (0, 2) for task in range(2)]
    assert warnings == ["run r1: 부서짐"]


def test_a_token_belongs_to_its_listing(stub: ArtifactServiceStub) -> None:
    """A page token used with another filter is rejected."""
    token = stub.List(pb.ListArtifactsRequest(page_size=1, type="Model")).next_page_token
    with pytest.raises(grpc.RpcError) as caught:
        stub.List(pb.ListArtifactsRequest(page_size=1, type="Dataset", page_token=token))
    assert reported(caught.value).reason == "INVALID_PAGE_TOKEN"


def test_metrics(stub: ArtifactServiceStub) -> None:
    """A row for each run, with a total where it is known, and whether its metrics could be read."""
    page = stub.ListMetrics(pb.ListMetricsRequest(page_size=2))
    assert [row.run_id for row in page.runs] == ["r0", "r1"]
    assert page.total_size == 3
    row = page.runs[1]
    assert (row.display_name, row.state, row.parameters["n"]) == ("이름 r1", run_pb2.RUN_STATE_SUCCEEDED, 7)
    assert [(one.task, one.output, one.name, one.value) for one in row.metrics] == [
        ("each[0]/train", "metrics", "accuracy", 1.0),
        ("each[1]/train", "metrics", "accuracy", 2.0),
    ]
    assert row.source.state == run_pb2.RUN_SOURCE_STATE_AVAILABLE
    rest = stub.ListMetrics(pb.ListMetricsRequest(page_size=2, page_token=page.next_page_token))
    assert ([row.run_id for row in rest.runs], rest.next_page_token) == (["r2"], "")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.GetArtifactRequest(run_id="r0"), "INVALID_FIELD"),
        (pb.GetArtifactRequest(run_id="r0", artifact_id="r1-imported"), "ARTIFACT_NOT_FOUND"),
        (pb.ListArtifactsRequest(run_id="r0", filter=run_pb2.RunFilter(display_name_contains="x")), "INVALID_FIELD"),
        (pb.ListArtifactsRequest(run_id="../../etc/passwd"), "INVALID_FIELD"),
        (pb.ListArtifactsRequest(run_id="r0", task="없음"), "TASK_NOT_FOUND"),
        (pb.ListMetricsRequest(order_by="accuracy"), "INVALID_FIELD"),
        (pb.ListMetricsRequest(page_size=-1), "INVALID_FIELD"),
        (pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported", offset=-1), "INVALID_FIELD"),
        (pb.ReadArtifactRequest(run_id="r0", artifact_id="없음"), "ARTIFACT_NOT_FOUND"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_fails(stub: ArtifactServiceStub, request_: Message, reason: str) -> None:
    """Every error has its reason."""
    assert _refused(stub, request_) == reason


def _refused(stub: ArtifactServiceStub, request: Message) -> str:
    """The reason with which a request is rejected."""
    verb = type(request).__name__.removesuffix("Request").replace("Artifacts", "").replace("Artifact", "")
    call: Callable[[Message], Any] = getattr(stub, verb)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request)) if verb == "Read" else call(request)
    return reported(caught.value).reason


def test_reading(stub: ArtifactServiceStub, content: Bytes) -> None:
    """A description of the content comes first, then the bytes, read from the location in the run's record."""
    request = pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-train-0-model", path="가/b.txt", offset=2, length=9)
    first, *rest = stub.Read(request)
    assert json.loads(json.dumps(MessageToDict(first.content))) == {
        "name": "모델",
        "mediaType": "application/x-tar",
        "isDirectory": True,
        "entries": [{"path": "가/b.txt", "size": "3"}],
        "entryCount": "1",
    }
    assert [one.chunk for one in rest] == [b"abc", b"def"]
    assert content.asked == [("s3://b/model", ReadArtifactRequest("r0", "r0-train-0-model", "가/b.txt", 2, 9))]


def test_a_file_has_its_size_even_if_it_is_empty(stub: ArtifactServiceStub, content: Bytes) -> None:
    """A size of 0 is a size."""
    content.parts = [replace(FOLDER, is_directory=False, size=0)]
    (only,) = stub.Read(pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported"))
    assert only.content.HasField("size")


def test_who_may_not_read_the_run_reads_no_artifact(stub: ArtifactServiceStub, runs: FakeRuns, content: Bytes) -> None:
    """The run is read first, as the caller; if that is denied, the artifact is not read."""
    runs.bad = {"r0": errors.PermissionDeniedError("not yours")}
    for request in (
        pb.GetArtifactRequest(run_id="r0", artifact_id="r0-imported"),
        pb.ListArtifactsRequest(run_id="r0"),
        pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported"),
    ):
        assert _refused(stub, request) == "PERMISSION_DENIED"
    assert content.asked == []


def test_time_grows_with_what_was_sent(stub: ArtifactServiceStub, content: Bytes) -> None:
    """If the caller sets no deadline, a read has a minute, and two seconds more for each MB that was sent."""
    content.parts = [FOLDER, *([b"x" * 1_000_000] * 3)]
    list(stub.Read(pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported")))
    assert content.left[-1] > 61
    content.left.clear()
    list(stub.Read(pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported"), timeout=30))
    assert content.left[-1] < 30


def test_a_store_that_fails_in_the_middle(stub: ArtifactServiceStub, content: Bytes) -> None:
    """The bytes read before the error arrive, and then the error."""
    content.parts.append(errors.ArtifactStoreUnavailableError("the store is unreachable"))
    arrived = []
    with pytest.raises(grpc.RpcError) as caught:
        arrived += [one.chunk for one in stub.Read(pb.ReadArtifactRequest(run_id="r0", artifact_id="r0-imported"))]
    assert reported(caught.value).reason == "ARTIFACT_STORE_UNAVAILABLE"
