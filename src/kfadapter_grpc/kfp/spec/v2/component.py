"""The components of a pipeline, each read once however many tasks use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec.order import without_circles
from kfadapter_grpc.kfp.spec.tree import MOST_TASKS
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.v2.inputs import Input, producers, read_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kfadapter_grpc.kfp.spec.level import Level
    from kfadapter_grpc.kfp.spec.part import Fields, Part

_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
_STRATEGIES = {"", "TRIGGER_STRATEGY_UNSPECIFIED", "ALL_UPSTREAM_TASKS_SUCCEEDED", _COMPLETED}


@dataclass(frozen=True, slots=True)
class Loop:
    """What a task runs over.

    Attributes:
        part: Where it stands.
        item: The input that the present item has.
        items: The input that holds the items; empty where they are `raw`.
        raw: The items as they stand.
        parallelism: How many run at once; 0 means as many as there are.
    """

    part: Part
    item: str
    items: str
    raw: str
    parallelism: int


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as its group declares it.

    Attributes:
        part: Where it stands.
        name: Its name in the group.
        display_name: What people see.
        component: The component that it runs.
        depends_on: The names of the tasks that must be over before.
        inputs: Where its inputs come from.
        condition: The condition under which it runs, as it stands.
        at_end: Whether it runs whatever became of the tasks that it depends on.
        loop: What it runs over, if it does.
        caching_enabled: Whether earlier results may be used again.
        max_retries: How often it is tried again.
    """

    part: Part
    name: str
    display_name: str
    component: str
    depends_on: tuple[str, ...]
    inputs: Mapping[str, Input]
    condition: str
    at_end: bool
    loop: Loop | None
    caching_enabled: bool
    max_retries: int


@dataclass(frozen=True, slots=True)
class Component:
    """A component: an executor's label, or a group of tasks.

    Attributes:
        part: Where it stands.
        label: The executor's label.
        is_group: Whether it is a group of tasks.
        tasks: The tasks, in an order in which they can run.
        outputs: The outputs of a group: the tasks inside it, and their outputs, of which one gives the value.
    """

    part: Part
    label: str = ""
    is_group: bool = False
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)
    outputs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


def read_component(part: Part, level: Level = levels.COMPONENT) -> Component:
    """Reads a component, or the root."""
    fields = part.fields(level)
    if not fields.has("dag"):
        return Component(part, fields["executorLabel"].text())
    dag = fields["dag"].fields(levels.DAG)
    return Component(part, is_group=True, tasks=_tasks(dag["tasks"]), outputs=_outputs(dag["outputs"]))


def _tasks(part: Part) -> dict[str, TaskSpec]:
    parts = dict(islice(part.entries(), MOST_TASKS))
    if len(parts) == MOST_TASKS:
        part.note()
    fields = {name: one.fields(levels.TASK) for name, one in parts.items()}
    inputs = {name: read_inputs(one["inputs"]) for name, one in fields.items()}
    declared = {name: _depends_on(name, one, inputs) for name, one in fields.items()}
    ordered = without_circles(declared)
    for name, before in ordered.items():
        if len(before) < len(declared[name]):
            fields[name]["dependentTasks"].note()
    return {name: _task(parts[name], name, fields[name], inputs[name], before) for name, before in ordered.items()}


def _depends_on(name: str, fields: Fields, inputs: Mapping[str, Mapping[str, Input]]) -> tuple[str, ...]:
    """The tasks that are declared to be before, and those that inputs come from."""
    declared = [one.text() for one in fields["dependentTasks"].items()]
    before = dict.fromkeys([*declared, *producers(inputs[name].values())])
    if not before.keys() <= inputs.keys():
        fields["dependentTasks"].note()
    return tuple(one for one in before if one in inputs)


def _task(part: Part, name: str, fields: Fields, inputs: Mapping[str, Input], depends_on: tuple[str, ...]) -> TaskSpec:
    trigger = fields["triggerPolicy"].fields(levels.TRIGGER)
    strategy = trigger["strategy"].text()
    if strategy not in _STRATEGIES:
        trigger["strategy"].note()
    return TaskSpec(
        part=part,
        name=name,
        display_name=fields["taskInfo"].fields(levels.TASK_INFO)["name"].text() or name,
        component=fields["componentRef"].fields(levels.COMPONENT_REF)["name"].text(),
        depends_on=depends_on,
        inputs=inputs,
        condition=trigger["condition"].text(),
        at_end=strategy == _COMPLETED,
        loop=_loop(fields),
        caching_enabled=fields["cachingOptions"].fields(levels.CACHING)["enableCache"].flag(),
        max_retries=fields["retryPolicy"].fields(levels.RETRY)["maxRetryCount"].count(),
    )


def _loop(fields: Fields) -> Loop | None:
    key = next((key for key in ("parameterIterator", "artifactIterator") if fields.has(key)), None)
    if key is None:
        return None
    iterator = fields[key].fields(levels.ITERATOR)
    items = iterator["items"].fields(levels.ITEMS)
    return Loop(
        part=fields[key],
        item=iterator["itemInput"].text(),
        items=items["inputParameter"].text() or items["inputArtifact"].text(),
        raw=items["raw"].text(),
        parallelism=fields["iteratorPolicy"].fields(levels.ITERATOR_POLICY)["parallelismLimit"].count(),
    )


def _outputs(part: Part) -> dict[str, tuple[tuple[str, str], ...]]:
    fields = part.fields(levels.DAG_OUTPUTS)
    outputs = {}
    for name, one in fields["artifacts"].entries():
        outputs[name] = _selected(one.fields(levels.DAG_ARTIFACT)["artifactSelectors"].items())
    for name, one in fields["parameters"].entries():
        given = one.fields(levels.DAG_PARAMETER)
        several = given["valueFromOneof"].fields(levels.ONE_OF)["parameterSelectors"].items()
        outputs[name] = _selected([given["valueFromParameter"]] if given.has("valueFromParameter") else several)
    return outputs


def _selected(parts: Iterable[Part]) -> tuple[tuple[str, str], ...]:
    selectors = [part.fields(levels.SELECTOR) for part in parts]
    return tuple(
        (one["producerSubtask"].text(), one["outputParameterKey"].text() or one["outputArtifactKey"].text())
        for one in selectors
    )
