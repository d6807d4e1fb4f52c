"""The graph in Mermaid's language, which GitHub, GitLab and many wikis draw."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from kfadapter_grpc.graph.layout import DOCUMENT, in_order
from kfadapter_grpc.graph.words import few_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.graph.model import Graph, Node

_ENTITIES = {
    "#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;",
    "*": "#42;", "~": "#126;", "$": "#36;", "%": "#37;", "|": "#124;", ";": "#59;", "@": "#64;",
}  # fmt: skip
_MARKDOWN = re.compile(r"(?<![^\W_])_|_(?![^\W_])|(?<=^\d)\.|(?<=^\d\d)\.|^[-+]")
"""What Markdown would read: underscores at the borders of words, and the beginning of a list."""


def mermaid(graph: Graph) -> str:
    """Writes a graph as a flow chart."""
    numbers = itertools.count(1)
    return "\n".join(["flowchart TD", *_lines(in_order(graph, DOCUMENT), "  ", numbers)]) + "\n"


def _lines(graph: Graph, indent: str, numbers: Iterator[int]) -> Iterator[str]:
    names = []
    for node in graph.nodes:
        names.append(f"t{next(numbers)}")
        if node.inside.nodes:
            yield f'{indent}subgraph {names[-1]}["{_label(node, ": ", ", ", " ")}"]'
            yield from _lines(node.inside, indent + "  ", numbers)
            yield f"{indent}end"
        else:
            yield f'{indent}{names[-1]}["{_label(node, *["<br/>"] * 3)}"]'
    for up, down in graph.edges:
        yield f"{indent}{names[up]} --> {names[down]}"


def _label(node: Node, colon: str, comma: str, space: str) -> str:
    lines = [map(_escaped, few_lines(word, DOCUMENT.label, DOCUMENT.mark)) for word in node.words]
    words = comma.join(map(space.join, lines))
    return _escaped(node.title) + (colon + words if words else "")


def _escaped(text: str) -> str:
    """Writes characters that Mermaid, its Markdown or HTML would read as entities, as Mermaid spells them."""
    plain = "".join(_ENTITIES.get(char, char) for char in text)
    return _MARKDOWN.sub(lambda found: f"#{ord(found[0])};", plain)
