"""The picture of a pipeline: one layout, drawn as text, SVG, Mermaid and DOT.

`model` makes a graph of a spec, `layout` gives every box and line its place in cells of a terminal, and what is left
draws that: `text` and `svg` use the places, `mermaid` and `dot` the order. `outline` needs neither.
"""

from kfadapter_grpc.graph.dot import dot
from kfadapter_grpc.graph.mermaid import mermaid
from kfadapter_grpc.graph.model import Graph, Node, graph_of
from kfadapter_grpc.graph.outline import outline
from kfadapter_grpc.graph.svg import svg
from kfadapter_grpc.graph.text import ASCII, UNICODE, Style, try_text

__all__ = ["ASCII", "UNICODE", "Graph", "Node", "Style", "dot", "graph_of", "mermaid", "outline", "svg", "try_text"]
