"""A task of a run: what went in and came out, its log while it grows, and its artifacts."""

import re
from collections import deque
from http import HTTPStatus
from itertools import chain

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_console import run as one_run
from kfadapter_console.pipelines import named
from kfadapter_console.plots import outputs_of, pictures_of
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.artifacts import ArtifactContent
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import Run, RunState, RunTask

SHOWN_LOG_BYTES = 64 * 1024
"""How much of the end of a log a page shows; the rest is in the download."""
_MAX_READ_BYTES = 16 * 2**20
_MAX_VIEW_BYTES = 16 * 2**20
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What steers a terminal."""
_VIEW_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:; media-src data: blob:; form-action 'none'; frame-ancestors 'self'"
)
"""A report runs its own scripts, in an origin of its own, and reaches no network."""
_NOT_STARTED = frozenset({RunState.UNKNOWN, RunState.PENDING})


def show(request: Request) -> Response:
    client = page.client(request)
    run, task = _find(request, client)
    text, note = _log(client, run, task, _attempt(request))
    return page.render(request, "task.html", text=text, note=note, **_values(request, client, run, task))


def _find(request: Request, client: Client) -> tuple[Run, RunTask]:
    run = client.runs.get(request.path_params["run_id"])
    return run, TaskPaths(run.tasks).find(request.query_params.get("of", ""))


def _attempt(request: Request) -> int:
    return page.number(request.query_params.get("attempt", ""))


def _values(request: Request, client: Client, run: Run, task: RunTask) -> dict[str, object]:
    paths = TaskPaths(run.tasks)
    path, names = paths.of(task), tuple(part.name for part in paths.parts(task))
    declared = next((one for of, one in named(one_run.declared_tasks(client, run)) if of == names), None)
    return {
        "run": run,
        "task": task,
        "path_of": path,
        "image": declared.image if declared else "",
        "attempt": _attempt(request),
        "of": task.task_id or path,
        "pictures": [*pictures_of((name, one) for name, one in outputs_of(run) if one.task_id == task.task_id)],
    }


def _log(client: Client, run: Run, task: RunTask, attempt: int) -> tuple[str, str]:
    """Returns the end of a log, and what is to be said about it."""
    if task.kind.is_group:
        return "", ""
    notes, kept, size = list[str](), b"", 0
    try:
        pieces = client.runs.read_logs(run.run_id, task.task_id or task.name, attempt=attempt, on_note=notes.append)
        for piece in pieces:
            size += len(piece)
            kept = (kept + piece)[-SHOWN_LOG_BYTES:]
            if size > _MAX_READ_BYTES:
                notes.append("The log is long and continues; download it to see its end.")
                break
    except AdapterError as error:
        notes.append(error.message)
    return plain(kept), "\n".join(notes)


def plain(log: bytes) -> str:
    """Decodes the end of a log for a page: whole lines, as a terminal shows them after progress bars."""
    if len(log) >= SHOWN_LOG_BYTES:
        log = log.partition(b"\n")[2] or log
    lines = _TERMINAL.sub("", log.decode("utf-8", "replace")).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def follow(request: Request) -> Response:
    """Sends a task's page again when its state changed, and its log as it grows, until the run has finished."""
    return live.stream(_fragments(request))


def _fragments(request: Request) -> live.Fragments:
    client, followed = page.client(request), False
    for run in one_run.changes(client, request.path_params["run_id"]):
        if run is None:
            yield None
            continue
        task = TaskPaths(run.tasks).find(request.query_params.get("of", ""))
        yield page.text(request, "task.html", "head", **_values(request, client, run, task))
        if task.state not in _NOT_STARTED and not task.kind.is_group and not followed:
            followed = True
            yield from _growing(request, run, task)
        if task.state.is_over:
            return


def _growing(request: Request, run: Run, task: RunTask) -> live.Fragments:
    """Sends the end of a log whenever it grew, until the task has finished."""
    client, notes = page.client(request), list[str]()
    pieces = client.runs.read_logs(
        run.run_id, task.task_id or task.name, follow=True, attempt=_attempt(request), on_note=notes.append
    )
    try:
        for kept in live.latest(pieces, b"", lambda kept, piece: (kept + piece)[-SHOWN_LOG_BYTES:], client.close):
            if kept is None:
                yield None
            else:
                yield page.text(request, "task.html", "log", text=plain(kept), note="\n".join(notes))
    except AdapterError as error:
        yield page.text(request, "task.html", "log", text="", note=error.message)


def download_log(request: Request) -> Response:
    client = page.client(request)
    run, task = _find(request, client)
    pieces = client.runs.read_logs(run.run_id, task.task_id or task.name, attempt=_attempt(request))
    return page.attachment(pieces, f"{task.display_name or task.name}.log", "text/plain; charset=utf-8")


def show_artifact(request: Request) -> Response:
    """Shows an artifact: what is known of it, its pictures, and a report in a frame of its own."""
    client = page.client(request)
    run_id, artifact_id = request.path_params["run_id"], request.query_params.get("id", "")
    artifact = client.artifacts.get(run_id, artifact_id)
    pictures, has_view = [*pictures_of([(artifact.name, artifact)])], artifact.type in one_run.DOCUMENTS
    return page.render(request, "artifact.html", run_id=run_id, artifact=artifact, pictures=pictures, has_view=has_view)


def download(request: Request) -> Response:
    """Sends the bytes of an artifact as a file, those of a folder as a tar archive."""
    query, found = request.query_params, deque[ArtifactContent](maxlen=1)
    run_id, artifact_id, path = request.path_params["run_id"], query.get("id", ""), query.get("path", "")
    chunks = page.client(request).artifacts.read(run_id, artifact_id, path=path, on_content=found.append)
    first = next(chunks, b"")  # the content is known then
    content = found[0]
    name = content.name.replace("\\", "/").rpartition("/")[2] or "artifact"
    name += ".tar" if content.is_directory and not name.endswith(".tar") else ""
    return page.attachment(chain([first], chunks), name, "application/octet-stream", size=content.size)


def view(request: Request) -> Response:
    """Sends an HTML or Markdown artifact, which a browser keeps apart from these pages and from the network."""
    client, run_id = page.client(request), request.path_params["run_id"]
    artifact = client.artifacts.get(run_id, request.query_params.get("id", ""))
    if artifact.type not in one_run.DOCUMENTS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    if (shown := one_run.document(client, run_id, artifact, _MAX_VIEW_BYTES)) is None:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{artifact.name} is too large to be shown.")
    if artifact.type == "system.Markdown":
        shown = page.text(request, "markdown.html", title=artifact.name, body=Markup(shown))  # noqa: S704  it escapes
    return HTMLResponse(shown, headers={"content-security-policy": _VIEW_POLICY})


ROUTES = [
    Route("/runs/{run_id}/task", show),
    Route("/runs/{run_id}/task/live", follow),
    Route("/runs/{run_id}/task/log", download_log),
    Route("/runs/{run_id}/artifact", show_artifact),
    Route("/runs/{run_id}/artifact/download", download),
    Route("/runs/{run_id}/artifact/view", view),
]
