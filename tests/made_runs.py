"""Runs made up for tests of artifacts and metrics, whichever KFP they might come from."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import Page, PageRequest
from kfadapter_grpc.contract.run_outputs import RunInput, RunOutput
from kfadapter_grpc.contract.runs import Run, RunFilter, RunSource, RunSources, RunSourceState, RunState, RunTask
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.kfp.run_outputs import artifact, metrics_of

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.run_outputs import RunArtifact

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
READABLE = RunSources(RunSource(RunSourceState.AVAILABLE), RunSource(RunSourceState.AVAILABLE))


def made(run_id: str, task_id: str, name: str, kind: str = "Model", **metadata: float) -> RunArtifact:
    """An artifact of a task."""
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
    """A run with two trainings in a loop, a group that collects their models, and a check that takes one."""
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
    """Runs in memory: those of `bad` cannot be read, and reading takes `seconds`."""

    runs: dict[str, Run]
    bad: dict[str, errors.AdapterError] = field(default_factory=dict)
    seconds: float = 0.0
    reads: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self, _: RunFilter, page: PageRequest, __: Call) -> Page[Run]:
        """Lists runs; a token is the number of runs before the page."""
        start = int(page.token or 0)
        end = start + page.size
        items = [replace(one, tasks=(), metrics=(), sources=None) for one in list(self.runs.values())[start:end]]
        return Page(tuple(items), str(end) if end < len(self.runs) else "", len(self.runs))

    def get_complete(self, run_id: str, call: Call) -> Run:
        """Reads a run."""
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
            return self.runs[run_id]
        finally:
            with self.lock:
                self.at_once -= 1
