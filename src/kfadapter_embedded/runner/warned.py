"""Warnings about what would behave differently on a cluster: the task runs here, and has a warning."""

from __future__ import annotations

from collections.abc import Mapping

from kfadapter_grpc.check import rules

from .outcome import Outcome
from .spec import Dag, Output, Pipeline
from .values import ValueFaultError


class TaskWarnings:
    """The warnings of one task, without duplicates; in strict mode the task fails instead, as on a cluster."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._texts: dict[str, None] = {}

    def warn(self, text: str) -> None:
        """Adds a warning: what a cluster does, and what to change; in strict mode raises ValueFaultError."""
        if self._strict:
            raise ValueFaultError(text)
        self._texts[text] = None

    def remark(self, text: str) -> None:
        """Adds a note about a difference on this machine that would not fail on a cluster."""
        self._texts[text] = None

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)


def warn_of_upstream(
    pipeline: Pipeline, dag: Dag, key: str, done: Mapping[str, Outcome], warnings: TaskWarnings
) -> None:
    """Warns about dependencies that a cluster handles differently: lists that loops collected, and exit hooks.

    Raises ValueFaultError in strict mode, and for outputs that a group lacks (`resolveUpstreamParameters`).
    """
    task = dag.tasks[key]
    for name, source in {**task.inputs.parameters, **task.inputs.artifacts}.items():
        if source.output:
            _warn_of_output(pipeline, dag, name, source.output, done[source.output.task], warnings=warnings)
    for one in sorted(task.depends_on):
        if dag.tasks[one].always:
            warnings.warn(rules.IGNORED_DEPENDENTS.text(task=one))
        elif task.always and (dag.tasks[one].loop or pipeline.component(dag.tasks[one]).executor.importer):
            warnings.warn(rules.IGNORED_WITHOUT_HOOK.text(task=one))
        elif task.always and done[one].known in {"", "CANCELED"}:
            warnings.warn(rules.IGNORED_SKIPPED.text(task=one))
        elif task.always and (other := max(dag.ignoring(one))) != key:
            warnings.warn(rules.IGNORED_SHARED.text(other=other, task=one))
    if task.always and len(task.depends_on) > 1:
        warnings.warn(rules.IGNORED_TWICE.text(count=str(len(task.depends_on))))


def _warn_of_output(
    pipeline: Pipeline, dag: Dag, name: str, output: Output, outcome: Outcome, *, warnings: TaskWarnings
) -> None:
    """Warns of an output that becomes the input `name`."""
    producer = dag.tasks[output.task]
    component = pipeline.component(producer)
    if component.dag and output.key not in {**component.dag.outputs.parameters, **component.dag.outputs.artifacts}:
        raise ValueFaultError(f"task, {output.task}, does not have a parameter_producer_task for {output.key!r}")
    if component.executor.importer and producer.task_info.get("name", output.task) != output.task:
        warnings.warn(rules.IMPORTER_DISPLAY_NAME.text(input=name, task=output.task))
    if rule := outcome.values.collected.get(output.key):
        warnings.warn(rule.text(input=name, loop=output.task))
