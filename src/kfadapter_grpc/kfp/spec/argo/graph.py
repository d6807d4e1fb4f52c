"""The tasks of a Workflow as a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.kfp.spec.argo import levels
from kfadapter_grpc.kfp.spec.argo.expression import (
    Words,
    condition_in_words,
    depends_in_words,
    items_in_words,
    value_source,
)
from kfadapter_grpc.kfp.spec.argo.template import Step, Template, read_template
from kfadapter_grpc.kfp.spec.level import ANY
from kfadapter_grpc.kfp.spec.report import LARGEST_PART
from kfadapter_grpc.kfp.spec.source import ITEM, item_of, no_sources
from kfadapter_grpc.kfp.spec.tree import Group, Node
from kfadapter_grpc.kfp.spec.values import one_line, one_line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.part import Fields, Part
    from kfadapter_grpc.kfp.spec.source import Source, Sources

_LOOPS = ("withItems", "withParam", "withSequence")


class Graph:
    """Reads templates on demand, each once."""

    def __init__(self, spec: Fields) -> None:
        self._spec = spec
        self._parts = {name: part for part in spec["templates"].items() if (name := part.fields(ANY)["name"].text())}
        self._templates: dict[str, Template] = {}
        self._inline: dict[int, Template] = {}

    def root(self) -> Group:
        """What the entrypoint does: its tasks, or itself as the only one; and the exit handler behind all of them."""
        return Group(self._spec["entrypoint"].text(), self._spec["templates"], self._root_nodes)

    def _root_nodes(self) -> Iterable[Node]:
        entry, at_end = self._spec["entrypoint"].text(), self._spec["onExit"].text()
        template = self._template(entry)
        if template is None:
            nodes = []
            if entry or self._parts:
                self._spec["entrypoint"].note()
        elif template.is_group:
            nodes = list(self._nodes(template, no_sources))
        else:
            nodes = [Node(self._pod_task(entry, template, no_sources), template.part)]
        yield from nodes
        if at_end:
            yield self._exit_node(at_end, [node.task for node in nodes])

    def _exit_node(self, name: str, tasks: list[Task]) -> Node:
        """The exit handler, behind the tasks that nothing else waits for."""
        template, part = self._template(name), self._spec["onExit"]
        needed = {one for task in tasks for one in task.depends_on}
        names = {task.name for task in tasks}
        task = replace(
            self._pod_task(name, template, no_sources),
            name=f"{name}.onExit" if name in names else name,
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
        loop = "" if step.is_exit else next((key for key in _LOOPS if step.fields.has(key)), "")
        items = _items(step, loop, outer) if loop else ""
        scope = _Scope(step, outer, item_of(items, step.name) if loop else None)
        task = replace(
            self._pod_task(step.name, template, scope.inner),
            component=step.template,
            depends_on=step.depends_on,
            condition="" if step.is_exit else scope.condition(),
            loop_items=items,
            loop_parallelism=(group.parallelism or self._spec["parallelism"].count()) if loop else 0,
        )
        task = replace(task, kind=_kind(step, loop, template, task))
        return Node(task, step.part, self._group(step.template, template, scope.inner))

    def _pod_task(self, name: str, template: Template | None, sources: Sources) -> Task:
        """A task with what its template says."""
        if template is None:
            return Task(name=name, display_name=name, component=name)
        pod = template.pod.with_words(sources)
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

    def _step_template(self, step: Step) -> Template | None:
        """Finds what a step runs: a template by name, or one that is written into the step."""
        if not step.is_exit and step.fields.has("inline"):
            if id(step) not in self._inline:
                self._inline[id(step)] = read_template(step.fields["inline"], self._spec)
            return self._inline[id(step)]
        found = self._template(step.template)
        if found is None:
            step.fields["templateRef" if "templateRef" in step.fields else "template"].note()
        return found

    def _template(self, name: str) -> Template | None:
        if name in self._parts and name not in self._templates:
            self._templates[name] = read_template(self._parts[name], self._spec)
        return self._templates.get(name)


class _Scope:
    """What the names around one step mean."""

    def __init__(self, step: Step, outer: Sources, item: Source | None) -> None:
        self._step = step
        self._outer = outer
        self._item = item

    def around(self, name: str) -> Source | None:
        """What a name means in the step itself, where the present item is known too."""
        return self._item if name == ITEM and self._item else self._outer(name)

    def inner(self, name: str) -> Source | None:
        """What an input means in the template that the step runs; the item is known in the step only."""
        given = None if name == ITEM else self._step.arguments.get(name)
        return None if given is None else value_source(given, self.around)

    def condition(self) -> str:
        """When the step runs, in words: its `when`, and a `depends` that asks for more than success."""
        fields = self._step.fields
        depends = depends_in_words(fields["depends"].text()) if fields.has("depends") else ""
        if not fields.has("when"):
            return depends
        when = _told(fields["when"], condition_in_words(fields["when"].text(), self.around))
        return f"({depends}) and ({when})" if depends and when else depends or when


def _items(step: Step, key: str, sources: Sources) -> str:
    """What a step runs over, in words."""
    return _told(step.fields[key], _words_of_items(key, step.fields[key], sources))


def _words_of_items(key: str, part: Part, sources: Sources) -> Words:
    if key == "withSequence":
        return items_in_words(_sequence(part), sources)
    if key == "withItems" and part.is_list:
        found, value = part.peek()
        return Words(one_line(value) if found else "")
    text = part.text()
    literal = one_line_of(text)
    return Words(literal) if literal is not None else items_in_words(text, sources)


def _sequence(part: Part) -> str:
    fields = part.fields(levels.SEQUENCE)
    start, end, count = (fields[key].loose_text() for key in ("start", "end", "count"))
    if end:
        return f"{start or '0'} to {end}"
    return f"{count or '0'} numbers from {start or '0'}"


def _told(part: Part, words: Words) -> str:
    """Words; those that are not understood are noted and told as they stand, those that grew too large are not told."""
    if not words.understood or len(words.text) > LARGEST_PART:
        part.note()
    return words.text if len(words.text) <= LARGEST_PART else ""


def _kind(step: Step, loop: str, template: Template | None, task: Task) -> TaskKind:
    if step.is_exit:
        return TaskKind.EXIT_HANDLER
    if loop:
        return TaskKind.LOOP
    if template and template.is_group and task.condition:
        return TaskKind.CONDITION
    return task.kind
