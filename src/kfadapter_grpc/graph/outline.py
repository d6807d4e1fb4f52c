"""The tasks as an indented list, for where a picture does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from kfadapter_grpc.graph.words import end_cut, folded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.graph.model import Graph, Node
    from kfadapter_grpc.graph.text import Style

_INDENT = 2
_LEAST_ROOM = 16
"""So many columns are left for words; what lies deeper is not indented further."""
_LONGEST = 160
"""How many columns a condition or the items of a loop may take; a name is never cut."""


def outline(graph: Graph, width: int, style: Style) -> list[str]:
    """Lists tasks with what they wait for; lines that are too long go on below their beginning.

    Args:
        graph: The tasks.
        width: How wide a line may be; at least 20.
        style: What stands before each task, and for what is cut off.
    """
    return list(_lines(graph, width, style, 0))


def sentences(graph: Graph, mark: str) -> Iterator[str]:
    """Says each task on a line, those inside others behind these."""
    for node in graph.nodes:
        yield _sentence(node, mark)
        yield from sentences(node.inside, mark)


def _lines(graph: Graph, width: int, style: Style, depth: int) -> Iterator[str]:
    indent = " " * max(min(_INDENT * depth, width - _LEAST_ROOM - 2), 0)
    for node in graph.nodes:
        lead = f"{indent}{style.bullet} "
        for line in folded(_sentence(node, style.mark), width - cell_len(lead)):
            yield (lead + line).rstrip()
            lead = " " * cell_len(lead)
        yield from _lines(node.inside, width, style, depth + 1)


def _sentence(node: Node, mark: str) -> str:
    """Says a task on one line."""
    told = [end_cut(word, _LONGEST, mark) for word in node.words if word.removeprefix("after ") not in node.after]
    if node.after:
        told.append(f"after {', '.join(node.after)}")
    return f"{node.title}: {'; '.join(told)}" if told else node.title
