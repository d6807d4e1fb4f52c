"""A compiled pipeline as the checks walk through it: tasks by their paths, and the sources of their inputs.

It is read from a user's file, with the base install's PyYAML. No structure is assumed: what is not as a compiler writes
it reads as empty, and whether it can be run is decided by the upload.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kfadapter_grpc.contract.spec import Json

MAX_TASKS = 10_000
"""How many tasks are checked: pipelines in pipelines may double them at each level."""
MAX_DEPTH = 20
_KINDS = ("Parameter", "Artifact")
_KUBERNETES = ("platforms", "kubernetes", "deploymentSpec", "executors")


def mapping(value: Json) -> Mapping[str, Json]:
    """The value, if it is a mapping; an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def inside(value: Json, *keys: str) -> Mapping[str, Json]:
    """The mapping below some keys."""
    for key in keys:
        value = mapping(value).get(key)
    return mapping(value)


def walk(value: Json) -> Iterator[Json]:
    """A value and everything inside it, including keys; a part that YAML repeats by an alias once."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, dict | list) and id(item) not in seen:
            seen.add(id(item))
            waiting += [*item, *item.values()] if isinstance(item, dict) else item


@dataclass(frozen=True)
class Origin:
    """The source of the value of an input.

    Attributes:
        kind: A `constant` of the pipeline, a `parameter` or `artifact` of the run, an `output` of a task, the `item` of
            a loop, `unset` for an unset input of a pipeline in the pipeline, `undeclared` if the containing group
            has no such input, or `unknown`.
        name: The parameter's or the output's name.
        value: The constant; for a parameter its definition.
        task: The task of the output, or the loop of the item.
        field: Whether only a field of it is used.
    """

    kind: str
    name: str = ""
    value: Json = None
    task: Task | None = None
    field: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """A component that is a DAG, where it is used; `task` uses it, and is None for the whole pipeline."""

    pipeline: Pipeline
    component: Mapping[str, Json]
    task: Task | None = None

    @cached_property
    def tasks(self) -> dict[str, Task]:
        return {name: Task(self, name, mapping(spec)) for name, spec in inside(self.component, "dag", "tasks").items()}

    @property
    def path(self) -> str:
        """The path of the task that uses it."""
        return self.task.path if self.task else ""

    def declared(self, name: str, kind: str = "parameters") -> Mapping[str, Json]:
        """The definition of one of its inputs."""
        return inside(self.component, "inputDefinitions", kind, name)

    def origin(self, source: Mapping[str, Json]) -> Origin:
        """The source of an input of one of its tasks."""
        is_field = bool(text(source.get("parameterExpressionSelector")))
        for key, kind in (("componentInputParameter", "parameters"), ("componentInputArtifact", "artifacts")):
            if key in source:
                origin = self._from_input(text(source[key]), kind)
                return Origin(origin.kind, origin.name, origin.value, origin.task, origin.field or is_field)
        for key, output in (("taskOutputParameter", "outputParameterKey"), ("taskOutputArtifact", "outputArtifactKey")):
            if key in source:
                producer = self.tasks.get(text(mapping(source[key]).get("producerTask")))
                name = text(mapping(source[key]).get(output))
                return Origin("output", name, task=producer, field=is_field) if producer else Origin("undeclared", name)
        if "runtimeValue" in source:
            return Origin("constant", value=mapping(source["runtimeValue"]).get("constant"))
        return Origin("unknown")

    def _from_input(self, name: str, kind: str) -> Origin:
        inputs = inside(self.component, "inputDefinitions", kind)
        if name not in inputs:
            return Origin("undeclared", name)
        if self.task is None:
            return Origin("parameter" if kind == "parameters" else "artifact", name, inputs[name])
        if self.task.loop and text(self.task.loop.get("itemInput")) == name:
            return Origin("item", name, task=self.task)
        sources = self.task.inputs(kind)
        if name in sources:
            return self.task.group.origin(mapping(sources[name]))
        return Origin("unset", name, inputs[name])


@dataclass(frozen=True, eq=False)
class Task:
    group: Group
    name: str
    spec: Mapping[str, Json]

    @property
    def path(self) -> str:
        """The names of the groups that contain it, and its own."""
        return f"{self.group.path}/{self.name}".lstrip("/")

    @cached_property
    def component(self) -> Mapping[str, Json]:
        """What it runs."""
        return mapping(self.group.pipeline.components.get(text(inside(self.spec, "componentRef").get("name"))))

    @cached_property
    def inner_group(self) -> Group | None:
        """The group that it runs, if any."""
        return Group(self.group.pipeline, self.component, self) if "dag" in self.component else None

    @property
    def loop(self) -> Mapping[str, Json]:
        """What it runs over; empty if it is not a loop."""
        return mapping(self.spec.get("parameterIterator")) or mapping(self.spec.get("artifactIterator"))

    @property
    def condition(self) -> str:
        return text(inside(self.spec, "triggerPolicy").get("condition"))

    @property
    def ignores_failures(self) -> bool:
        """Whether it runs whatever the outcome of the tasks before it, like exit handlers."""
        return inside(self.spec, "triggerPolicy").get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"

    @property
    def depends_on(self) -> list[Task]:
        """The tasks before it."""
        names = [text(name) for name in items(self.spec.get("dependentTasks"))]
        for kind in ("parameters", "artifacts"):
            for source in self.inputs(kind).values():
                names += [text(inside(source, f"taskOutput{kind}").get("producerTask")) for kind in _KINDS]
        return [self.group.tasks[name] for name in dict.fromkeys(names) if name in self.group.tasks]

    def inputs(self, kind: str) -> Mapping[str, Json]:
        """The sources of its inputs: `parameters` or `artifacts`."""
        return inside(self.spec, "inputs", kind)

    def origins(self, kind: str = "parameters") -> Iterator[tuple[str, Origin]]:
        """Its inputs with their sources."""
        for name, source in self.inputs(kind).items():
            yield name, self.group.origin(mapping(source))

    def definition(self, name: str) -> Mapping[str, Json]:
        return inside(self.component, "inputDefinitions", "parameters", name)

    @cached_property
    def executor(self) -> Mapping[str, Json]:
        """What executes it, if it is not a group."""
        executors = inside(self.group.pipeline.spec, "deploymentSpec", "executors")
        return mapping(executors.get(text(self.component.get("executorLabel"))))

    @property
    def kubernetes(self) -> Mapping[str, Json]:
        """What its pod needs from Kubernetes."""
        return inside(self.group.pipeline.platform, *_KUBERNETES, text(self.component.get("executorLabel")))

    @property
    def command(self) -> list[str]:
        container = inside(self.executor, "container")
        return [text(part) for key in ("command", "args") for part in items(container.get(key))]

    @cached_property
    def source(self) -> str:
        """The Python code of a component; empty if there is none."""
        return next((part for part in self.command if "\ndef " in part or "\nasync def " in part), "")

    @cached_property
    def code(self) -> ast.Module:
        """The same as a syntax tree."""
        try:
            return ast.parse(self.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ast.Module([], [])

    def branches(self, output: str, kind: str) -> list[Task]:
        """The branches of which one provides an output of the group that it runs (`dsl.OneOf`)."""
        selected = list(_selected(inside(self.component, "dag", "outputs", kind, output)))
        tasks = self.inner_group.tasks if self.inner_group else {}
        return [tasks[name] for name, _ in selected if name in tasks] if len(selected) > 1 else []

    def producers(self, output: str, kind: str) -> Iterator[Producer]:
        """The producers of one of its outputs, found through the groups in between."""
        waiting = [Producer(self, output)]
        for _ in range(MAX_TASKS):
            if not waiting:
                return
            producer = waiting.pop()
            task, inner_group = producer.task, producer.task.inner_group
            if inner_group is None or producer.depth > MAX_DEPTH:
                yield producer
                continue
            selected = list(_selected(inside(task.component, "dag", "outputs", kind, producer.output)))
            for name, key in selected:
                if inner := inner_group.tasks.get(name):
                    loops = (*producer.loops, task) if task.loop else producer.loops
                    skipped = producer.is_skipped or bool(loops and inner.condition and len(selected) == 1)
                    one_of = producer.is_one_of or bool(loops and len(selected) > 1)
                    waiting.append(
                        Producer(inner, key, loops, producer.depth + 1, is_skipped=skipped, is_one_of=one_of)
                    )


@dataclass(frozen=True)
class Producer:
    """The task that produces an output of a task or group, and the path to it.

    Attributes:
        is_skipped: Whether an iteration may have skipped the task, on a condition without an alternative.
        is_one_of: Whether iterations may have taken different branches.
    """

    task: Task
    output: str
    loops: tuple[Task, ...] = ()
    depth: int = 0
    is_skipped: bool = False
    is_one_of: bool = False


def _selected(selectors: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """The outputs of tasks that provide an output of a group: the first of several that exists."""
    selectors_of_parameters = [
        selectors.get("valueFromParameter"),
        *items(inside(selectors, "valueFromOneof").get("parameterSelectors")),
    ]
    for selector in (each for each in [*selectors_of_parameters, *items(selectors.get("artifactSelectors"))] if each):
        key = mapping(selector).get("outputParameterKey") or mapping(selector).get("outputArtifactKey")
        yield text(mapping(selector).get("producerSubtask")), text(key)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A compiled pipeline, or an Argo Workflow, which has no root."""

    spec: Mapping[str, Json]
    platform: Mapping[str, Json] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return text(inside(self.spec, "pipelineInfo").get("name")) or text(inside(self.spec, "metadata").get("name"))

    @property
    def is_workflow(self) -> bool:
        """Whether it was made by KFP v1."""
        return text(self.spec.get("apiVersion")).startswith("argoproj.io/")

    @property
    def components(self) -> Mapping[str, Json]:
        return inside(self.spec, "components")

    @cached_property
    def root(self) -> Group:
        return Group(self, inside(self.spec, "root"))

    def tasks(self) -> Iterator[Task]:
        """All tasks, groups before the tasks inside them, the same component again wherever it is used."""
        waiting = [(self.root, 0)]
        remaining = MAX_TASKS
        while waiting:
            group, depth = waiting.pop(0)
            for task in group.tasks.values():
                if remaining == 0:
                    return
                remaining -= 1
                yield task
                if task.inner_group and depth < MAX_DEPTH:
                    waiting.append((task.inner_group, depth + 1))


def read_documents(documents: list[Json]) -> Pipeline | None:
    """The pipeline of a file's documents: a spec and perhaps a platform spec, KFP's wrapper of both, or a Workflow."""
    mappings = [mapping(document) for document in documents]
    first = next((document for document in mappings if document), {})
    platform = next((document for document in mappings if "platforms" in document), {})
    if "pipeline_spec" in first:
        first, platform = inside(first, "pipeline_spec"), inside(first, "platform_spec")
    pipeline = Pipeline(first, platform)
    return pipeline if pipeline.is_workflow or "root" in first else None
