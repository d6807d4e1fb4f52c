"""Inputs and outputs of tasks of a file of KFP v1: Argo has them in the nodes, v1beta1 has the logged metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from kfadapter_grpc.contract.run_outputs import RunInput, RunOutput
from kfadapter_grpc.kfp.run_outputs import METRICS, artifact
from kfadapter_grpc.kfp.workflow import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.contract.runs import RunTask
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.workflow import NodeJson, Step, StoredJson, Workflow

LOGGED = "mlpipeline-metrics"
"""The artifact in which a task logs metrics; KFP's agent reads it, and v1beta1 serves the numbers."""
_LOGS = "main-logs"


def with_outputs(
    workflow: Workflow, tasks: Iterable[RunTask], steps: Mapping[str, Step], metrics: Mapping[str, Mapping[str, float]]
) -> list[RunTask]:
    """Adds inputs and outputs to tasks.

    Args:
        workflow: The Workflow.
        tasks: Its tasks.
        steps: Their steps by task_id.
        metrics: The metrics by the id of the node that logged them.
    """
    made: dict[str, RunArtifact] = {}
    completed = []
    for task in tasks:
        outputs = list(_outputs(workflow, task, steps[task.task_id], metrics))
        made |= {one.uri: one for output in outputs for one in output.artifacts if one.uri}
        completed.append(replace(task, outputs=tuple(sorted(outputs, key=lambda one: one.name))))
    names = {task.task_id: task.name for task in completed}
    return [replace(task, inputs=_inputs(workflow, steps[task.task_id], made, names)) for task in completed]


def _outputs(
    workflow: Workflow, task: RunTask, step: Step, metrics: Mapping[str, Mapping[str, float]]
) -> Iterator[RunOutput]:
    node = step.attempts[-1] if step.attempts else step.outer
    found = node.outputs
    for parameter in (found and found.parameters) or ():
        if parameter.value is not None:
            yield RunOutput(parameter.name, value=cast("Json", parameter.value))
    stored = [one for one in (found and found.artifacts) or () if one.name != _LOGS]
    logged = metrics.get(node.id, {})
    for one in stored:
        yield RunOutput.of(one.name, _artifact(workflow, task, node, one, logged if one.name == LOGGED else {}))
    if logged and LOGGED not in {one.name for one in stored}:
        yield RunOutput.of(LOGGED, _artifact(workflow, task, node, None, logged))


def _artifact(
    workflow: Workflow, task: RunTask, node: NodeJson, stored: StoredJson | None, logged: Mapping[str, float]
) -> RunArtifact:
    name = stored.name if stored else LOGGED
    return artifact(
        METRICS if name == LOGGED else "system.Artifact",
        dict(logged),
        name=name,
        uri=workflow.uri(stored) if stored else "",
        artifact_id=f"{node.id}/{name}",
        run_id=workflow.run_id,
        task_id=task.task_id,
        created_at=moment(node.finished_at),
    )


def _inputs(
    workflow: Workflow, step: Step, made: Mapping[str, RunArtifact], names: Mapping[str, str]
) -> tuple[RunInput, ...]:
    node = step.attempts[-1] if step.attempts else step.outer
    found = node.inputs
    given: Sequence[RunInput] = [
        RunInput(one.name, cast("Json", one.value))
        for one in (found and found.parameters) or ()
        if one.value is not None
    ]
    taken = []
    for one in (found and found.artifacts) or ():
        if uri := workflow.uri(one):
            known = made.get(uri) or artifact("system.Artifact", {}, name=one.name, uri=uri, run_id=workflow.run_id)
            source = (names[known.task_id], known.name) if known.task_id else ("", "")
            taken.append(RunInput(one.name, None, (known,), *source, has_value=False))
    return tuple(sorted((*given, *taken), key=lambda one: one.name))
