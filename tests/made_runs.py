"""Hand-made runs for tests of artifacts and metrics, independent of the KFP version."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

from structlog.testing import capture_logs

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import ArtifactContent
from kfadapter_grpc.contract.listing import Page, PageRequest, View
from kfadapter_grpc.contract.run_outputs import RunInput, RunOutput
from kfadapter_grpc.contract.runs import Run, RunFilter, RunSource, RunSources, RunSourceState, RunState, RunTask
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.kfp.artifacts import Artifacts
from kfadapter_grpc.kfp.run_nodes import RunNodes, artifact, metrics_of
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.services.artifacts import ArtifactServicer
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.artifacts import ReadArtifactRequest
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.kfp.runs import Runs

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
READABLE = RunSources(RunSource(RunSourceState.AVAILABLE), RunSource(RunSourceState.AVAILABLE))


def made(run_id: str, task_id: str, name: str, kind: str = "Model", **metadata: float) -> RunArtifact:
    """Returns an artifact of a task."""
    return artifact(
        kind,
        metadata,
        name=name,
        uri=f"s3://b/{name}",
        artifact_id=f"{run_id}-{task_id}-{name}",
        run_id=run_id,
        task_id=task_id,
    )


def run_of(run_id: str, accuracy: float = 0.5) -> Run:
    """Returns a run with two trainings in a loop, a group that collects their models, and a check that takes one."""
    models = [made(run_id, f"train-{index}", "model") for index in range(2)]
    loop = RunTask("each", "each", kind=TaskKind.LOOP, outputs=(RunOutput.of("models", *models),))
    trained = [
        RunTask(
            "train",
            f"train-{index}",
            parent_task_id="each",
            iteration_index=index,
            outputs=(
                RunOutput("loss", 0.1),
                RunOutput.of("metrics", made(run_id, f"train-{index}", "metrics", "Metric", accuracy=accuracy + index)),
                RunOutput.of("model", one),
            ),
        )
        for index, one in enumerate(models)
    ]
    imported = artifact("Dataset", {}, name="data", artifact_id=f"{run_id}-imported", run_id=run_id)
    checked = RunTask("검사", "check", inputs=(RunInput("data", artifacts=(imported,)),))
    tasks = (loop, *trained, checked)
    return Run(
        run_id,
        f"이름 {run_id}",
        RunState.SUCCEEDED,
        created_at=AT,
        parameters={"n": 7},
        tasks=tasks,
        sources=READABLE,
        metrics=metrics_of(tasks),
    )


@dataclass
class FakeRuns:
    """Runs in memory; those in `bad` cannot be read, and each read takes `seconds`."""

    runs: dict[str, Run]
    bad: dict[str, errors.AdapterError] = field(default_factory=dict)
    seconds: float = 0.0
    reads: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self, _: RunFilter, page: PageRequest, __: Call) -> Page[Run]:
        """Lists runs; a page token is the number of runs before the page."""
        start = int(page.token or 0)
        end = start + page.size
        items = [replace(one, tasks=(), metrics=(), sources=None) for one in list(self.runs.values())[start:end]]
        return Page(tuple(items), str(end) if end < len(self.runs) else "", len(self.runs))

    def get(self, run_id: str, _: View, call: Call) -> Run:
        """Gets a run, regardless of the view."""
        return self.get_complete(run_id, call)

    def get_with_nodes(self, run_id: str, call: Call) -> tuple[Run, RunNodes]:
        """Gets a run and the recorded store sessions of its artifacts."""
        run = self.get_complete(run_id, call)
        ports = [port.artifacts for task in run.tasks for port in task.inputs]
        ports += [port.artifacts for task in run.tasks for port in task.outputs]
        stores = {one.artifact_id: f"session of {one.artifact_id}" for port in ports for one in port}
        return run, RunNodes(stores=stores)

    def get_complete(self, run_id: str, call: Call) -> Run:
        """Gets a run."""
        with self.lock:
            self.reads.append(run_id)
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            wait = min(self.seconds, call.remaining())
            if wait > 0 and call.cancelled_within(wait):
                raise errors.CallCancelledError("the client cancelled the call")
            if call.remaining() <= 0:
                raise errors.KfpTimeoutError("late")
            if run_id in self.bad:
                raise self.bad[run_id]
            if run_id not in self.runs:
                raise errors.RunNotFoundError(f"not found: run {run_id}", resource_name=run_id)
            return self.runs[run_id]
        finally:
            with self.lock:
                self.at_once -= 1


DATA = "한글 모델\n".encode() * 1000
FILE = ArtifactContent("모델.bin", "application/octet-stream", len(DATA))
ID = "r0-train-0-model"


@dataclass
class Store:
    """The bytes of one artifact; each entry of `breaks` breaks one read after that many bytes."""

    content: ArtifactContent = FILE
    data: bytes = DATA
    breaks: list[tuple[int, Exception]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    @contextmanager
    def read(
        self, _: RunArtifact, request: ReadArtifactRequest, __: Call, ___: str
    ) -> Iterator[Iterator[ArtifactContent | bytes]]:
        """Reads from the offset on."""
        self.offsets.append(request.offset)
        yield self._parts(request)

    def _parts(self, request: ReadArtifactRequest) -> Iterator[ArtifactContent | bytes]:
        yield self.content
        data = self.data[request.offset :]
        after, error = self.breaks.pop(0) if self.breaks else (len(data), None)
        for begin in range(0, min(after, len(data)), 1000):
            yield data[begin : min(begin + 1000, after)]
        if error is not None:
            raise error


@contextmanager
def serving_artifacts(runs: FakeRuns, store: Store, *others: object) -> Iterator[str]:
    """Serves the artifacts of the runs; yields the adapter's address."""
    artifacts = Artifacts(cast("Runs", runs))
    settings = Settings.load(config=None, listen="127.0.0.1:0")
    servicers = [ArtifactServicer(artifacts, read=store.read), *others]
    with capture_logs(), AdapterServer(settings, servicers, lambda: True) as server:
        yield server.address
    artifacts.close()
