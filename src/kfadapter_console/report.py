"""A run as a single file: opens without a network, runs no script, and can be printed."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_console import page
from kfadapter_console.compare import classifications, outputs_of
from kfadapter_console.plots import confusion_plot, roc_plot
from kfadapter_grpc.contract.errors import AdapterError, PipelineNotFoundError, VersionNotFoundError
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.folding import folded_tasks, merged_tasks, rows_of
from kfadapter_grpc.graph import graph_of, svg
from kfadapter_grpc.graph.svg import STYLE
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request

    from kfadapter_grpc.client import Client, Run, RunArtifact, Task
    from kfadapter_grpc.folding import Row

MAX_PICTURES = 20
MAX_DOCUMENTS = 10
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_FAILURES = 20
_MANY_TASKS = 500
"""From this number of tasks on, values of their inputs and outputs are cut to few characters."""
_STATIC = Path(__file__).parent / "static"
_DOCUMENTS = {"system.HTML", "system.Markdown"}


def show(request: Request) -> Response:
    """The report as a download."""
    run_id = request.path_params["run_id"]
    name = f'attachment; filename="run-{run_id}.html"'  # the adapter finds no other ids than those without quotes
    return Response(
        report_of(page.client(request), run_id), media_type="text/html", headers={"content-disposition": name}
    )


def report_of(calls: Client, run_id: str) -> str:
    """Returns the report of a run as HTML.

    Raises:
        RunNotFoundError: The run does not exist.
    """
    run, now = calls.runs.get(run_id), datetime.now(timezone.utc)
    declared = _declared(calls, run)
    rows = rows_of(run, declared)
    merged = merged_tasks(run)
    graph = graph_of(declared or folded_tasks(run), states={path: one.words(now) for path, one in merged.items()})
    classes = {path: one.state.name.lower() for path, one in merged.items()}
    pictures = [*_pictures(run)]
    documents = [(name, one) for name, one in outputs_of(run) if one.type in _DOCUMENTS]
    return page.TEMPLATES.get_template(
        "report.html"
    ).render(
        run=run,
        rows=rows,
        failures=[*_failed(rows)][:MAX_FAILURES],
        graph=Markup(svg(graph, f"Tasks of {run.display_name}", embedded=True, states=classes)),  # noqa: S704  it escapes
        pictures=pictures[:MAX_PICTURES],
        documents=[(name, *_document(calls, run_id, one)) for name, one in documents[:MAX_DOCUMENTS]],
        left_out=max(len(pictures) - MAX_PICTURES, 0) + max(len(documents) - MAX_DOCUMENTS, 0),
        longest=1000 if len(run.tasks) < _MANY_TASKS else 40,
        style=Markup((_STATIC / "console.css").read_text("utf-8") + STYLE),  # noqa: S704  ours
        now=now,
        version=installed_version(),
    )


def _declared(calls: Client, run: Run) -> Sequence[Task]:
    """The tasks of its version; none if it was started from a file, or if the version was deleted."""
    with suppress(PipelineNotFoundError, VersionNotFoundError):
        if run.pipeline_id and run.pipeline_version_id:
            found = calls.pipelines.get_version(
                pipeline_id=run.pipeline_id, pipeline_version_id=run.pipeline_version_id
            )
            return found.spec.tasks if found.spec else ()
    return ()


def _failed(rows: Sequence[Row]) -> Iterator[Row]:
    """Yields the innermost rows that failed or hang."""
    for row in rows:
        inner = [*_failed(row.rows)]
        yield from inner or ([row] if row.hangs or row.state is RunState.FAILED else [])


def _pictures(run: Run) -> Iterator[tuple[str, Markup]]:
    for name, one in classifications(run):
        if one.roc_curve:
            yield name, roc_plot([(name, one.roc_curve)], "ROC curve")
        if one.confusion_matrix:
            yield name, confusion_plot(one.confusion_matrix)


def _document(calls: Client, run_id: str, artifact: RunArtifact) -> tuple[str, str]:
    """Returns an artifact as HTML, or else why it is missing."""
    try:
        data = b"".join(calls.artifacts.read(run_id, artifact.artifact_id, length=MAX_DOCUMENT_BYTES + 1))
    except AdapterError as error:
        return "", error.message
    if len(data) > MAX_DOCUMENT_BYTES:
        return "", f"It has more than {MAX_DOCUMENT_BYTES // 1024} KiB: download it instead."
    text = data.decode("utf-8", "replace")
    is_markdown = artifact.type == "system.Markdown"
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text) if is_markdown else text, ""


ROUTES = [Route("/runs/{run_id}/report.html", show)]
