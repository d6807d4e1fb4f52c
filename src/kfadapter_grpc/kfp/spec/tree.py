"""Builds the tree of tasks within its limits: levels, bytes, and no group inside itself.

A component may be used by many tasks, and components may call each other so that the number of tasks doubles at each
level. So a group is shown before the contents of its tasks, and once the summary is full no further group is opened.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kfadapter_grpc.contract.spec import Task
from kfadapter_grpc.kfp.spec.part import Part
from kfadapter_grpc.kfp.spec.values import weight

MAX_TASK_DEPTH = 20
"""Levels of tasks: protobuf rejects messages nested more than 100 deep, tools for JSON fewer."""
MAX_TASKS = 10_000
"""How many tasks of one group are read; a summary has no room for many more."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of tasks that can be opened.

    Attributes:
        name: The component or template that it is; no group is opened inside one of the same name.
        open: Makes the tasks, in an order in which they can run.
    """

    name: str
    part: Part
    open: Callable[[], Iterable[Node]]


@dataclass(frozen=True, slots=True)
class Node:
    """A task without the tasks inside it."""

    task: Task
    part: Part
    inside: Group | None = None


def build_tasks(group: Group, parents: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """Makes the tasks of a group that fit, with the tasks inside them."""
    report, nodes, path = group.part.report, [], (*parents, group.name)
    for node in () if report.is_full else group.open():
        if not report.take(weight(node.task)):
            report.close()
            break
        nodes.append(node)
    if report.is_full:
        group.part.note()
    names = {node.task.name for node in nodes}
    tasks = []
    for node in nodes:
        task = replace(node.task, depends_on=tuple(name for name in node.task.depends_on if name in names))
        if node.inside is not None:
            if node.inside.name in path or len(path) >= MAX_TASK_DEPTH:
                node.part.note()
            else:
                task = replace(task, tasks=build_tasks(node.inside, path))
        tasks.append(task)
    return tuple(tasks)


def in_order(depends: Mapping[str, Sequence[str]]) -> list[str]:
    """Sorts names after those that they depend on, which are keys, too; otherwise they stay in declared order.

    If they depend on each other in a cycle, the first declared one of those left precedes its dependencies.
    """
    names = list(depends)
    order = {name: number for number, name in enumerate(names)}
    followers: dict[str, list[str]] = {name: [] for name in names}
    pending = {name: len(before) for name, before in depends.items()}
    for name, before in depends.items():
        for other in before:
            followers[other].append(name)
    ready = [order[name] for name in names if not pending[name]]  # sorted, so a heap
    ordered: dict[str, None] = {}
    rest = iter(names)
    while len(ordered) < len(names):
        name = names[heapq.heappop(ready)] if ready else next(other for other in rest if other not in ordered)
        ordered[name] = None
        for follower in followers[name]:
            pending[follower] -= 1
            if not pending[follower] and follower not in ordered:
                heapq.heappush(ready, order[follower])
    return list(ordered)


def without_cycles(depends: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Orders the names, and drops dependencies that would have to run after their dependent.

    Returns:
        The names in the order of `in_order`, each with those of its dependencies that precede it.
    """
    order = {name: number for number, name in enumerate(in_order(depends))}
    return {name: tuple(other for other in depends[name] if order[other] < order[name]) for name in order}
