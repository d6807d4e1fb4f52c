"""A task of a run: what went in and came out, its log while it grows, and its artifacts."""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_console import run as one_run
from kfadapter_console.compare import drawn, outputs_of
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.artifacts import ArtifactContent
    from kfadapter_grpc.contract.runs import Run, RunTask

SHOWN_LOG_BYTES = 64 * 1024
"""How much of the end of a log a page shows; the rest is in the download."""
_MAX_READ_BYTES = 16 * 2**20
_MAX_VIEW_BYTES = 16 * 2**20
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What steers a terminal."""
_VIEWS = frozenset({"system.HTML", "system.Markdown"})
_VIEW_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:; media-src data: blob:; form-action 'none'; frame-ancestors 'self'"
)
"""A report runs its own scripts, in an origin of its own, and reaches no network."""
_NOT_STARTED = frozenset({RunState.UNKNOWN, RunState.PENDING})


def show(request: Request) -> Response:
    """Shows a task."""
    client = page.client(request)
    run, task = _find(request, client)
    text, note = _log(client, run, task, _attempt(request))
    return page.render(request, "task.html", HTTPStatus.OK, text=text, note=note, **_values(request, client, run, task))


def _find(request: Request, client: Client) -> tuple[Run, RunTask]:
    run = client.runs.get(request.path_params["run_id"])
    return run, TaskPaths(run.tasks).find(request.query_params.get("of", ""))


def _attempt(request: Request) -> int:
    given = request.query_params.get("attempt", "")
    return int(given) if given.isdecimal() and len(given) < 6 else 0  # noqa: PLR2004  no task has so many


def _values(request: Request, client: Client, run: Run, task: RunTask) -> dict[str, object]:
    paths = TaskPaths(run.tasks)
    path, names = paths.of(task), tuple(part.name for part in paths.parts(task))
    declared = next((one for of, one in one_run.named(one_run.declared_tasks(client, run)) if of == names), None)
    of = task.task_id or path
    return {
        "run": run,
        "task": task,
        "path_of": path,
        "image": declared.image if declared else "",
        "attempt": _attempt(request),
        "query": urlencode({"of": of, "attempt": _attempt(request)}),
        "of": of,
        "pictures": [*drawn((name, one) for name, one in outputs_of(run) if one.task_id == task.task_id)],
    }


# --- logs ------------------------------------------------------------------------------------------------------------


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
                notes.append("The log is long and goes on; download it to see its end.")
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


def _fragments(request: Request) -> Generator[str, None, None]:
    client, followed, sent = page.client(request), False, ""
    for run in one_run.changes(client, request.path_params["run_id"]):
        if run is None:
            yield live.BEAT
            continue
        task = TaskPaths(run.tasks).find(request.query_params.get("of", ""))
        fragment = page.text(request, "task_head.html", **_values(request, client, run, task))
        yield fragment if fragment != sent else live.BEAT
        sent = fragment
        if task.state not in _NOT_STARTED and not task.kind.is_group and not followed:
            followed = True
            yield from _growing(request, run, task)
        if task.state.is_over:
            return


def _growing(request: Request, run: Run, task: RunTask) -> Iterator[str]:
    """Sends the end of a log whenever it grew, until the task has finished."""
    client, notes, sent = page.client(request), list[str](), ""
    pieces = client.runs.read_logs(
        run.run_id, task.task_id or task.name, follow=True, attempt=_attempt(request), on_note=notes.append
    )
    try:
        for kept in live.latest(pieces, b"", lambda kept, piece: (kept + piece)[-SHOWN_LOG_BYTES:], client.close):
            if kept is None:
                yield live.BEAT
                continue
            fragment = page.text(request, "task_log.html", text=plain(kept), note="\n".join(notes))
            yield fragment if fragment != sent else live.BEAT
            sent = fragment
    except AdapterError as error:
        yield page.text(request, "task_log.html", text="", note=error.message)


def download_log(request: Request) -> Response:
    """Sends the whole log as a file."""
    client = page.client(request)
    run, task = _find(request, client)
    pieces = client.runs.read_logs(run.run_id, task.task_id or task.name, attempt=_attempt(request))
    first = next(pieces, b"")  # so that an error becomes a page
    return _attachment(_with(first, pieces), f"{task.display_name or task.name}.log", "text/plain; charset=utf-8")


# --- artifacts -------------------------------------------------------------------------------------------------------


def show_artifact(request: Request) -> Response:
    """Shows an artifact: what is known of it, its pictures, and a report in a frame of its own."""
    client = page.client(request)
    run_id, artifact_id = request.path_params["run_id"], request.query_params.get("id", "")
    artifact = client.artifacts.get(run_id, artifact_id)
    pictures = [*drawn([(artifact.name, artifact)])]
    return page.render(
        request, "artifact.html", run_id=run_id, artifact=artifact, pictures=pictures, has_view=artifact.type in _VIEWS
    )


def _read(request: Request) -> tuple[ArtifactContent, Iterator[bytes]]:
    client, found = page.client(request), deque["ArtifactContent"](maxlen=1)
    chunks = client.artifacts.read(
        request.path_params["run_id"],
        request.query_params.get("id", ""),
        path=request.query_params.get("path", ""),
        on_content=found.append,
    )
    first = next(chunks, b"")  # so that an error becomes a page
    return found[0], _with(first, chunks)


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def download(request: Request) -> Response:
    """Sends the bytes of an artifact as a file, those of a folder as a tar archive."""
    content, chunks = _read(request)
    name = content.name.replace("\\", "/").rpartition("/")[2] or "artifact"
    is_bare = content.is_directory and not name.endswith(".tar")
    return _attachment(chunks, f"{name}.tar" if is_bare else name, "application/octet-stream", content.size)


def _attachment(chunks: Iterator[bytes], name: str, media_type: str, size: int | None = None) -> Response:
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if size is not None:
        headers["content-length"] = str(size)
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


def view(request: Request) -> Response:
    """Sends an HTML or Markdown artifact, which a browser keeps apart from these pages and from the network."""
    artifact = page.client(request).artifacts.get(request.path_params["run_id"], request.query_params.get("id", ""))
    if artifact.type not in _VIEWS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    content, chunks = _read(request)
    text = b""
    for chunk in chunks:
        text += chunk
        if len(text) > _MAX_VIEW_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{content.name} is too large to be shown.")
    shown = text.decode("utf-8", "replace")
    if artifact.type == "system.Markdown":
        shown = page.text(request, "markdown.html", title=content.name, body=Markup(page.markdown(shown)))  # noqa: S704  it escapes
    return HTMLResponse(shown, headers={"content-security-policy": _VIEW_POLICY})


ROUTES = [
    Route("/runs/{run_id}/task", show),
    Route("/runs/{run_id}/task/live", follow),
    Route("/runs/{run_id}/task/log", download_log),
    Route("/runs/{run_id}/artifact", show_artifact),
    Route("/runs/{run_id}/artifact/download", download),
    Route("/runs/{run_id}/artifact/view", view),
]
