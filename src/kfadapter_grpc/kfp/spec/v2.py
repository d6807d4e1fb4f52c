"""A pipeline of KFP v2 (pipeline_spec.proto of KFP 2.17): its inputs, its outputs, and its tasks.

A key of a spec that is neither read nor known to be irrelevant to a summary is listed in `unknown_parts`: `customJob`
and `resolver` of an executor, `singlePlatformSpecs` of a component among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from kfadapter_grpc.contract.spec import Artifact, Json, Parameter, ParameterType, PipelineFormat, SpecSummary, TaskKind
from kfadapter_grpc.kfp.spec.part import MAX_PART_BYTES, Part
from kfadapter_grpc.kfp.spec.tree import Group, Node, build_tasks
from kfadapter_grpc.kfp.spec.v2_component import Component, Input, TaskSpec, read_component
from kfadapter_grpc.kfp.spec.v2_condition import describe_condition
from kfadapter_grpc.kfp.spec.v2_executor import Executor, read_executor, read_executors, read_platform
from kfadapter_grpc.kfp.spec.values import Source, Sources, item_of, no_sources, one_line_of, shortened, typed

Named = TypeVar("Named", Parameter, Artifact)

_TYPES = {kind.value: kind for kind in ParameterType if kind is not ParameterType.UNKNOWN}
_OLD_TYPES = {
    "INT": ParameterType.NUMBER_INTEGER,
    "DOUBLE": ParameterType.NUMBER_DOUBLE,
    "STRING": ParameterType.STRING,
}
_CHANNEL = "pipelinechannel--"
"""The prefix of inputs that KFP's compiler passes into groups that it made itself."""
_MAX_OUTPUT_DEPTH = 20
_TITLE = re.compile(r"""^[ \t]*["']?title["']?[ \t]*:[ \t]*["']?([^\s"',]+)""", re.MULTILINE)


def summarize_pipeline(top: Part, platform_spec: Part) -> SpecSummary:
    top.known(
        "pipelineInfo root components deploymentSpec schemaVersion sdkVersion", "defaultPipelineRoot platform_spec"
    )
    info = top["pipelineInfo"].known("name description", "displayName")
    root = top["root"].known("inputDefinitions outputDefinitions dag executorLabel", "taskConfigPassthroughs")
    inputs = root["inputDefinitions"].known("parameters artifacts")
    outputs = root["outputDefinitions"].known("parameters artifacts")
    return SpecSummary(
        format=PipelineFormat.KFP_V2,
        name=info["name"].counted_text(),
        description=info["description"].counted_text(),
        parameters=_by_name(inputs["parameters"], _input),
        schema_version=top["schemaVersion"].counted_text(),
        sdk_version=top["sdkVersion"].counted_text(),
        input_artifacts=_by_name(inputs["artifacts"], _artifact),
        output_artifacts=_by_name(outputs["artifacts"], _artifact),
        output_parameters=_by_name(outputs["parameters"], _output),
        tasks=build_tasks(_Graph(top, platform_spec).root()),
    )


def _by_name(definitions: Part, read: Callable[[str, Part], Named]) -> tuple[Named, ...]:
    items = [read(name, part) for name, part in definitions.entries() if part.fits_name(name)]
    return tuple(sorted(items, key=lambda item: item.name))


def _input(name: str, part: Part) -> Parameter:
    part.known("parameterType type defaultValue isOptional description literals")
    declared, kind = _type(part)
    has_default, default = part["defaultValue"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=typed(default, kind),
        optional=part["isOptional"].flag() or "defaultValue" in part,
        description=part["description"].counted_text(),
        literals=_literals(part["literals"], kind),
    )


def _literals(part: Part, kind: ParameterType) -> tuple[Json, ...]:
    """Reads the allowed values of a parameter; empty if one of them cannot be shown."""
    values = [item.value() for item in part.items()]
    return tuple(typed(value, kind) for _, value in values) if all(is_readable for is_readable, _ in values) else ()


def _output(name: str, part: Part) -> Parameter:
    declared, kind = _type(part.known("parameterType type description"))
    return Parameter(name=name, type=kind, declared_type=declared, description=part["description"].counted_text())


def _type(definition: Part) -> tuple[str, ParameterType]:
    """Reads a type; schema 2.0.0 has it in `type`, with other names."""
    old = "parameterType" not in definition and "type" in definition
    part = definition["type" if old else "parameterType"]
    declared = part.counted_text()
    kind = (_OLD_TYPES if old else _TYPES).get(declared)
    if kind is None:
        part.note()
    return declared, kind or ParameterType.UNKNOWN


def _artifact(name: str, part: Part) -> Artifact:
    part.known("artifactType isArtifactList isOptional description", "properties customProperties metadata")
    return Artifact(
        name=name,
        type=_artifact_type(part["artifactType"].known("schemaTitle schemaUri instanceSchema", "schemaVersion")),
        is_list=part["isArtifactList"].flag(),
        optional=part["isOptional"].flag(),
        description=part["description"].counted_text(),
    )


def _artifact_type(part: Part) -> str:
    """Reads the schema's title; old specs hold a whole schema as YAML."""
    found = part["schemaTitle"].counted_text() or part["schemaUri"].counted_text()
    if found or not part.has("instanceSchema"):
        return found
    title = _TITLE.search(part["instanceSchema"].counted_text())
    if title is None:
        part["instanceSchema"].note()
    return title[1] if title else ""


