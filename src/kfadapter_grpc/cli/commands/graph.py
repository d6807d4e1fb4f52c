"""What graph does: draws the tasks of a pipeline."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import GraphFormat
from kfadapter_grpc.cli.spec_view import some_of
from kfadapter_grpc.graph import ASCII, UNICODE, dot, graph_of, mermaid, outline, svg, try_text

if TYPE_CHECKING:
    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.contract.pipelines import PipelineRef, PipelineVersion, VersionRef
    from kfadapter_grpc.graph import Graph, Style

PIPE_WIDTH = 80
"""How wide a picture is where there is no terminal."""
LEAST_WIDTH = 20
"""In a terminal that is narrower than this, lines are as long as this."""


def graph(
    options: ClientOptions,
    ref: PipelineRef,
    version: VersionRef,
    style: GraphFormat,
    *,
    width: int | None,
    ascii_only: bool,
) -> None:
    """Draws the tasks of a pipeline."""
    with options.client() as client:
        found = client.pipelines.get_version(
            ref.name,
            pipeline_id=ref.pipeline_id,
            version_name=version.name,
            pipeline_version_id=version.pipeline_version_id,
        )
    _note_gaps(found)
    if style is not GraphFormat.TEXT:
        sys.stdout.write(_document(found, style))
    elif found.spec and found.spec.tasks:
        tasks = graph_of(found.spec.tasks, output.encodable)
        _print_text(tasks, width or _width(), ASCII if ascii_only or not output.is_utf8() else UNICODE)


def _note_gaps(version: PipelineVersion) -> None:
    """Says what a picture of it cannot show."""
    spec = version.spec
    if spec is None or not spec.tasks:
        output.note(f"version '{version.name}' has no tasks that could be drawn")
    if spec and spec.unknown_parts:
        output.note(f"not understood, so perhaps missing here: {some_of(spec.unknown_parts)}")


def _print_text(tasks: Graph, width: int, style: Style) -> None:
    lines = try_text(tasks, width, style)
    if lines is None:
        output.note(f"too wide to draw in {width} columns, so here is a list; --width N or -o svg draws it")
        lines = outline(tasks, width, style)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _document(version: PipelineVersion, style: GraphFormat) -> str:
    """Writes the graph for a document, in ASCII where stdout is not UTF-8."""
    spec = version.spec
    tasks = graph_of(spec.tasks if spec else ())
    if style is GraphFormat.SVG:
        name = spec.name if spec else ""
        return _references(svg(tasks, f"{name or 'pipeline'}, version {version.name}"))
    if style is GraphFormat.DOT:
        return _references(dot(tasks))
    return (
        mermaid(tasks)
        if output.is_utf8()
        else re.sub(r"[^\x00-\x7f]", lambda found: f"#{ord(found[0])};", mermaid(tasks))
    )


def _references(text: str) -> str:
    """Spells characters as XML and Graphviz read them in any encoding, where that is needed."""
    return text if output.is_utf8() else text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _width() -> int:
    return output.width(LEAST_WIDTH) if sys.stdout.isatty() else PIPE_WIDTH
