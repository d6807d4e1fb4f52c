"""The graph to draw: boxes with text, nested boxes, and their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size

from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.printable import one_line

_KINDS = {TaskKind.IMPORTER: "importer", TaskKind.EXIT_HANDLER: "finally"}
_MAX_LINES = 3
_NUMBER = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks of one group; edges are pairs of indices in `nodes`: acyclic, unique, sorted."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A task. All texts are single lines without control characters.

    Attributes:
        details: Further lines of its box: `if loss < 1`, `for each of [1, 2]`, `finally`.
        after: Its dependencies, with a remark if no line can be drawn.
        path: The names of its groups and its own, as declared.
        is_closed: Whether it represents the tasks inside it, too.
    """

    title: str
    kind: TaskKind = TaskKind.UNKNOWN
    details: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    inside: Graph = field(default_factory=Graph)
    path: tuple[str, ...] = ()
    is_closed: bool = False


def graph_of(
    tasks: Sequence[Task],
    clean: Callable[[str], str] = str,
    states: Mapping[tuple[str, ...], str] | None = None,
    above: tuple[str, ...] = (),
    closed: Container[tuple[str, ...]] = (),
) -> Graph:
    """Builds the graph of the tasks of a pipeline or group.

    A dependency on a missing task, or one that closes a cycle, has no line; a text in the box names it. `clean` is
    applied to every text; `states` are texts of tasks in a run, and `closed` the groups that are drawn as one box,
    by the names of their groups and their own; `above` are the names of the groups around these tasks.
    """
    indices = {task.name: index for index, task in enumerate(tasks)}
    parents = [[indices[name] for name in dict.fromkeys(task.depends_on) if name in indices] for task in tasks]
    back_edges = _back_edges(parents)
    edges = {(up, down) for down, of_task in enumerate(parents) for up in of_task} - back_edges

    def printable(text: str) -> str:
        return clean(one_line(text))

    def node(index: int, task: Task) -> Node:
        path, after = (*above, task.name), []
        texts = [printable(word) for word in _details(task)]
        for name in dict.fromkeys(task.depends_on):
            remark = "" if name in indices else " (not there)"
            if (indices.get(name, -1), index) in back_edges:
                remark = " (in a circle)"
            title = printable(_title(tasks[indices[name]]) if name in indices else name) + remark
            after.append(title)
            texts += [f"after {title}"] if remark else []
        texts += [printable(states[path])] if states and path in states else []
        is_closed = bool(task.tasks) and path in closed
        inside = Graph() if is_closed else graph_of(task.tasks, clean, states, path, closed)
        return Node(printable(_title(task)), task.kind, tuple(texts), tuple(after), inside, path, is_closed)

    return Graph(tuple(node(*task) for task in enumerate(tasks)), tuple(sorted(edges)))


def _back_edges(parents: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Returns the dependencies that close a cycle when tasks are visited in the order of the file.

    Traverses from each task upwards, without recursion, as chains may be long.
    """
    found: set[tuple[int, int]] = set()
    done: set[int] = set()
    for start in range(len(parents)):
        path, waiting = ({start}, [(start, iter(parents[start]))]) if start not in done else (set(), [])
        while waiting:
            index, left = waiting[-1]
            up = next(left, None)
            if up is None:
                waiting.pop()
                path.discard(index)
                done.add(index)
            elif up in path:
                found.add((up, index))
            elif up not in done:
                path.add(up)
                waiting.append((up, iter(parents[up])))
    return found


def _title(task: Task) -> str:
    return task.display_name or task.name or "(no name)"


def _details(task: Task) -> Iterator[str]:
    """Returns the special properties of a task, one per line."""
    if task.kind in _KINDS:
        yield _KINDS[task.kind]
    elif task.kind.is_group and not task.tasks and not task.image:
        yield "no tasks shown"  # there are none, or they are too many, too deep or unsupported
    if component := _component(task):
        yield f"runs {component}"
    if task.condition or task.kind is TaskKind.CONDITION:
        yield f"if {task.condition or '...'}"
    if task.loop_items or task.kind is TaskKind.LOOP:
        parallelism = f", {task.loop_parallelism} at once" if task.loop_parallelism else ""
        yield f"for each of {task.loop_items or '...'}{parallelism}"


def truncate_middle(text: str, cells: int, mark: str) -> str:
    """Shortens a name to a number of cells; keeps its end, which often has the number."""
    room = cells - cell_len(mark)
    if cell_len(text) <= cells:
        return text
    if room < 5:  # noqa: PLR2004  less than three characters in front name nothing
        return truncate(text, cells, mark)
    tail = _tail(text, room // 3)
    return set_cell_size(text, room - cell_len(tail)).rstrip() + mark + tail


def truncate(text: str, cells: int, mark: str) -> str:
    if cell_len(text) <= cells:
        return text
    room = cells - cell_len(mark)
    return set_cell_size(text, room).rstrip() + mark if room > 0 else set_cell_size(mark, max(cells, 0))


def split_at(text: str, cells: int) -> tuple[str, str]:
    """Splits a text after a number of cells and at least one character; combining marks are not separated."""
    end = 1
    while end < len(text) and (cell_len(text[: end + 1]) <= cells or not cell_len(text[end])):
        end += 1
    return text[:end], text[end:]


def wrap(text: str, cells: int) -> Iterator[str]:
    """Wraps a text into lines of a number of cells, between words if possible."""
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= cells:
            line = joined
            continue
        if line:
            yield line
        line = word
        while cell_len(line) > cells:
            head, line = split_at(line, cells)
            yield head
    yield line


def wrap_few(text: str, cells: int, mark: str) -> list[str]:
    """Wraps a text into at most three lines; the last one is cut if it is too long."""
    lines = list(wrap(text, cells))
    if len(lines) <= _MAX_LINES:
        return lines
    return [*lines[: _MAX_LINES - 1], truncate(" ".join(lines[_MAX_LINES - 1 :]), cells, mark)]


def _tail(text: str, cells: int) -> str:
    """Returns as much of the end of a text as fits; does not start with a combining mark."""
    for start in range(max(len(text) - cells, 0), len(text)):
        tail = text[start:]
        if cell_len(tail) <= cells and cell_len(tail[0]) and text[start - 1] != "\u200d":
            return tail
    return ""


def _component(task: Task) -> str:
    """Names the component or template of a task, unless the task's own names already do."""
    if task.tasks:
        return ""
    component = task.component.removeprefix("comp-")
    plain_names = {task.name, task.display_name, _NUMBER.sub("", task.name)}
    return "" if {component, _NUMBER.sub("", component)} & plain_names else component
