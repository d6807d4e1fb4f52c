"""The paths of the tasks of a run, through groups and iterations, and how users name a task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kfadapter_grpc.contract.errors import InvalidFieldError, TaskNotFoundError, listed
from kfadapter_grpc.contract.runs import RunTask
from kfadapter_grpc.contract.spec import TaskKind

_PART = re.compile(r"(?P<name>[^/\[\]]+)(\[(?P<index>\d+)\])?")
_NAME = re.compile(r"[^/\[\]]+")
_MAX_LISTED = 10


class Part(NamedTuple):
    """One part of a path: a task by its names and as it is shown, and the iteration of a loop, or an item's index."""

    name: str
    display_name: str
    shown: str
    iteration: int | None = None

    def __str__(self) -> str:
        return self.shown if self.iteration is None else f"{self.shown}[{self.iteration}]"


class TaskPaths:
    """The paths of the tasks of one run, such as `each[1]/inner[0]/train`."""

    def __init__(self, tasks: Sequence[RunTask]) -> None:
        self._tasks = tasks
        self._by_id = {task.task_id: task for task in tasks if task.task_id}
        by_name: dict[tuple[str, str], set[str]] = {}
        for task in tasks:
            by_name.setdefault((task.parent_task_id, task.display_name), set()).add(task.name)
        self._shared = {key for key, names in by_name.items() if len(names) > 1}

    def of(self, task: RunTask) -> str:
        """Returns the path of a task: its groups, with the iteration of loops in brackets, and the task itself.

        Each has the display name that its author set, unless siblings share it or it has the form of a path.
        """
        return "/".join(map(str, self.parts(task)))

    def find(self, named: str, iteration_index: int | None = None) -> RunTask:
        """Finds a task by task_id, path, name, or display name, in this order. Raises if none or several match."""
        chosen = self.select(named, iteration_index)
        if len(chosen) > 1:
            raise self._ambiguous(named, chosen)
        return chosen[0]

    def select(self, named: str, iteration_index: int | None = None) -> Sequence[RunTask]:
        """Finds all matching tasks, in the same way. Raises TaskNotFoundError if no task matches."""
        if named in self._by_id:
            return [self._by_id[named]]
        for tasks in self._matching(named):
            if chosen := [task for task in tasks if iteration_index in {None, task.iteration_index}]:
                return chosen
        raise self._missing(named, iteration_index)

    def _matching(self, named: str) -> Iterator[list[RunTask]]:
        yield [task for task in self._tasks if self.of(task) == named]
        yield [task for task in self._tasks if task.name == named]
        matches = [_PART.fullmatch(part) for part in named.split("/")]
        if all(matches):
            parts = [(part["name"], part["index"]) for part in matches if part]
            yield [task for task in self._tasks if _ends_with(self._indexed(task), parts)]

    def _indexed(self, task: RunTask) -> list[Part]:
        """The path of a task that ends with its own iteration, as in `each/train[1]` for `each[1]/train`."""
        *groups, last = self.parts(task)
        return [*groups, last._replace(iteration=task.iteration_index)]

    def parts(self, task: RunTask) -> list[Part]:
        """Returns the path of a task part by part, outermost first."""
        parts = [self._part(task, self._item(task))]
        seen = {task.task_id}
        while task.parent_task_id in self._by_id and task.parent_task_id not in seen:
            parent = self._by_id[task.parent_task_id]
            iteration = task.iteration_index if parent.kind is TaskKind.LOOP else self._item(parent)
            parts.append(self._part(parent, iteration))
            seen.add(parent.task_id)
            task = parent
        return parts[::-1]

    def _item(self, task: RunTask) -> int | None:
        """The index of a task that is itself one of several, as a step of KFP v1 that runs for each item of a list."""
        around = self._by_id.get(task.parent_task_id)
        is_inside = around is not None and (
            around.kind is TaskKind.LOOP or around.iteration_index == task.iteration_index
        )
        return None if is_inside else task.iteration_index

    def _part(self, task: RunTask, iteration: int | None) -> Part:
        shared = (task.parent_task_id, task.display_name) in self._shared
        title = task.name if shared or not _NAME.fullmatch(task.display_name) else task.display_name
        return Part(task.name, task.display_name, title, iteration)

    def _ambiguous(self, named: str, tasks: Sequence[RunTask]) -> InvalidFieldError:
        paths = listed([f"'{self.of(task)}'" for task in tasks], _MAX_LISTED)
        text = f"'{named}' is ambiguous; use one of these paths, a task_id, or iteration_index: {paths}"
        return InvalidFieldError.of("task", text)

    def _missing(self, named: str, iteration_index: int | None) -> TaskNotFoundError:
        paths = listed(list(dict.fromkeys(map(self.of, self._tasks))), _MAX_LISTED) or "none yet"
        where = "" if iteration_index is None else f" in iteration {iteration_index}"
        text = f"the run has no task '{named}'{where}; its tasks are: {paths}"
        return TaskNotFoundError(text, metadata={"task": named}, resource_name=named)


def _ends_with(parts: Sequence[Part], requested: Sequence[tuple[str, str | None]]) -> bool:
    """Whether a path ends with the requested parts; an iteration that is not set matches any."""
    pairs = list(zip(parts[::-1], requested[::-1], strict=False))
    return len(parts) >= len(requested) and all(
        name in {part.name, part.display_name} and index in {None, str(part.iteration)} for part, (name, index) in pairs
    )


def paths_of(tasks: Sequence[RunTask]) -> Mapping[str, str]:
    paths = TaskPaths(tasks)
    return {task.task_id: paths.of(task) for task in tasks}
