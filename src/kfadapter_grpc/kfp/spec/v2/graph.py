"""The tasks of a pipeline as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.kfp.spec.report import LARGEST_PART
from kfadapter_grpc.kfp.spec.source import Source, Sources, item_of, no_sources, shortened
from kfadapter_grpc.kfp.spec.tree import Group, Node
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.v2.component import Component, read_component
from kfadapter_grpc.kfp.spec.v2.condition import condition_in_words
from kfadapter_grpc.kfp.spec.v2.executor import Executor, read_executor
from kfadapter_grpc.kfp.spec.v2.kubernetes import Extra, read_extras, read_platform
from kfadapter_grpc.kfp.spec.values import one_line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.part import Fields, Part
    from kfadapter_grpc.kfp.spec.v2.component import Loop, TaskSpec
    from kfadapter_grpc.kfp.spec.v2.inputs import Input

_CHANNEL = "pipelinechannel--"
"""How KFP's compiler begins the names of what it passes into groups that it made itself."""
_DEEPEST_OUTPUT = 20


class Graph:
    """Reads components and executors on demand, each once."""

    def __init__(self, pipeline: Fields, platform_spec: Part) -> None:
        self._root = pipeline["root"]
        self._component_parts = dict(pipeline["components"].entries())
        deployment = pipeline["deploymentSpec"].fields(levels.DEPLOYMENT)
        self._executor_parts = dict(deployment["executors"].entries())
        self._platform = read_platform(platform_spec)
        self._components: dict[str, Component] = {}
        self._executors: dict[str, tuple[Executor, tuple[Extra, ...]]] = {}
        self._outputs: dict[tuple[str, str], str] = {}

    def root(self) -> Group:
        """The pipeline's own tasks."""
        component = read_component(self._root, levels.ROOT)
        if component.label:
            self._root.child("executorLabel").note()
        return self._group("", component, no_sources)

    def _group(self, name: str, component: Component, outer: Sources) -> Group:
        part = component.part.child("dag").child("tasks")
        return Group(name, part, lambda: self._nodes(component, outer))

    def _nodes(self, group: Component, outer: Sources) -> Iterable[Node]:
        for spec in group.tasks.values():
            yield self._node(spec, _Scope(self, group, spec, outer))

    def _node(self, spec: TaskSpec, scope: _Scope) -> Node:
        component = self._component(spec)
        task = self._task(spec, scope, component)
        if component is None or not component.is_group:
            return Node(task, spec.part)
        return Node(task, spec.part, self._group(spec.component, component, scope.inner(task.loop_items)))

    def _task(self, spec: TaskSpec, scope: _Scope, component: Component | None) -> Task:
        executor, extras = self._executor(component) if component else (Executor(), ())
        executor = executor.with_words(scope.words_of)
        return Task(
            name=spec.name,
            display_name=spec.display_name,
            component=spec.component,
            kind=_kind(spec, component, executor),
            image=_bounded(spec.part, executor.image),
            depends_on=spec.depends_on,
            condition=_bounded(spec.part, scope.condition()),
            loop_items=scope.items(),
            resources=executor.resources,
            caching_enabled=spec.caching_enabled,
            kubernetes_extras=tuple(extra.of_task(scope.words_of_input) for extra in extras),
            max_retries=spec.max_retries,
            loop_parallelism=spec.loop.parallelism if spec.loop else 0,
        )

    def _component(self, spec: TaskSpec) -> Component | None:
        """Finds the component that a task runs; notes where there is none."""
        found = self.component(spec.component)
        if found is None:
            spec.part.child("componentRef").note()
        return found

    def component(self, name: str) -> Component | None:
        """Reads a component, once."""
        part = self._component_parts.get(name)
        if part is not None and name not in self._components:
            self._components[name] = read_component(part)
        return self._components.get(name)

    def _executor(self, component: Component) -> tuple[Executor, tuple[Extra, ...]]:
        """Reads the executor of a component, once, with what it uses of Kubernetes."""
        if component.is_group:
            return Executor(), ()
        label = component.label
        if label not in self._executor_parts:
            component.part.child("executorLabel").note()
            return Executor(), ()
        if label not in self._executors:
            extras = read_extras(self._platform[label]) if label in self._platform else ()
            self._executors[label] = (read_executor(self._executor_parts[label]), extras)
        return self._executors[label]

    def output_words(self, group: Component, task: str, output: str, depth: int = 0) -> str:
        """Tells a task's output in words: what comes out of a condition or a loop is called by the task inside."""
        spec = group.tasks.get(task)
        if spec is None or not output.startswith(_CHANNEL) or depth > _DEEPEST_OUTPUT:
            return shortened(f"{task}.{plain(output)}")
        key = (spec.component, output)
        if key not in self._outputs:
            self._outputs[key] = f"{task}.{plain(output)}"  # the answer for whoever comes back here in a circle
            self._outputs[key] = self._inner_output(spec, output, depth) or self._outputs[key]
        return self._outputs[key]

    def _inner_output(self, spec: TaskSpec, output: str, depth: int) -> str:
        component = self.component(spec.component)
        selected = component.outputs.get(output, ()) if component else ()
        if component is None or not selected:
            return ""
        words = [self.output_words(component, task, key, depth + 1) for task, key in selected]
        return words[0] if len(words) == 1 else shortened(f"one of ({', '.join(words)})")


