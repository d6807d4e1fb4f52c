"""`kfadapter graph`: draws the tasks of a pipeline."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import re
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.completion import pipeline_names, run_names
from kfadapter_grpc.cli.options import ById, ClientOptions, Version, argument
from kfadapter_grpc.cli.references import find_version, pipeline_reference, run_id
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.folding import Merged, folded_tasks, merged_tasks

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.graph import Graph, Style

PIPE_WIDTH = 80
"""The width of the text if stdout is not a terminal."""


def graph(
    options: ClientOptions,
    pipeline: Annotated[
        str, argument("Pipeline: its name, its id or the beginning of it.", pipeline_names, "[NAME|ID]")
    ] = "",
    *,
    run: Annotated[
        str,
        typer.Option(
            metavar="RUN",
            help="Draw the pipeline of a run instead, with states and times of the tasks.",
            autocompletion=run_names,
        ),
    ] = "",
    version: Version = "",
    by_id: ById = None,
    output: Annotated[
        Literal["text", "svg", "mermaid", "dot"], typer.Option("--output", "-o", help="Output format.")
    ] = "text",
    width: Annotated[
        int | None, typer.Option(min=20, metavar="N", help="Width of the text; defaults to the terminal, or 80.")
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw the text with ASCII characters only.")] = False,
) -> None:
    """Draw the tasks of a pipeline, or of a run."""
    from kfadapter_grpc.graph import ASCII, UNICODE, graph_of

    if bool(pipeline) == bool(run):
        raise typer.BadParameter("give a pipeline or --run RUN")
    outcomes: Mapping[tuple[str, ...], Merged] = {}
    with options.client() as client:
        if run:
            spec, subject, outcomes = _run_graph(client, run)
        else:
            version_ = find_version(client, pipeline_reference(client, pipeline, by_id=by_id), version or None)
            spec, subject = version_.spec, ("version", version_.name)
    _note_gaps(spec, subject)
    now = datetime.now(timezone.utc)
    states = {path: outcome.words(now) for path, outcome in outcomes.items()}
    if output != "text":
        css_classes = {path: outcome.state.name.lower() for path, outcome in outcomes.items()}
        sys.stdout.write(_document(spec, subject, output, states, css_classes))
    elif spec and spec.tasks:
        style = ASCII if ascii_only or not out.is_utf8() else UNICODE
        _print_text(graph_of(spec.tasks, out.encodable, states), width or _width(), style)


def _run_graph(
    client: "Client", run: str
) -> tuple[SpecSummary | None, tuple[str, str], Mapping[tuple[str, ...], Merged]]:
    """Returns the spec of a run's pipeline, or one made from its tasks; its title; the outcomes of its tasks."""
    record = client.runs.get(run_id(client, run))
    outcomes = merged_tasks(record)
    version = client.pipelines.try_version_of(record)
    if version and version.spec and version.spec.tasks:
        return version.spec, ("version", version.name), outcomes
    why = "its version has no known tasks" if version else "the run was started from a file, or its version was deleted"
    out.note(f"{why}, so its own tasks are drawn; they are connected where one takes an output of another")
    return SpecSummary(tasks=folded_tasks(record)), ("run", record.display_name), outcomes


def _width() -> int:
    return out.width() if sys.stdout.isatty() else PIPE_WIDTH


def _note_gaps(spec: SpecSummary | None, subject: tuple[str, str]) -> None:
    """Prints what the drawing cannot show."""
    from kfadapter_grpc.cli.pipeline_view import unsupported_text

    if spec is None or not spec.tasks:
        out.note(f"{subject[0]} '{subject[1]}' has no tasks that could be drawn")
    if spec and spec.unknown_parts:
        out.note(f"not understood, so perhaps missing here: {unsupported_text(spec.unknown_parts)}")


def _print_text(tasks: "Graph", width: int, style: "Style") -> None:
    from kfadapter_grpc.graph import outline, try_text

    lines = try_text(tasks, width, style)
    if lines is None:
        out.note(f"too wide to draw in {width} columns, so here is a list; --width N or -o svg draws it")
        lines = outline(tasks, width, style)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _document(
    spec: SpecSummary | None,
    subject: tuple[str, str],
    style: str,
    states: Mapping[tuple[str, ...], str],
    css_classes: Mapping[tuple[str, ...], str],
) -> str:
    """Writes the graph for a document; if stdout is not UTF-8, in ASCII with each format's own character references."""
    from kfadapter_grpc.graph import dot, graph_of, mermaid, svg

    tasks = graph_of(spec.tasks if spec else (), states=states)
    if style == "mermaid":
        text = mermaid(tasks)
        return text if out.is_utf8() else re.sub(r"[^\x00-\x7f]", lambda found: f"#{ord(found[0])};", text)
    name = spec.name if spec else ""
    title = f"{name or 'pipeline'}, {' '.join(subject)}"
    text = dot(tasks) if style == "dot" else svg(tasks, title, states=css_classes)
    return text if out.is_utf8() else text.encode("ascii", "xmlcharrefreplace").decode("ascii")
