"""The graph as a list, as Mermaid and as Graphviz DOT."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterator

from rich.cells import cell_len

from kfadapter_grpc.graph.layout import DOCUMENT, in_order
from kfadapter_grpc.graph.model import Graph, Node, truncate, wrap, wrap_few
from kfadapter_grpc.graph.text import Style

_DOT = str.maketrans({"&": "&amp;", "\\": "\\\\", '"': '\\"'})
_DOT_HEAD = """\
digraph pipeline {
  compound=true;
  node [shape=box, style=rounded, fontname="sans-serif"];
  graph [style=rounded, fontname="sans-serif", labeljust=l];"""
_BREAK = "\\n"
_INDENT = 2
_MIN_ROOM = 16
"""The minimum width of the text; deeper tasks are not indented further."""
_MAX_SENTENCE = 160
"""The maximum width of a condition or of loop items; names are never truncated."""


def outline(graph: Graph, width: int, style: Style) -> list[str]:
    """Lists tasks with their dependencies; lines that are too long are wrapped with an indent."""
    return list(_listed(graph, width, style, 0))


def sentences(graph: Graph, mark: str) -> Iterator[str]:
    """Yields one line per task, nested tasks after their group."""
    for node in graph.nodes:
        yield _sentence(node, mark)
        yield from sentences(node.inside, mark)


def _listed(graph: Graph, width: int, style: Style, depth: int) -> Iterator[str]:
    indent = " " * max(min(_INDENT * depth, width - _MIN_ROOM - 2), 0)
    for node in graph.nodes:
        lead = f"{indent}{style.bullet} "
        for line in wrap(_sentence(node, style.mark), width - cell_len(lead)):
            yield (lead + line).rstrip()
            lead = " " * cell_len(lead)
        yield from _listed(node.inside, width, style, depth + 1)


def _sentence(node: Node, mark: str) -> str:
    """Describes a task on one line."""
    lines = [
        truncate(word, _MAX_SENTENCE, mark) for word in node.details if word.removeprefix("after ") not in node.after
    ]
    if node.after:
        lines.append(f"after {', '.join(node.after)}")
    return f"{node.title}: {'; '.join(lines)}" if lines else node.title


_MERMAID = {
    "#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;",
    "*": "#42;", "~": "#126;", "$": "#36;", "%": "#37;", "|": "#124;", ";": "#59;", "@": "#64;",
}  # fmt: skip
_MARKDOWN = re.compile(r"(?<![^\W_])_|_(?![^\W_])|(?<=^\d)\.|(?<=^\d\d)\.|^[-+]")
"""What Markdown would read: underscores at the borders of words, and the beginning of a list."""


def mermaid(graph: Graph) -> str:
    return "\n".join(["flowchart TD", *_mermaid_lines(in_order(graph, DOCUMENT), "  ", itertools.count(1))]) + "\n"


def _mermaid_lines(graph: Graph, indent: str, numbers: Iterator[int]) -> Iterator[str]:
    names = []
    for node in graph.nodes:
        names.append(f"t{next(numbers)}")
        if node.inside.nodes:
            yield f'{indent}subgraph {names[-1]}["{_label(node, _for_mermaid, ": ", ", ", " ")}"]'
            yield from _mermaid_lines(node.inside, indent + "  ", numbers)
            yield f"{indent}end"
        else:
            yield f'{indent}{names[-1]}["{_label(node, _for_mermaid, *["<br/>"] * 3)}"]'
    for up, down in graph.edges:
        yield f"{indent}{names[up]} --> {names[down]}"


def _label(node: Node, escaped: Callable[[str], str], colon: str, comma: str, space: str) -> str:
    lines = [map(escaped, wrap_few(word, DOCUMENT.label, DOCUMENT.mark)) for word in node.details]
    text = comma.join(map(space.join, lines))
    return escaped(node.title) + (colon + text if text else "")


def _for_mermaid(text: str) -> str:
    """Replaces characters special in Mermaid, its Markdown or HTML with Mermaid's entities."""
    plain = "".join(_MERMAID.get(char, char) for char in text)
    return _MARKDOWN.sub(lambda found: f"#{ord(found[0])};", plain)


def dot(graph: Graph) -> str:
    """Writes a graph as Graphviz DOT; groups are clusters."""
    return "\n".join([_DOT_HEAD, *_dot_lines(in_order(graph, DOCUMENT), "  ", itertools.count(1)), "}"]) + "\n"


def _dot_lines(graph: Graph, indent: str, numbers: Iterator[int]) -> Generator[str, None, list[tuple[str, str, str]]]:
    """Writes the nodes of a group and their edges.

    Returns for each its first and last inner node, between which edges are drawn, and its cluster.
    """

    def label(node: Node, colon: str, comma: str) -> str:
        return _label(node, lambda text: text.translate(_DOT), colon, comma, _BREAK)

    ends = []
    for node in graph.nodes:
        name = f"t{next(numbers)}"
        if node.inside.nodes:
            yield f"{indent}subgraph cluster_{name} {{"
            yield f'{indent}  label="{label(node, ": ", ", ")}";'
            inside = yield from _dot_lines(node.inside, indent + "  ", numbers)
            yield f"{indent}}}"
            ends.append((inside[0][0], inside[-1][1], f"cluster_{name}"))
        else:
            yield f'{indent}{name} [label="{label(node, _BREAK, _BREAK)}"];'
            ends.append((name, name, ""))
    for up, down in graph.edges:
        (_, start, tail), (end, _, head) = ends[up], ends[down]
        clusters = ", ".join(f"{key}={name}" for key, name in (("ltail", tail), ("lhead", head)) if name)
        yield f"{indent}{start} -> {end}{f' [{clusters}]' if clusters else ''};"
    return ends
