"""`kfadapter graph`: draws the tasks of a pipeline."""
# ruff: noqa: PLC0415  help loads no more than it needs

import re
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.option_types import ById, PipelineName, Version
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.values import find_version, reference, version_reference

if TYPE_CHECKING:
    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.graph import Graph, Style

PIPE_WIDTH = 80
"""How wide a picture is where there is no terminal."""
LEAST_WIDTH = 20
"""In a terminal that is narrower than this, lines are as long as this."""


def graph(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: Version = "",
    by_id: ById = None,
    output: Annotated[
        Literal["text", "svg", "mermaid", "dot"], typer.Option("--output", "-o", help="Output format.")
    ] = "text",
    width: Annotated[
        int | None,
        typer.Option("--width", min=20, metavar="N", help="Width of the text; defaults to the terminal, or 80."),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw the text with ASCII characters only.")] = False,
) -> None:
    """Draw the tasks of a pipeline."""
    from kfadapter_grpc.graph import ASCII, UNICODE, graph_of

    with options.client() as client:
        found = find_version(client, reference(pipeline, by_id=by_id), version_reference(version or None))
    _note_gaps(found)
    if output != "text":
        sys.stdout.write(_document(found, output))
    elif found.spec and found.spec.tasks:
        style = ASCII if ascii_only or not out.is_utf8() else UNICODE
        _print_text(graph_of(found.spec.tasks, out.encodable), width or _width(), style)


def _width() -> int:
    return out.width(LEAST_WIDTH) if sys.stdout.isatty() else PIPE_WIDTH


def _note_gaps(version: "PipelineVersion") -> None:
    """Says what a picture of it cannot show."""
    from kfadapter_grpc.cli.spec_view import some_of

    spec = version.spec
    if spec is None or not spec.tasks:
        out.note(f"version '{version.name}' has no tasks that could be drawn")
    if spec and spec.unknown_parts:
        out.note(f"not understood, so perhaps missing here: {some_of(spec.unknown_parts)}")


def _print_text(tasks: "Graph", width: int, style: "Style") -> None:
    from kfadapter_grpc.graph import outline, try_text

    lines = try_text(tasks, width, style)
    if lines is None:
        out.note(f"too wide to draw in {width} columns, so here is a list; --width N or -o svg draws it")
        lines = outline(tasks, width, style)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _document(version: "PipelineVersion", style: str) -> str:
    """Writes the graph for a document; where stdout is not UTF-8, in ASCII with each format's own references."""
    from kfadapter_grpc.graph import dot, graph_of, mermaid, svg

    spec = version.spec
    tasks = graph_of(spec.tasks if spec else ())
    if style == "mermaid":
        text = mermaid(tasks)
        return text if out.is_utf8() else re.sub(r"[^\x00-\x7f]", lambda found: f"#{ord(found[0])};", text)
    name = spec.name if spec else ""
    text = dot(tasks) if style == "dot" else svg(tasks, f"{name or 'pipeline'}, version {version.name}")
    return text if out.is_utf8() else text.encode("ascii", "xmlcharrefreplace").decode("ascii")
