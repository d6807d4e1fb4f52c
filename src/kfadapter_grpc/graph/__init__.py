"""The graph of a pipeline: one layout, drawn as text, SVG, Mermaid and DOT.

`model` builds the graph of a spec, `layout` positions every box and line in terminal cells, and the other modules
draw it: `text` and `svg` use the positions, `documents` the order.
"""

from kfadapter_grpc.graph.documents import dot, mermaid, outline
from kfadapter_grpc.graph.model import Graph, Node, graph_of
from kfadapter_grpc.graph.svg import STYLE, svg
from kfadapter_grpc.graph.text import ASCII, UNICODE, Style, try_text

__all__ = [
    "ASCII",
    "STYLE",
    "UNICODE",
    "Graph",
    "Node",
    "Style",
    "dot",
    "graph_of",
    "mermaid",
    "outline",
    "svg",
    "try_text",
]
