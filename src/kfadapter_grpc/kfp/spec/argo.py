"""An Argo Workflow, which is what KFP v1 compiles to, with the SDK's description of it in an annotation; its tasks.

A key of the Workflow (argoproj.io/v1alpha1) that is neither read nor known to be irrelevant to a summary is listed in
`unknown_parts`: `templateDefaults` and `podSpecPatch` among them, as they change what a task is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kfadapter_grpc.contract.spec import (
    Artifact,
    Parameter,
    ParameterType,
    PipelineFormat,
    SpecSummary,
    Task,
    TaskKind,
)
from kfadapter_grpc.kfp.spec.argo_expression import describe_condition, describe_depends, describe_items, value_source
from kfadapter_grpc.kfp.spec.argo_template import Step, Template, read_template
from kfadapter_grpc.kfp.spec.part import MAX_PART_BYTES, Part
from kfadapter_grpc.kfp.spec.tree import Group, Node, build_tasks
from kfadapter_grpc.kfp.spec.values import ITEM, Source, Sources, item_of, no_sources, one_line, one_line_of, parsed

_ANNOTATION = "pipelines.kubeflow.org/pipeline_spec"
_SDK_ANNOTATION = "pipelines.kubeflow.org/kfp_sdk_version"
_TYPES = {
    "integer": ParameterType.NUMBER_INTEGER,
    "int": ParameterType.NUMBER_INTEGER,
    "float": ParameterType.NUMBER_DOUBLE,
    "double": ParameterType.NUMBER_DOUBLE,
    "string": ParameterType.STRING,
    "str": ParameterType.STRING,
    "bool": ParameterType.BOOLEAN,
    "boolean": ParameterType.BOOLEAN,
    "jsonarray": ParameterType.LIST,
    "list": ParameterType.LIST,
    "jsonobject": ParameterType.STRUCT,
    "dict": ParameterType.STRUCT,
}


def summarize_workflow(top: Part) -> SpecSummary:
    top.known("apiVersion kind metadata spec", "status")
    metadata = top["metadata"]
    annotations = metadata["annotations"]
    spec = top["spec"].known(
        "entrypoint templates arguments onExit parallelism volumes nodeSelector tolerations affinity imagePullSecrets",
        "activeDeadlineSeconds archiveLogs artifactGC artifactRepositoryRef automountServiceAccountToken dnsConfig"
        " dnsPolicy executor hostAliases hostNetwork metrics podDisruptionBudget podGC podMetadata podPriority"
        " podPriorityClassName priority schedulerName securityContext serviceAccountName shutdown suspend"
        " synchronization ttlStrategy volumeClaimGC volumeClaimTemplates workflowMetadata",
    )
    # The JSON text in the annotation knows types and descriptions.
    declared = annotations[_ANNOTATION].of_text().known("name description inputs", "outputs")
    arguments = spec["arguments"].known("parameters artifacts")
    name = declared["name"].counted_text() or metadata["name"].counted_text()
    return SpecSummary(
        format=PipelineFormat.ARGO_V1,
        name=name or metadata["generateName"].counted_text().rstrip("-"),
        description=declared["description"].counted_text(),
        parameters=_parameters(declared["inputs"], arguments["parameters"]),
        schema_version=top["apiVersion"].counted_text(),
        sdk_version=annotations[_SDK_ANNOTATION].counted_text(),
        input_artifacts=tuple(sorted(_artifacts(arguments["artifacts"]), key=lambda one: one.name)),
        tasks=build_tasks(_Graph(spec).root()),
    )


def _parameters(declared: Part, arguments: Part) -> tuple[Parameter, ...]:
    parameters = {}
    for part in arguments.items():
        part.known("name value default description", "enum globalName valueFrom")
        if (name := part["name"].text()) and part.fits_name(name):
            parameters[name] = _argument(name, part)
    for part in declared.items():
        part.known("name type default optional description", "annotations")
        if (name := part["name"].text()) and part.fits_name(name):
            parameter, argument = _input(name, part), parameters.get(name)
            if argument and argument.has_default and not parameter.has_default:
                default = parsed(argument.default, parameter.type)
                parameter = replace(parameter, has_default=True, default=default, optional=True)
            parameters[name] = parameter
    return tuple(sorted(parameters.values(), key=lambda parameter: parameter.name))


def _input(name: str, part: Part) -> Parameter:
    declared = _declared_type(part["type"])
    kind = _TYPES.get(declared.lower(), ParameterType.UNKNOWN)
    has_default, default = part["default"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=parsed(default, kind),
        optional=part["optional"].flag() or "default" in part,
        description=part["description"].counted_text(),
    )


def _declared_type(part: Part) -> str:
    """Reads a type of KFP v1: a name, or a mapping from a name to its properties. Any name is allowed there."""
    _, declared = part.value()
    if isinstance(declared, dict) and len(declared) == 1:
        return str(next(iter(declared)))
    if declared is None or isinstance(declared, str):
        return declared or ""
    part.note()
    return ""


def _argument(name: str, part: Part) -> Parameter:
    has_default, default = part["value" if "value" in part else "default"].value()
    return Parameter(
        name=name,
        type=ParameterType.UNKNOWN,
        has_default=has_default,
        default=default,
        optional="value" in part or "default" in part,
        description=part["description"].counted_text(),
    )


def _artifacts(arguments: Part) -> Iterable[Artifact]:
    for part in arguments.items():
        part.known(
            "name optional description",
            "archive archiveLogs artifactGC artifactory azure deleted from fromExpression gcs git globalName hdfs http"
            " mode oss path raw recurseMode s3 subPath",
        )
        name = part["name"].text()
        if not name:
            part.note()
        elif part.fits_name(name):
            yield Artifact(name, optional=part["optional"].flag(), description=part["description"].counted_text())


# --- tasks --------------------------------------------------------------------------------------------------------


class _Graph:
    """Reads templates on demand, each once."""

    def __init__(self, spec: Part) -> None:
        self._spec = spec
        self._parts = {name: part for part in spec["templates"].items() if (name := part["name"].text())}
        self._templates: dict[str | int, Template] = {}  # inline templates, by the step's identity

    def root(self) -> Group:
        """The tasks of the entrypoint, or itself as the only one; and the exit handler after all of them."""
        return Group(self._spec["entrypoint"].text(), self._spec["templates"], self._root_nodes)

    def _root_nodes(self) -> Iterable[Node]:
        entry, at_end = self._spec["entrypoint"].text(), self._spec["onExit"].text()
        template = self._template(entry)
        nodes: list[Node] = []
        if template is None:
            if entry or self._parts:
                self._spec["entrypoint"].note()
        elif template.is_group:
            nodes = list(self._nodes(template, no_sources))
        else:
            nodes = [Node(_pod_task(entry, template, no_sources), template.part)]
        yield from nodes
        if at_end:
            yield self._exit_node(at_end, [node.task for node in nodes])

    def _exit_node(self, name: str, tasks: list[Task]) -> Node:
        """The exit handler, after the tasks that no other task waits for."""
        template, part = self._template(name), self._spec["onExit"]
        needed = {one for task in tasks for one in task.depends_on}
        task = replace(
            _pod_task(name, template, no_sources),
            name=f"{name}.onExit" if any(task.name == name for task in tasks) else name,
            kind=TaskKind.EXIT_HANDLER,
            depends_on=tuple(task.name for task in tasks if task.name not in needed),
        )
        if template is None:
            part.note()
        return Node(task, part, self._group(name, template, no_sources))

    def _group(self, name: str, template: Template | None, sources: Sources) -> Group | None:
        if template is None or not template.is_group:
            return None
        return Group(name, template.part, lambda: self._nodes(template, sources))

    def _nodes(self, group: Template, sources: Sources) -> Iterable[Node]:
        for step in group.steps:
            yield self._node(step, group, sources)

    def _node(self, step: Step, group: Template, outer: Sources) -> Node:
        template = self._step_template(step)
        loop = None if step.is_exit else step.part.first("withItems", "withParam", "withSequence")
        items = _items(loop, step.part[loop], outer) if loop else ""
        item = item_of(items, step.name) if loop else None

        def source(name: str) -> Source | None:
            """What a name means in the step itself, where the current item is known, too."""
            return item if name == ITEM and item else outer(name)

        def inner(name: str) -> Source | None:
            """What an input means in the template that the step runs; the item is known in the step only."""
            value = None if name == ITEM else step.arguments.get(name)
            return None if value is None else value_source(value, source)

        condition = "" if step.is_exit else _condition(step.part, source)
        task = _pod_task(step.name, template, inner)
        kind = TaskKind.CONDITION if template and template.is_group and condition else task.kind
        task = replace(
            task,
            component=step.template,
            depends_on=step.depends_on,
            condition=condition,
            loop_items=items,
            loop_parallelism=(group.parallelism or self._spec["parallelism"].count()) if loop else 0,
            kind=TaskKind.EXIT_HANDLER if step.is_exit else TaskKind.LOOP if loop else kind,
        )
        return Node(task, step.part, self._group(step.template, template, inner))

    def _step_template(self, step: Step) -> Template | None:
        if not step.is_exit and step.part.has("inline"):
            if id(step) not in self._templates:
                self._templates[id(step)] = read_template(step.part["inline"], self._spec)
            return self._templates[id(step)]
        template = self._template(step.template)
        if template is None:
            step.part["templateRef" if "templateRef" in step.part else "template"].note()
        return template

    def _template(self, name: str) -> Template | None:
        if name in self._parts and name not in self._templates:
            self._templates[name] = read_template(self._parts[name], self._spec)
        return self._templates.get(name)


def _pod_task(name: str, template: Template | None, sources: Sources) -> Task:
    if template is None:
        return Task(name=name, display_name=name, component=name)
    pod = template.pod.with_sources(sources)
    return Task(
        name=name,
        display_name=name,
        component=name,
        kind=TaskKind.DAG if template.is_group else pod.kind,
        image=pod.image,
        resources=pod.resources,
        caching_enabled=pod.caching_enabled,
        kubernetes_extras=pod.extras,
        max_retries=template.max_retries,
    )


def _condition(part: Part, source: Sources) -> str:
    """When a step runs, as text: its `when`, and a `depends` that requires more than success."""
    depends = describe_depends(part["depends"].text())
    if not part.has("when"):
        return depends
    when = _checked(part["when"], *describe_condition(part["when"].text(), source))
    return f"({depends}) and ({when})" if depends and when else depends or when


def _items(key: str, part: Part, sources: Sources) -> str:
    if key == "withSequence":
        part.known("count start end", "format")
        start, end, count = (part[one].any_text() for one in ("start", "end", "count"))
        text = f"{start or '0'} to {end}" if end else f"{count or '0'} numbers from {start or '0'}"
        return _checked(part, *describe_items(text, sources))
    if key == "withItems" and part.is_list:
        is_readable, value = part.peek()
        return _checked(part, one_line(value) if is_readable else "")
    text = part.text()
    literal = one_line_of(text)
    return _checked(part, *((literal, True) if literal is not None else describe_items(text, sources)))


def _checked(part: Part, text: str, is_understood: bool = True) -> str:
    """A description; one not understood is noted and unchanged, one that became too large is omitted."""
    if not is_understood or len(text) > MAX_PART_BYTES:
        part.note()
    return text if len(text) <= MAX_PART_BYTES else ""
