"""What is drawn: boxes with words, boxes inside boxes, and which of them come before which."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from kfadapter_grpc.contract.spec import TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Task

_KINDS = {TaskKind.IMPORTER: "importer", TaskKind.EXIT_HANDLER: "finally"}
_MOST_LINES = 3
_NUMBER = re.compile(r"-\d+$")
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of characters that steer a terminal or break a line: controls, halves of characters, separators."""
_TURNING = {0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0xFFFE, 0xFFFF}
"""Characters that turn the direction of a text round, and two that XML forbids."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks of one group.

    Attributes:
        nodes: The tasks, in the order of the file.
        edges: From which task to which, as places in `nodes`; no circles, each once, sorted.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A task. All texts are on one line and fit for a terminal.

    Attributes:
        title: Its name.
        kind: What it is.
        words: What a box says of it besides, each a line: `if loss < 1`, `for each of [1, 2]`, `finally`.
        after: All that must be over before, with a remark where no line can lead there.
        inside: The tasks inside it.
    """

    title: str
    kind: TaskKind = TaskKind.UNKNOWN
    words: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    inside: Graph = field(default_factory=Graph)


def graph_of(
    tasks: Sequence[Task],
    clean: Callable[[str], str] = str,
    states: Mapping[tuple[str, ...], str] | None = None,
    above: tuple[str, ...] = (),
) -> Graph:
    """Makes a graph of the tasks of a pipeline or group.

    A dependency on a missing task, or one that closes a circle, has no line; words in the box name it.

    Args:
        tasks: The tasks.
        clean: What is done to every text, as for a terminal that lacks characters.
        states: What became of tasks in a run, in words, by the names of the groups around them and their own.
        above: The names of the groups around these tasks.
    """
    places = {task.name: place for place, task in enumerate(tasks)}
    ups = [[places[name] for name in dict.fromkeys(task.depends_on) if name in places] for task in tasks]
    circular = _closing(ups)
    edges = {(up, down) for down, some in enumerate(ups) for up in some} - circular

    def shown(text: str) -> str:
        return clean(one_line(text))

    def node(place: int, task: Task) -> Node:
        path, after = (*above, task.name), []
        words = [shown(word) for word in _kind_words(task)]
        for name in dict.fromkeys(task.depends_on):
            remark = "" if name in places else " (not there)"
            if (places.get(name, -1), place) in circular:
                remark = " (in a circle)"
            title = shown(_name_words(tasks[places[name]]) if name in places else name) + remark
            after.append(title)
            words += [f"after {title}"] if remark else []
        words += [shown(states[path])] if states and path in states else []
        inside = graph_of(task.tasks, clean, states, path)
        return Node(shown(_name_words(task)), task.kind, tuple(words), tuple(after), inside)

    return Graph(tuple(node(*one) for one in enumerate(tasks)), tuple(sorted(edges)))


def _closing(ups: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Finds the dependencies that close a circle when tasks are visited in the order of the file.

    It walks up from one task after the other, without recursion, as chains may be long.
    """
    closing: set[tuple[int, int]] = set()
    done: set[int] = set()
    for start in range(len(ups)):
        path, waiting = ({start}, [(start, iter(ups[start]))]) if start not in done else (set(), [])
        while waiting:
            place, left = waiting[-1]
            up = next(left, None)
            if up is None:
                waiting.pop()
                path.discard(place)
                done.add(place)
            elif up in path:
                closing.add((up, place))
            elif up not in done:
                path.add(up)
                waiting.append((up, iter(ups[up])))
    return closing


def _name_words(task: Task) -> str:
    """Names a task as people do."""
    return task.display_name or task.name or "(no name)"


def _kind_words(task: Task) -> Iterator[str]:
    """Says what is special about a task, each on a line of its own."""
    if task.kind in _KINDS:
        yield _KINDS[task.kind]
    elif task.kind.is_group and not task.tasks and not task.image:
        yield "no tasks shown"  # there are none, or they are too many, too deep or not understood
    if component := _component(task):
        yield f"runs {component}"
    if task.condition or task.kind is TaskKind.CONDITION:
        yield f"if {task.condition or '...'}"
    if task.loop_items or task.kind is TaskKind.LOOP:
        parallelism = f", {task.loop_parallelism} at once" if task.loop_parallelism else ""
        yield f"for each of {task.loop_items or '...'}{parallelism}"


def one_line(text: str) -> str:
    """Puts a text on one line, and shows what would steer a terminal instead of sending it."""
    return "".join(
        char.encode("unicode_escape", "surrogatepass").decode("ascii")
        if unicodedata.category(char) in _UNSEEN or ord(char) in _TURNING
        else char
        for char in " ".join(text.split())
    )


def middle_cut(text: str, cells: int, mark: str) -> str:
    """Shortens a name to so many cells; its end stays, as it often holds the number."""
    room = cells - cell_len(mark)
    if cell_len(text) <= cells:
        return text
    if room < 5:  # noqa: PLR2004  less than three characters in front name nothing
        return end_cut(text, cells, mark)
    tail = _tail(text, room // 3)
    return set_cell_size(text, room - cell_len(tail)).rstrip() + mark + tail


def end_cut(text: str, cells: int, mark: str) -> str:
    """Shortens a text to so many cells."""
    if cell_len(text) <= cells:
        return text
    room = cells - cell_len(mark)
    return set_cell_size(text, room).rstrip() + mark if room > 0 else set_cell_size(mark, max(cells, 0))


def cut_off(text: str, cells: int) -> tuple[str, str]:
    """Divides a text after so many cells; at least one character is cut off, and marks stay where they belong."""
    end = 1
    while end < len(text) and (cell_len(text[: end + 1]) <= cells or not cell_len(text[end])):
        end += 1
    return text[:end], text[end:]


def folded(text: str, cells: int) -> Iterator[str]:
    """Breaks a text into lines of so many cells, between words where that can be."""
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
            head, line = cut_off(line, cells)
            yield head
    yield line


def few_lines(text: str, cells: int, mark: str) -> list[str]:
    """Breaks a text into three lines at most; the last one is cut where it is too long."""
    lines = list(folded(text, cells))
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], end_cut(" ".join(lines[_MOST_LINES - 1 :]), cells, mark)]


def _tail(text: str, cells: int) -> str:
    """Takes as much of the end of a text as fits; it starts with no mark that belongs to the character before it."""
    for start in range(max(len(text) - cells, 0), len(text)):
        tail = text[start:]
        if cell_len(tail) <= cells and cell_len(tail[0]) and text[start - 1] != "\u200d":
            return tail
    return ""


def _component(task: Task) -> str:
    """Names the component or template that a task runs, where the task's own names do not already."""
    if task.tasks:
        return ""
    component = task.component.removeprefix("comp-")
    known = {task.name, task.display_name, _NUMBER.sub("", task.name)}
    return "" if {component, _NUMBER.sub("", component)} & known else component