# --- tasks --------------------------------------------------------------------------------------------------------


class _Graph:
    """Reads components and executors on demand, each once."""

    def __init__(self, pipeline: Part, platform_spec: Part) -> None:
        self._root = pipeline["root"]
        self._component_parts = dict(pipeline["components"].entries())
        self._executor_parts = read_executors(pipeline["deploymentSpec"])
        self._platform = read_platform(platform_spec)
        self._components: dict[str, Component] = {}
        self._executors: dict[str, Executor] = {}
        self._outputs: dict[tuple[str, str], str] = {}

    def root(self) -> Group:
        component = read_component(self._root)
        if component.label:
            self._root["executorLabel"].note()
        return self._group("", component, no_sources)

    def _group(self, name: str, component: Component, outer: Sources) -> Group:
        return Group(name, component.part.child("dag").child("tasks"), lambda: self._nodes(component, outer))

    def _nodes(self, group: Component, outer: Sources) -> Iterable[Node]:
        for spec in group.tasks.values():
            yield self._node(spec, _Scope(self, group, spec, outer))

    def _node(self, spec: TaskSpec, scope: _Scope) -> Node:
        component = self.component(spec.task.component)
        if component is None:
            spec.part.child("componentRef").note()
        executor = self._executor(component).with_sources(scope.label_of)
        task = replace(
            spec.task,
            kind=_kind(spec, component, executor),
            image=_bounded(spec.part, executor.image),
            condition=_bounded(spec.part, scope.condition()),
            loop_items=scope.items(),
            resources=executor.resources,
            kubernetes_extras=executor.extras_of(lambda input_: scope.source_of(input_).label),
        )
        if component is None or not component.is_group:
            return Node(task, spec.part)
        return Node(task, spec.part, self._group(spec.task.component, component, scope.inner(task.loop_items)))

    def component(self, name: str) -> Component | None:
        part = self._component_parts.get(name)
        if part is not None and name not in self._components:
            part.known("dag executorLabel", "inputDefinitions outputDefinitions taskConfigPassthroughs")
            self._components[name] = read_component(part)
        return self._components.get(name)

    def _executor(self, component: Component | None) -> Executor:
        if component is None or component.is_group:
            return Executor()
        label = component.label
        if label not in self._executor_parts:
            component.part.child("executorLabel").note()
            return Executor()
        if label not in self._executors:
            self._executors[label] = read_executor(self._executor_parts[label], self._platform.get(label))
        return self._executors[label]

    def output_label(self, group: Component, task: str, output: str, depth: int = 0) -> str:
        """Names a task's output: one of a condition or a loop is named after the task inside."""
        spec = group.tasks.get(task)
        if spec is None or not output.startswith(_CHANNEL) or depth > _MAX_OUTPUT_DEPTH:
            return shortened(f"{task}.{_plain(output)}")
        key = (spec.task.component, output)
        if key not in self._outputs:
            self._outputs[key] = f"{task}.{_plain(output)}"  # the result for a reference that leads back here
            component = self.component(spec.task.component)
            selected = component.outputs.get(output, ()) if component else ()
            if component is not None and selected:
                labels = [self.output_label(component, inner, name, depth + 1) for inner, name in selected]
                label = labels[0] if len(labels) == 1 else shortened(f"one of ({', '.join(labels)})")
                self._outputs[key] = label or self._outputs[key]
        return self._outputs[key]


class _Scope:
    """The meaning of the names around one task."""

    def __init__(self, graph: _Graph, group: Component, spec: TaskSpec, outer: Sources) -> None:
        self._graph = graph
        self._group = group
        self._spec = spec
        self._outer = outer

    def inner(self, items: str) -> Sources:
        """The meaning of the inputs of the task inside it."""
        loop, inputs = self._spec.loop, self._spec.inputs

        def source_of(name: str) -> Source | None:
            if loop and name == loop.item:
                return item_of(items, self._spec.task.name)
            return self.source_of(inputs[name]) if name in inputs else None

        return source_of

    def label_of(self, name: str) -> str:
        input_ = self._spec.inputs.get(name)
        return self.source_of(input_).label if input_ else _plain(name)

    def source_of(self, input_: Input) -> Source:
        if input_.task:
            source = Source(self._graph.output_label(self._group, input_.task, input_.output))
        elif input_.outer:
            source = self._outer(input_.outer) or Source(shortened(_plain(input_.outer)))
        else:
            source = Source(input_.constant)
        return source.field(input_.field)

    def condition(self) -> str:
        condition = self._spec.condition
        if not condition:
            return ""
        text = describe_condition(condition, self._label_or_none)
        if text is None:
            self._spec.part.child("triggerPolicy").child("condition").note()
        return text or condition

    def _label_or_none(self, name: str) -> str | None:
        loop = self._spec.loop
        if name in self._spec.inputs:
            return self.label_of(name)
        return item_of(self.items(), self._spec.task.name).label if loop and loop.item == name else None

    def items(self) -> str:
        """The items that the task runs over, as text; empty if it is not a loop."""
        loop = self._spec.loop
        if loop is None:
            return ""
        if loop.items:
            return self.label_of(loop.items)
        text = one_line_of(loop.raw)
        if text is None:
            loop.part.note()
        return text or loop.raw


def _plain(name: str) -> str:
    """A name without the prefix of KFP's compiler."""
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
    """A text that became too large with the names in it is noted, not shown."""
    if len(text) <= MAX_PART_BYTES:
        return text
    part.note()
    return ""
