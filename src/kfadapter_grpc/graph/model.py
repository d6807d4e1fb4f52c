"""What is drawn: boxes with words, boxes inside boxes, and which of them come before which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.graph.words import kind_words, name_words, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.contract.spec import Task


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


def graph_of(tasks: Sequence[Task], clean: Callable[[str], str] = str) -> Graph:
    """Makes a graph of the tasks of a pipeline or group.

    A dependency on a task that is not there, or that closes a circle, has no line; words in the box tell it.

    Args:
        tasks: The tasks.
        clean: What is done to every text, as for a terminal that lacks characters.
    """
    return _Group(tasks, clean).graph()


class _Group:
    """The tasks of a group on their way to be nodes."""

    def __init__(self, tasks: Sequence[Task], clean: Callable[[str], str]) -> None:
        self._tasks = tasks
        self._clean = clean
        self._places = {task.name: place for place, task in enumerate(tasks)}
        self._wanted = [
            [self._places[name] for name in dict.fromkeys(task.depends_on) if name in self._places] for task in tasks
        ]
        self._circular = _closing(self._wanted)

    def graph(self) -> Graph:
        """Makes the graph."""
        edges = {(up, down) for down, ups in enumerate(self._wanted) for up in ups} - self._circular
        return Graph(tuple(map(self._node, range(len(self._tasks)))), tuple(sorted(edges)))

    def _node(self, place: int) -> Node:
        task = self._tasks[place]
        after = {name: self._remark(name, place) for name in dict.fromkeys(task.depends_on)}
        titles = {name: self._shown(self._title(name)) + remark for name, remark in after.items()}
        words = [self._shown(word) for word in kind_words(task)]
        return Node(
            title=self._shown(name_words(task)),
            kind=task.kind,
            words=(*words, *(f"after {title}" for name, title in titles.items() if after[name])),
            after=tuple(titles.values()),
            inside=graph_of(task.tasks, self._clean),
        )

    def _title(self, name: str) -> str:
        return name_words(self._tasks[self._places[name]]) if name in self._places else name

    def _remark(self, name: str, place: int) -> str:
        """Says why there is no line from a task."""
        if name not in self._places:
            return " (not there)"
        return " (in a circle)" if (self._places[name], place) in self._circular else ""

    def _shown(self, text: str) -> str:
        return self._clean(one_line(text))


def _closing(wanted: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Finds the dependencies that close a circle when tasks are visited in the order of the file."""
    closing: set[tuple[int, int]] = set()
    done: set[int] = set()
    for start in range(len(wanted)):
        if start not in done:
            _visit(start, wanted, done, closing)
    return closing


def _visit(start: int, wanted: Sequence[Sequence[int]], done: set[int], closing: set[tuple[int, int]]) -> None:
    """Walks up from one task, without recursion, as chains may be long."""
    path = {start}
    waiting = [(start, iter(wanted[start]))]
    while waiting:
        place, ups = waiting[-1]
        up = next(ups, None)
        if up is None:
            waiting.pop()
            path.discard(place)
            done.add(place)
        elif up in path:
            closing.add((up, place))
        elif up not in done:
            path.add(up)
            waiting.append((up, iter(wanted[up])))
