"""Finds the task of a run that an execution of ML Metadata belongs to.

Both have the tree of groups, iterations and names. Independently of that, a hash ends the names of a task's pods and,
where there was no pod (a task from the cache, an importer), its id, as its node can have only one name. The
result of either is used unless the other one differs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.kfp.workflow import hashed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.contract.runs import RunTask
    from kfadapter_grpc.kfp.mlmd.records import Execution
    from kfadapter_grpc.kfp.run_nodes import RunNodes

_SUFFIXES = "(0)", ""
"""Suffixes of the names of the nodes around a node: `(0)` if every template is retried, as KFP 2.17 is installed."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """A group, or an iteration of a loop; `hashes` are those of the names of its node, one for each suffix.

    Attributes:
        task_id: The group's task; empty for the whole run, None if it is unknown.
    """

    task_id: str | None
    iteration: int | None
    hashes: tuple[int, ...]

    def inside(self, *names: str) -> tuple[int, ...]:
        """The hashes of the names of nodes inside it, one in the other."""
        texts = ["".join(name + suffix for name in names) for suffix in _SUFFIXES]
        return tuple(hashed(text, state) for text, state in zip(texts, self.hashes, strict=True))


class Join:
    """The executions of a run by task.

    Attributes:
        executions: By task_id; the latest if there are several. Iterations, which are not tasks, are omitted.
        doubtful: The tasks for which the two ways differ.
    """

    def __init__(self, nodes: RunNodes, executions: Sequence[Execution]) -> None:
        self._tasks = {task.task_id: task for task in nodes.tasks}
        self._places = {(task.parent_task_id, task.name, task.iteration_index): task for task in nodes.tasks}
        self._shown = {(one.parent_task_id, one.display_name, one.iteration_index): one for one in nodes.tasks}
        self._numbers = {_number(task_id): task_id for task_id in self._tasks}
        self._pods = {_number(pod.name): task_id for task_id, pods in nodes.pods_by_task.items() for pod in pods}
        self._inside: dict[int, list[Execution]] = {}
        for one in sorted(executions, key=lambda found: found.id):
            self._inside.setdefault(one.parent, []).append(one)
        self.executions: dict[str, Execution] = {}
        self.doubtful: set[str] = set()
        workflow = next((one.rpartition("-")[0] for one in self._numbers.values()), "")
        top = _Scope("", None, tuple(hashed(f"{workflow}{suffix}.root{suffix}") for suffix in _SUFFIXES))
        self._walk(top)
        self.executions = {key: one for key, one in self.executions.items() if key not in self.doubtful}

    def at(self, group: str, name: str, iteration: int | None) -> RunTask | None:
        """Returns the task of this name in a group, or in an iteration of a loop."""
        return self._places.get((group, name, iteration))

    def iterations(self, group: RunTask) -> Sequence[int | None]:
        """Returns the iterations of a loop; for another group, the one that it is in itself."""
        if group.kind is not TaskKind.LOOP:
            return [group.iteration_index]
        found = {task.iteration_index for task in self._tasks.values() if task.parent_task_id == group.task_id}
        return sorted(index for index in found if index is not None)

    def iteration_path(self, task_id: str) -> tuple[int, ...]:
        """Returns the iterations that contain a task, from the outermost loop to the innermost."""
        path: list[int] = []
        task = self._tasks.get(task_id)
        while task is not None:
            above = self._tasks.get(task.parent_task_id)
            if above is not None and above.kind is TaskKind.LOOP and task.iteration_index is not None:
                path.append(task.iteration_index)
            task = above
        return tuple(reversed(path))

    def _walk(self, top: _Scope) -> None:
        """Walks the tree, breadth first; ends even if it is not a tree."""
        todo = deque((root, top) for root in self._inside.pop(0, ()))
        while todo:
            group, scope = todo.popleft()
            for one in self._inside.pop(group.id, ()):
                index = one.iteration_index if group.iteration_count is not None else None
                if index is not None and one.is_group:
                    hashes = scope.inside(f".iteration-iterations({index}:{index})", ".iteration-item")
                    todo.append((one, _Scope(scope.task_id, index, hashes)))
                    continue
                within = scope if index is None else replace(scope, iteration=index)
                task_id = self._found(one, within)
                if task_id:
                    self.executions[task_id] = one
                if one.id in self._inside:
                    task = self._tasks.get(task_id or "")
                    name = task.name if task and one.name == task.display_name else one.name
                    todo.append((one, _Scope(task_id, within.iteration, within.inside(f".{name}"))))

    def _found(self, one: Execution, scope: _Scope) -> str | None:
        """Finds the task of an execution, in both ways."""
        by_tree = None
        if scope.task_id is not None:
            place = scope.task_id, one.name, scope.iteration
            task = self._places.get(place) or self._shown.get(place)
            by_tree = task.task_id if task else None
        by_node = self._pods.get(_number(one.pod_name)) if one.pod_name else next(self._by_name(one, scope), None)
        if by_tree and by_node and by_tree != by_node:
            self.doubtful |= {by_tree, by_node}
            return None
        return by_tree or by_node

    def _by_name(self, one: Execution, scope: _Scope) -> Iterator[str]:
        """Yields the task whose id ends in the hash of the name that the execution's node must have."""
        for state in scope.hashes:
            if (task_id := self._numbers.get(str(hashed(f".{one.name}", state)))) is not None:
                yield task_id


def _number(name: str) -> str:
    """The hash that ends the id of a node and the name of its pod."""
    return name.rpartition("-")[2]
