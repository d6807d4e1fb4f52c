"""The components of a pipeline, and the sources of the inputs of their tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from kfadapter_grpc.contract.spec import Task
from kfadapter_grpc.kfp.spec.part import MAX_PART_BYTES, Part
from kfadapter_grpc.kfp.spec.tree import MAX_TASKS, without_cycles
from kfadapter_grpc.kfp.spec.values import one_line, shortened

_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
_STRATEGIES = {"", "TRIGGER_STRATEGY_UNSPECIFIED", "ALL_UPSTREAM_TASKS_SUCCEEDED", _COMPLETED}
_FIELD = re.compile(r"""parseJson\(string_value\)\["([^"]*)"\]""")


@dataclass(frozen=True, slots=True)
class Input:
    """The source of an input; one of `outer`, `task` and `constant` is set.

    Attributes:
        outer: An input of the group that the task is in; `task` is one of the same group.
        constant: A value, as text.
        field: The only field that is used of it.
    """

    outer: str = ""
    task: str = ""
    output: str = ""
    constant: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Loop:
    """The items that a task runs over.

    Attributes:
        item: The input that holds the current item.
        items: The input that holds the items; empty if they are `raw`.
    """

    part: Part
    item: str
    items: str
    raw: str


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as its group declares it; one `at_end` runs whatever the outcome of those that it depends on."""

    part: Part
    task: Task
    inputs: Mapping[str, Input]
    condition: str
    at_end: bool
    loop: Loop | None


@dataclass(frozen=True, slots=True)
class Component:
    """A component: an executor's label, or a group of tasks.

    Attributes:
        outputs: The outputs of a group: the tasks inside it, and their outputs, of which one provides the value.
    """

    part: Part
    label: str = ""
    is_group: bool = False
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)
    outputs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


def read_component(part: Part) -> Component:
    """Reads a component whose keys were checked, or the root."""
    if not part.has("dag"):
        return Component(part, part["executorLabel"].text())
    dag = part["dag"].known("tasks outputs")
    return Component(part, is_group=True, tasks=_tasks(dag["tasks"]), outputs=_outputs(dag["outputs"]))


def _tasks(part: Part) -> dict[str, TaskSpec]:
    parts = dict(islice(part.entries(), MAX_TASKS))
    if len(parts) == MAX_TASKS:
        part.note()
    for task in parts.values():
        task.known(
            "taskInfo componentRef dependentTasks inputs cachingOptions triggerPolicy retryPolicy parameterIterator"
            " artifactIterator iteratorPolicy"
        )
    inputs = {name: _inputs(task["inputs"].known("parameters artifacts")) for name, task in parts.items()}
    declared = {name: _depends_on(task["dependentTasks"], inputs[name], inputs.keys()) for name, task in parts.items()}
    ordered = without_cycles(declared)
    for name, before in ordered.items():
        if len(before) < len(declared[name]):
            parts[name]["dependentTasks"].note()
    return {name: _task(name, parts[name], inputs[name], before) for name, before in ordered.items()}


def _depends_on(part: Part, inputs: Mapping[str, Input], known: Iterable[str]) -> tuple[str, ...]:
    declared = [item.text() for item in part.items()]
    before = dict.fromkeys([*declared, *(item.task for item in inputs.values() if item.task)])
    existing = tuple(item for item in before if item in known)
    if len(existing) < len(before):
        part.note()
    return existing


def _task(name: str, part: Part, inputs: Mapping[str, Input], depends_on: tuple[str, ...]) -> TaskSpec:
    trigger = part["triggerPolicy"].known("condition strategy")
    strategy = trigger["strategy"].text()
    if strategy not in _STRATEGIES:
        trigger["strategy"].note()
    retries = part["retryPolicy"].only("maxRetryCount", "backoffDuration backoffFactor backoffMaxDuration")
    loop = _loop(part)
    task = Task(
        name=name,
        display_name=part["taskInfo"].only("name").text() or name,
        component=part["componentRef"].only("name").text(),
        depends_on=depends_on,
        caching_enabled=part["cachingOptions"].only("enableCache", "cacheKey").flag(),
        max_retries=retries.count(),
        loop_parallelism=part["iteratorPolicy"].only("parallelismLimit").count() if loop else 0,
    )
    return TaskSpec(part, task, inputs, trigger["condition"].text(), strategy == _COMPLETED, loop)


def _loop(task: Part) -> Loop | None:
    key = task.first("parameterIterator", "artifactIterator")
    if key is None:
        return None
    part = task[key].known("items itemInput")
    items = part["items"].known("raw inputParameter inputArtifact")
    return Loop(
        part=part,
        item=part["itemInput"].text(),
        items=items["inputParameter"].text() or items["inputArtifact"].text(),
        raw=items["raw"].text(),
    )


def _outputs(part: Part) -> dict[str, tuple[tuple[str, str], ...]]:
    part.known("parameters artifacts")
    outputs = {}
    for name, one in part["artifacts"].entries():
        outputs[name] = _selected(one.only("artifactSelectors").items())
    for name, one in part["parameters"].entries():
        choices = one.known("valueFromParameter valueFromOneof")["valueFromOneof"].only("parameterSelectors").items()
        outputs[name] = _selected([one["valueFromParameter"]] if one.has("valueFromParameter") else choices)
    return outputs


def _selected(selectors: Iterable[Part]) -> tuple[tuple[str, str], ...]:
    known = [one.known("producerSubtask outputParameterKey outputArtifactKey") for one in selectors]
    return tuple(
        (one["producerSubtask"].text(), one["outputParameterKey"].text() or one["outputArtifactKey"].text())
        for one in known
    )


def _inputs(part: Part) -> dict[str, Input]:
    """Reads the inputs of a task, parameters and artifacts alike: KFP keeps their names apart."""
    inputs = {name: _artifact(input_) for name, input_ in part["artifacts"].entries()}
    return inputs | {name: read_parameter(input_) for name, input_ in part["parameters"].entries()}


def _artifact(part: Part) -> Input:
    if part.known("componentInputArtifact taskOutputArtifact").has("taskOutputArtifact"):
        return _output(part["taskOutputArtifact"], "")
    return Input(outer=part["componentInputArtifact"].text())


def read_parameter(part: Part) -> Input:
    """Reads the source of a parameter; an unknown source is noted."""
    part.known("componentInputParameter taskOutputParameter runtimeValue taskFinalStatus parameterExpressionSelector")
    selector = part["parameterExpressionSelector"].text()
    match = _FIELD.fullmatch(selector)
    if selector and match is None:
        part["parameterExpressionSelector"].note()
    field_ = match[1] if match else selector
    if part.has("componentInputParameter"):
        return Input(outer=part["componentInputParameter"].text(), field=field_)
    if part.has("taskOutputParameter"):
        return _output(part["taskOutputParameter"], field_)
    if part.has("taskFinalStatus"):
        return Input(task=part["taskFinalStatus"].only("producerTask").text(), output="status")
    return Input(constant=_constant(part["runtimeValue"]), field=field_)


def _output(part: Part, field_: str) -> Input:
    part.known("producerTask outputParameterKey outputArtifactKey")
    output = part["outputParameterKey"].text() or part["outputArtifactKey"].text()
    return Input(task=part["producerTask"].text(), output=output, field=field_)


def _constant(part: Part) -> str:
    """Describes a value: a text in quotes, anything else as JSON."""
    part.known("constant constantValue runtimeParameter")
    if part.has("runtimeParameter"):
        return part["runtimeParameter"].text()
    if "constant" in part:
        return _describe(part["constant"])
    old = part["constantValue"].known("stringValue intValue doubleValue")
    key = old.first("stringValue", "intValue", "doubleValue") or "stringValue"
    return old[key].text() if key == "intValue" else _describe(old[key])


def _describe(part: Part) -> str:
    """A value that is too large to be shown is not noted: it is not part of a summary."""
    if part.size > MAX_PART_BYTES:
        return "…"
    is_readable, value = part.peek()
    return shortened(f"'{value}'" if isinstance(value, str) else one_line(value)) if is_readable else ""
