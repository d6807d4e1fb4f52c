"""The tasks of a Workflow as a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.kfp.spec.argo_expression import (
    Description,
    describe_condition,
    describe_depends,
    describe_items,
    value_source,
)
from kfadapter_grpc.kfp.spec.argo_template import read_template
from kfadapter_grpc.kfp.spec.part import MAX_PART_BYTES
from kfadapter_grpc.kfp.spec.tree import Group, Node
from kfadapter_grpc.kfp.spec.values import ITEM, item_of, no_sources, one_line, one_line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.argo_template import Step, Template
    from kfadapter_grpc.kfp.spec.part import Part
    from kfadapter_grpc.kfp.spec.values import Source, Sources


class Graph:
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
        scope = _Scope(step, outer, item_of(items, step.name) if loop else None)
        condition = "" if step.is_exit else scope.condition()
        task = _pod_task(step.name, template, scope.inner)
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
        return Node(task, step.part, self._group(step.template, template, scope.inner))

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


class _Scope:
    """The meaning of the names around one step."""

    def __init__(self, step: Step, outer: Sources, item: Source | None) -> None:
        self._step = step
        self._outer = outer
        self._item = item

    def _source(self, name: str) -> Source | None:
        """What a name means in the step itself, where the current item is known, too."""
        return self._item if name == ITEM and self._item else self._outer(name)

    def inner(self, name: str) -> Source | None:
        """What an input means in the template that the step runs; the item is known in the step only."""
        value = None if name == ITEM else self._step.arguments.get(name)
        return None if value is None else value_source(value, self._source)

    def condition(self) -> str:
        """When the step runs, as text: its `when`, and a `depends` that requires more than success."""
        part = self._step.part
        depends = describe_depends(part["depends"].text())
        if not part.has("when"):
            return depends
        when = _checked(part["when"], describe_condition(part["when"].text(), self._source))
        return f"({depends}) and ({when})" if depends and when else depends or when


def _items(key: str, part: Part, sources: Sources) -> str:
    if key == "withSequence":
        part.known("count start end", "format")
        start, end, count = (part[one].any_text() for one in ("start", "end", "count"))
        text = f"{start or '0'} to {end}" if end else f"{count or '0'} numbers from {start or '0'}"
        return _checked(part, describe_items(text, sources))
    if key == "withItems" and part.is_list:
        is_readable, value = part.peek()
        return _checked(part, Description(one_line(value) if is_readable else ""))
    text = part.text()
    literal = one_line_of(text)
    return _checked(part, Description(literal) if literal is not None else describe_items(text, sources))


def _checked(part: Part, description: Description) -> str:
    """A description; one not understood is noted and unchanged, one that became too large is omitted."""
    if not description.understood or len(description.text) > MAX_PART_BYTES:
        part.note()
    return description.text if len(description.text) <= MAX_PART_BYTES else ""
