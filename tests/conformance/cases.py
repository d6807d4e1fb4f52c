"""Pipelines with runs recorded on a KFP: such a run has the same result on every KFP.

The results are in `records/`, written by hand from the recordings, in the notation of `shown`. What a KFP cannot
report is a named difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_grpc.codec import to_record
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter.v1 import run_pb2
    from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput
    from kfadapter_grpc.contract.runs import RunTask
    from kfadapter_grpc.contract.spec import Json

RECORDS = Path(__file__).parent / "records"
TARGET, NEXT, OLD = "target", "next", "mlmd"
"""The server under test; the replayed KFP that follows 2.17, and 2.17 with ML Metadata."""
WHY_FAILED = {TARGET: "RuntimeError: {}", NEXT: "exit status 1", OLD: "Error (exit code 1)"}
"""What is reported of a component that raised an error: only the embedded KFP knows its words."""
SIX_DECIMALS = {
    '"big": 1.5e+300': '"big": 1e+65',
    '"negative": -1.5e-06': '"negative": -2e-06',
    '"pi": 3.141592653589793': '"pi": 3.141593',
    '"tiny": 1e-07': '"tiny": 0',
    "odd-metadata.big = 1.5e+300": "odd-metadata.big = 1e+65",
    "odd-metadata.negative = -1.5e-06": "odd-metadata.negative = -2e-06",
    "odd-metadata.pi = 3.141592653589793": "odd-metadata.pi = 3.141593",
    "odd-metadata.tiny = 1e-07": "odd-metadata.tiny = 0.0",
}
"""Metrics in ML Metadata, unless they are output parameters as well: six decimals, in the range of MariaDB."""


@dataclass(frozen=True)
class Case:
    """A pipeline and a run of it.

    Attributes:
        kfp: The KFP on which it was recorded.
        name: The recording.
        pipeline: The name of the pipeline.
        parameters: Those of the run; `{folder}` is a folder of this machine.
        until: How the run proceeds: it ends, is retried after a failure, is terminated, or repeats an earlier run.
        raised: The error of the component that fails.
        same_as: The recording with the same result, except for the cache.
        differs: What ML Metadata has instead of parts of that.
    """

    kfp: str
    name: str
    pipeline: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    until: str = "ended"
    raised: str = ""
    same_as: str = ""
    differs: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kfp}-{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether its tasks must run on this machine."""
        return "{folder}" in str(self.parameters) or self.name == "imports"

    def shows(self, kfp: str) -> str:
        """The result of its run."""
        text = (RECORDS / f"{self.kfp}_{self.same_as or self.name}.txt").read_text("utf-8").rstrip()
        if self.same_as:
            text = text.replace(" container", " container cached")
        for one, other in self.differs.items() if kfp == OLD else ():
            assert one in text
            text = text.replace(one, other)
        return text


CASES = (
    Case(NEXT, "outputs", "outputs", {"text": "hello 190244"}),
    Case(OLD, "artifacts_all", "artifacts-all"),
    Case(OLD, "all_types", "all-types"),
    Case(OLD, "odd_metadata", "odd-metadata", differs=SIX_DECIMALS),
    Case(NEXT, "loop", "loop-collect", {"numbers": [78964, 78965, 78966]}),
    Case(OLD, "loop_collect", "loop-collect"),
    Case(OLD, "list_output", "list-output"),
    Case(NEXT, "loops", "loop-nested", {"xs": [1, 311], "ys": [10, 20]}),
    Case(OLD, "nested_loop", "nested-loop"),
    Case(NEXT, "conditions", "conditions"),
    Case(OLD, "branches", "branches"),
    Case(NEXT, "cached", "outputs", {"text": "hello 190244"}, "repeated", same_as="outputs"),
    Case(OLD, "artifacts_cached", "artifacts-all", until="repeated", same_as="artifacts_all"),
    Case(NEXT, "fails", "fails", {"message": "no such table: customers"}, raised="no such table: customers"),
    Case(NEXT, "exits", "exits", raised="broken on purpose"),
    Case(OLD, "exit_handler", "exit-handler", raised="broken on purpose"),
    Case(NEXT, "retries", "retries", {"marker": "{folder}/marker-a190244"}),
    Case(OLD, "retried", "retried", {"where": "{folder}/flaky-1"}),
    Case(NEXT, "retried", "retry-run", {"marker": "{folder}/marker-b190244"}, "retried"),
    Case(NEXT, "nested", "nested", {"x": 36}),
    Case(OLD, "nested", "nested"),
    Case(NEXT, "imports", "imports"),
    Case(OLD, "imports", "imports", {"uri": "file://{folder}/model.txt"}),
    Case(NEXT, "naps", "naps", {"seconds": 60}, "terminated"),
    Case(OLD, "naps_killed", "naps", {"seconds": 60}, "terminated"),
)


def shown(message: run_pb2.Run, *, cached: bool = False) -> str:
    """The properties of a run that the pipeline determines, in the order of the paths of its tasks.

    A line `PATH STATE kind` for each task, then `< name = value, from task.output` for each input, `> name` for each
    output, an artifact as `MAKER/name Type {metadata}`; at the end `TASK.metric = value`. The pipeline determines only
    the last part of paths and addresses, and only the task and the state of a final status. The cache counts
    only where a result must come from it.
    """
    run = to_record(message, Run)
    paths = TaskPaths(run.tasks)
    makers = {task.task_id: paths.of(task) for task in run.tasks}
    lines = [run.state.value]
    for task in sorted(run.tasks, key=paths.of):
        lines.append(f"{paths.of(task)} {_words(task, cached=cached)}")
        lines += [f"  < {_taken(one, makers)}" for one in task.inputs]
        for output in task.outputs:
            items = [f": {_maker(one, makers)} {_artifact(one)}" for one in output.artifacts]
            lines += [f"  > {output.name}{item}" for item in items or [f" = {_text(output.value)}"]]
    return "\n".join([*lines, *(f"{one.task}.{one.name} = {one.value}" for one in run.metrics)])


def _words(task: RunTask, *, cached: bool) -> str:
    words = [task.state.value, task.kind.value]
    words += [f"x{task.attempts}"] if task.attempts > 1 else []
    return " ".join([*words, "cached"] if cached and task.cached else words)


def _taken(one: RunInput, makers: Mapping[str, str]) -> str:
    source = f", from {one.source_task}.{one.source_output}" if one.source_task else ""
    artifacts = ", ".join(_maker(artifact, makers) for artifact in one.artifacts)
    return f"{one.name}: {artifacts}{source}" if artifacts else f"{one.name} = {_text(one.value)}{source}"


def _maker(one: RunArtifact, makers: Mapping[str, str]) -> str:
    return f"{makers.get(one.task_id, '?')}/{one.name}"


def _artifact(one: RunArtifact) -> str:
    return f"{one.type.removeprefix('system.')} {_text(dict(one.metadata))}"


def _text(value: Json) -> str:
    if isinstance(value, str) and (value.startswith("/") or "://" in value):
        value = f".../{value.rpartition('/')[2]}"
    if isinstance(value, dict) and "pipelineTaskName" in value:
        return f"{value['state']} of {value['pipelineTaskName']}"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