class _Scope:
    """What the names around one task mean."""

    def __init__(self, graph: Graph, group: Component, spec: TaskSpec, outer: Sources) -> None:
        self._graph = graph
        self._group = group
        self._spec = spec
        self._outer = outer

    def inner(self, items: str) -> Sources:
        """What the inputs of the task mean inside it."""
        loop, inputs = self._spec.loop, self._spec.inputs

        def source_of(name: str) -> Source | None:
            if loop and name == loop.item:
                return item_of(items, self._spec.name)
            return self._source(inputs[name]) if name in inputs else None

        return source_of

    def words_of(self, name: str) -> str:
        """An input of the task in words."""
        found = self._spec.inputs.get(name)
        return self.words_of_input(found) if found else plain(name)

    def words_of_input(self, one: Input) -> str:
        """Where an input comes from, in words."""
        return self._source(one).words

    def _source(self, one: Input) -> Source:
        if one.task:
            source = Source(self._graph.output_words(self._group, one.task, one.output))
        elif one.outer:
            source = self._outer(one.outer) or Source(shortened(plain(one.outer)))
        else:
            source = Source(one.constant)
        return source.field(one.field) if one.field else source

    def condition(self) -> str:
        """The condition in words; one that is not understood is told as it stands, and noted."""
        condition = self._spec.condition
        if not condition:
            return ""
        words = condition_in_words(condition, self._known)
        if words is None:
            self._spec.part.child("triggerPolicy").child("condition").note()
        return words or condition

    def _known(self, name: str) -> str | None:
        found = self._spec.inputs.get(name)
        if found:
            return self.words_of_input(found)
        loop = self._spec.loop
        return item_of(self.items(), self._spec.name).words if loop and loop.item == name else None

    def items(self) -> str:
        """What the task runs over, in words; empty where it is no loop."""
        loop = self._spec.loop
        if loop is None:
            return ""
        return self.words_of(loop.items) if loop.items else _raw_items(loop)


def _raw_items(loop: Loop) -> str:
    words = one_line_of(loop.raw)
    if words is None:
        loop.part.note()
    return words or loop.raw


def plain(name: str) -> str:
    """A name without what KFP's compiler put before it."""
    return name.removeprefix(_CHANNEL)


def _kind(spec: TaskSpec, component: Component | None, executor: Executor) -> TaskKind:
    if spec.at_end:
        return TaskKind.EXIT_HANDLER
    if spec.loop:
        return TaskKind.LOOP
    if component is None or not component.is_group:
        return executor.kind
    return TaskKind.CONDITION if spec.condition else TaskKind.DAG


def _bounded(part: Part, text: str) -> str:
    """A text that grew too large with the names in it is noted, not told."""
    if len(text) <= LARGEST_PART:
        return text
    part.note()
    return ""
