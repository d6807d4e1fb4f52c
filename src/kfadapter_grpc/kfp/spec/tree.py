"""Grows the tree of tasks within its bounds: so many levels, so many bytes, and no group inside itself.

A component may be used by many tasks, and components may call each other so that the number of tasks doubles at each
level. So a group is told before what is inside its tasks, and when the summary is full nothing more is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec.weight import task_weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kfadapter_grpc.contract.spec import Task
    from kfadapter_grpc.kfp.spec.part import Part

DEEPEST_TASK = 20
"""Levels of tasks: protobuf refuses messages nested more than 100 deep, tools for JSON fewer."""


MOST_TASKS = 10_000
"""Tasks of one group that are read at all; a summary has no room for many more."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of tasks that can be opened.

    Attributes:
        name: The component or template that it is; no group is opened inside one of the same name.
        part: Where its tasks stand.
        open: Makes the tasks, in an order in which they can run.
    """

    name: str
    part: Part
    open: Callable[[], Iterable[Node]]


@dataclass(frozen=True, slots=True)
class Node:
    """A task without those inside it.

    Attributes:
        task: The task.
        part: Where it stands.
        inside: The group that it runs, if it runs one.
    """

    task: Task
    part: Part
    inside: Group | None = None


def grow(group: Group, above: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """Tells the tasks of a group with those inside them.

    Args:
        group: What to tell.
        above: The names of the groups that it is in.
    """
    within = (*above, group.name)
    return _with_known_names(tuple(_whole(node, within) for node in _told(group)))


def _told(group: Group) -> list[Node]:
    """Makes the tasks of one group that have room."""
    report, nodes = group.part.report, []
    for node in () if report.is_full else group.open():
        if not report.take(task_weight(node.task)):
            report.close()
            break
        nodes.append(node)
    if report.is_full:
        group.part.note()
    return nodes


def _whole(node: Node, above: tuple[str, ...]) -> Task:
    """A task with those inside it; where they would be too deep, or the group inside itself, it is noted."""
    if node.inside is None:
        return node.task
    if node.inside.name in above or len(above) >= DEEPEST_TASK:
        node.part.note()
        return node.task
    return replace(node.task, tasks=grow(node.inside, above))


def _with_known_names(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Drops dependencies on tasks that had no room."""
    known = {task.name for task in tasks}
    return tuple(
        task
        if known.issuperset(task.depends_on)
        else replace(task, depends_on=tuple(name for name in task.depends_on if name in known))
        for task in tasks
    )
