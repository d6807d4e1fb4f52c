"""The graph in Graphviz' language."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kfadapter_grpc.graph.layout import DOCUMENT, in_order
from kfadapter_grpc.graph.words import few_lines

if TYPE_CHECKING:
    from kfadapter_grpc.graph.model import Graph, Node

_HEAD = """\
digraph pipeline {
  compound=true;
  node [shape=box, style=rounded, fontname="sans-serif"];
  graph [style=rounded, fontname="sans-serif", labeljust=l];"""

_LINE = "\\n"
"""How a label breaks a line."""


def dot(graph: Graph) -> str:
    """Writes a graph; boxes with others inside are clusters."""
    return "\n".join([_HEAD, *_Writer().lines(in_order(graph, DOCUMENT), "  ")[0], "}"]) + "\n"


class _End:
    """What edges come to and start from: nodes, and the cluster that hides them, if they are inside of one."""

    def __init__(self, first: str, last: str, cluster: str = "") -> None:
        self.first = first
        self.last = last
        self.cluster = cluster


class _Writer:
    """Numbers nodes as they are written."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def lines(self, graph: Graph, indent: str) -> tuple[list[str], list[_End]]:
        """Writes the nodes of a group and their edges; tells what edges can be drawn to."""
        found: list[str] = []
        ends: list[_End] = []
        for node in graph.nodes:
            written, end = self._node(node, indent)
            found += written
            ends.append(end)
        found += [f"{indent}{_edge(ends[up], ends[down])};" for up, down in graph.edges]
        return found, ends

    def _node(self, node: Node, indent: str) -> tuple[list[str], _End]:
        number = next(self._numbers)
        if not node.inside.nodes:
            return [f"{indent}t{number} [label={_quoted(node, _LINE, _LINE)}];"], _End(f"t{number}", f"t{number}")
        inside, ends = self.lines(node.inside, indent + "  ")
        cluster = f"cluster_t{number}"
        head = [f"{indent}subgraph {cluster} {{", f"{indent}  label={_quoted(node, ': ', ', ')};"]
        return [*head, *inside, f"{indent}}}"], _End(ends[0].first, ends[-1].last, cluster)


def _edge(up: _End, down: _End) -> str:
    ends = [("ltail", up.cluster), ("lhead", down.cluster)]
    told = ", ".join(f"{name}={cluster}" for name, cluster in ends if cluster)
    return f"{up.last} -> {down.first}" + (f" [{told}]" if told else "")


def _quoted(node: Node, colon: str, comma: str) -> str:
    words = comma.join(_LINE.join(map(_escaped, few_lines(word, DOCUMENT.label, DOCUMENT.mark))) for word in node.words)
    return f'"{_escaped(node.title)}{colon + words if words else ""}"'


def _escaped(text: str) -> str:
    """Keeps Graphviz from reading quotes, escapes and HTML entities."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
