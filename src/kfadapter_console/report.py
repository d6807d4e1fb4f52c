"""A run as a single file: opens without a network, runs no script, and can be printed."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from starlette.responses import HTMLResponse
from starlette.routing import Route

from kfadapter_console import page
from kfadapter_console.compare import drawn, outputs_of
from kfadapter_console.run import declared_tasks, graph, troubled
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.folding import rows_of
from kfadapter_grpc.graph import STYLE
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client, RunArtifact

MAX_PICTURES = 20
MAX_DOCUMENTS = 10
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_FAILURES = 20
_MANY_TASKS = 500
"""From this number of tasks on, values of their inputs and outputs are cut to few characters."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FRAME = re.compile(r"<(?=i?frame)", re.IGNORECASE)
"""Chromium connects to the address of a frame within a document before it finds that the policy forbids it."""
_STATIC = Path(__file__).parent / "static"
_DOCUMENTS = {"system.HTML", "system.Markdown"}


def show(request: Request) -> Response:
    """The report as a download."""
    run_id = request.path_params["run_id"]
    headers = {
        "content-disposition": f'attachment; filename="run-{run_id}.html"',  # the adapter finds no ids with quotes
        "content-security-policy": f"sandbox; {POLICY}",
    }
    return HTMLResponse(report_of(page.client(request), run_id), headers=headers)


def report_of(calls: Client, run_id: str) -> str:
    """Returns the report of a run as HTML.

    Raises:
        RunNotFoundError: The run does not exist.
    """
    run, now = calls.runs.get(run_id), datetime.now(timezone.utc)
    declared = declared_tasks(calls, run)
    rows = rows_of(run, declared)
    pictures = [*drawn(outputs_of(run))]
    documents = [(name, one) for name, one in outputs_of(run) if one.type in _DOCUMENTS]
    return page.TEMPLATES.get_template("report.html").render(
        run=run,
        rows=rows,
        failures=troubled(rows)[:MAX_FAILURES],
        graph=graph(run, rows, declared),
        pictures=pictures[:MAX_PICTURES],
        documents=[(name, *_document(calls, run_id, one)) for name, one in documents[:MAX_DOCUMENTS]],
        left_out=max(len(pictures) - MAX_PICTURES, 0) + max(len(documents) - MAX_DOCUMENTS, 0),
        longest=1000 if len(run.tasks) < _MANY_TASKS else 40,
        style=Markup((_STATIC / "console.css").read_text("utf-8") + STYLE),  # noqa: S704  ours
        policy=POLICY,
        now=now,
        version=installed_version(),
    )


def _document(calls: Client, run_id: str, artifact: RunArtifact) -> tuple[str, str]:
    """Returns an artifact as HTML, or else why it is missing."""
    try:
        data = b"".join(calls.artifacts.read(run_id, artifact.artifact_id, length=MAX_DOCUMENT_BYTES + 1))
    except AdapterError as error:
        return "", error.message
    if len(data) > MAX_DOCUMENT_BYTES:
        return "", f"It has more than {MAX_DOCUMENT_BYTES // 1024} KiB: download it instead."
    text = _FRAME.sub("&lt;", data.decode("utf-8", "replace"))
    return page.markdown(text) if artifact.type == "system.Markdown" else text, ""


ROUTES = [Route("/runs/{run_id}/report.html", show)]
