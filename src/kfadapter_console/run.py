"""One run: its graph, tasks, failures and results; its report as a single file; a task with its log and artifacts."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from itertools import chain
from typing import TypeAlias

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from kfadapter_console import page
from kfadapter_console.live import Changes
from kfadapter_console.plots import artifacts_of, plots_of
from kfadapter_grpc.client import Client, RunArtifact
from kfadapter_grpc.contract.artifacts import ArtifactContent
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import Run, RunState, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind, named_tasks
from kfadapter_grpc.folding import Row, combined, counted, flat, folded_tasks, progress, rows_of
from kfadapter_grpc.graph import STYLE, Node, graph_of, svg
from kfadapter_grpc.version import installed_version

MAX_ROWS = 300
"""How many tasks a page shows."""
_MAX_DRAWN = 100
"""With more declared tasks all groups are closed in the graph, otherwise only loops."""


def show(client: Client, query: QueryParams, run_id: str) -> page.Values:
    """Shows a run; if set, unfolds the group `of`, and lists its tasks only, or those in the state `state`."""
    run = client.runs.get(run_id)
    of, state, first = query.get("of", ""), query.get("state", ""), page.number(query.get("from", ""))
    declared = declared_tasks(client, run)
    groups = {"/".join(names): task for names, task in named_tasks(declared) if task.tasks}
    are_many = sum(1 for _ in named_tasks(declared)) > _MAX_DRAWN
    rows = rows_of(run, declared)
    matching = [row for row in flat(rows) if of in {row.path, "/".join(row.names)}]
    listed = ([inner for row in matching for inner in row.rows] or matching) if of else rows
    names: page.Names = next((row.names for row in flat(listed) if row.names), ()) if of else ()
    unfolded = {"/".join(names[:length]) for length in range(1, len(names) + 1)}
    closed = {path for path, task in groups.items() if are_many or task.kind is TaskKind.LOOP} - unfolded

    def address(node: Node, rows: Sequence[Row]) -> str:
        path = "/".join(node.path)
        if path in groups or len(rows) > 1:
            return page.link("runs", run_id, of=path) + ("#graph" if path in closed else "#tasks")
        task = rows[0].task if rows else None
        return page.link("runs", run_id, "task", of=task.task_id or rows[0].path) if task else ""

    lines = [(row, 0, 0) for row in flat(listed) if row.state.value == state] if state else list(_lines(listed))
    return {
        **_results(run, rows),
        "drawing": _graph(run, rows, declared, closed, address),
        "is_whole": not (of or state),
        "lines": lines[first : first + MAX_ROWS],
        "states": sorted({row.state.value for row in flat(listed)} - {""}),
        "first": first,
        "count": len(lines),
        "plots": list(plots_of(artifacts_of(run)))[:8],
        "max_rows": MAX_ROWS,
    }


def changes(client: Client, _: QueryParams, run_id: str) -> Changes:
    """Comes whenever the run or its tasks changed, until it has finished."""
    return ({} for _ in client.runs.watch(run_id, tasks=True))


def declared_tasks(client: Client, run: Run) -> Sequence[Task]:
    """Returns the tasks that the run's pipeline declares; if unknown, what its own tasks show of them."""
    version = client.pipelines.try_version_of(run)
    return version.spec.tasks if version and version.spec and version.spec.tasks else folded_tasks(run)


def _results(run: Run, rows: Sequence[Row]) -> page.Values:
    """Returns what both the page and the report of a run show."""
    return {
        "run": run,
        "progress": progress(rows),
        "troubled": [row for row in flat(rows) if row.needs_attention and not row.is_unfolded],
        "artifacts": list(artifacts_of(run)),
        "outputs": [(row, one) for row in flat(rows) if row.task for one in row.task.outputs if not one.artifacts],
    }


def _lines(rows: Iterable[Row], depth: int = 0) -> Iterator[tuple[Row, int, int]]:
    """Yields the rows of the table, each with the numbers of groups around it and of hidden rows inside it.

    Of a loop or an iteration it shows only what failed or hangs.
    """
    for row in rows:
        folds = row.kind is TaskKind.LOOP or not row.names
        inside = [inner for inner in row.rows if inner.needs_attention or not folds]
        yield row, depth, len(row.rows) - len(inside)
        yield from _lines(inside, depth + 1)


def _graph(
    run: Run,
    rows: Iterable[Row],
    declared: Sequence[Task],
    closed: Collection[str] = (),
    address: Callable[[Node, Sequence[Row]], str] = lambda *_: "",
) -> Markup:
    """Draws declared tasks with their states; a closed group is one box. Empty without tasks."""
    rows_by_names: defaultdict[page.Names, list[Row]] = defaultdict(list)
    for row in flat(rows):
        rows_by_names[row.names].append(row)
    outcomes = {names: _outcome(some) for names, some in rows_by_names.items()}
    if not declared:
        return Markup()
    states = {names: state for names, (state, _) in outcomes.items()}
    words = {names: words for names, (_, words) in outcomes.items() if words}
    graph = graph_of(declared, states=words, closed=[tuple(path.split("/")) for path in closed])
    title, link = f"Tasks of {run.display_name}", lambda node: address(node, rows_by_names[node.path])
    return Markup(svg(graph, title, embedded=True, states=states, link=link))  # noqa: S704  it escapes


def _outcome(rows: Sequence[Row]) -> tuple[str, str]:
    """Returns the CSS class of a declared task, and its outcome in words; neither changes with the time."""
    row, state = rows[0], combined(row.state for row in rows)
    if not any(row.task for row in rows):
        return "waiting", ""
    icon, name = page.ICONS.get(state, "·"), state.name.lower()
    if any(row.hangs for row in rows):
        return "paused", f"{icon} does not start"
    if len(rows) > 1:
        counts = Counter(row.state for row in rows)
        return name, "  ".join(f"{icon} {counts[one]}" for one, icon in page.ICONS.items() if counts[one])
    if row.kind is TaskKind.LOOP:
        return name, f"{icon} [{counted(row)}]"
    if row.task and row.task.cached:
        return f"{name} cached", f"{icon} cached"
    return name, f"{icon} {name}" + (f", {page.format_length(row)}" if row.started_at and row.finished_at else "")


# --- a single file ---------------------------------------------------------------------------------------------------

MAX_PLOTS, MAX_DOCUMENTS = 20, 10
MAX_DOCUMENT_BYTES = 256 * 1024
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FRAME = re.compile(r"<(?=i?frame)", re.IGNORECASE)
"""Chromium connects to the address of a frame within a document before it finds that the policy forbids it."""
DOCUMENTS = {"system.HTML", "system.Markdown"}


def report(client: Client, _: QueryParams, run_id: str) -> Response:
    """Sends the report as a download."""
    headers = {
        "content-disposition": f'attachment; filename="run-{run_id}.html"',  # the adapter finds no ids with quotes
        "content-security-policy": f"sandbox; {POLICY}",
    }
    return HTMLResponse(report_of(client, run_id), headers=headers)


def report_of(client: Client, run_id: str) -> str:
    """Returns the report of a run as HTML."""
    run = client.runs.get(run_id)
    declared = declared_tasks(client, run)
    rows, plots = rows_of(run, declared), list(plots_of(artifacts_of(run)))
    documents = [(name, artifact) for name, artifact in artifacts_of(run) if artifact.type in DOCUMENTS]
    return page.fill(
        "run.html",
        "base.html",
        **_results(run, rows),
        is_report=True,
        read_only=True,
        drawing=_graph(run, rows, declared),
        is_whole=False,
        lines=[(row, row.path.count("/"), 0) for row in flat(rows)],
        plots=plots[:MAX_PLOTS],
        documents=[(name, *_embedded(client, run_id, artifact)) for name, artifact in documents[:MAX_DOCUMENTS]],
        omitted=max(len(plots) - MAX_PLOTS, 0) + max(len(documents) - MAX_DOCUMENTS, 0),
        style=Markup((page.STATIC / "console.css").read_text("utf-8") + STYLE),  # noqa: S704  ours
        policy=POLICY,
        now=datetime.now(timezone.utc),
        version=installed_version(),
    )


def _embedded(client: Client, run_id: str, artifact: RunArtifact) -> tuple[str, str]:
    """Returns an artifact as HTML, or else why it is missing."""
    try:
        text = document(client, run_id, artifact, MAX_DOCUMENT_BYTES)
    except AdapterError as error:
        return "", error.message
    if text is None:
        return "", f"It has more than {MAX_DOCUMENT_BYTES // 1024} KiB: download it instead."
    return _FRAME.sub("&lt;", text), ""


def document(client: Client, run_id: str, artifact: RunArtifact, max_bytes: int) -> str | None:
    """Returns an artifact, HTML or Markdown, as HTML; None if it has more than `max_bytes`."""
    data = b"".join(client.artifacts.read(run_id, artifact.artifact_id, length=max_bytes + 1))
    text = data.decode("utf-8", "replace")
    if artifact.type == "system.Markdown":  # HTML inside Markdown is escaped
        text = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    return text if len(data) <= max_bytes else None


# --- a task, its log and its artifacts -------------------------------------------------------------------------------

_MAX_TAIL_BYTES = 64 * 1024
"""How much of the end of a log a page shows; the rest is in the download."""
_MAX_LOG_BYTES = 16 * 2**20
_MAX_DOCUMENT_BYTES = 16 * 2**20
_NOT_STARTED = frozenset({RunState.UNKNOWN, RunState.PENDING})
Log: TypeAlias = tuple[bytes, Sequence[str]]
"""The end of a log, and notes on it."""
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Control sequences of a terminal."""
_DOCUMENT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:; media-src data: blob:; form-action 'none'; frame-ancestors 'self'"
)
"""A report runs its own scripts, in an origin of its own, and reaches no network."""


def show_task(client: Client, query: QueryParams, run_id: str, log: Log = (b"", ())) -> page.Values:
    """Shows a task, with the end of its log, which is read unless it is passed."""
    run, task, attempt = _find(client, query, run_id)
    paths = TaskPaths(run.tasks)
    path, names = paths.of(task), tuple(part.name for part in paths.parts(task))
    declared = next((one for of, one in named_tasks(declared_tasks(client, run)) if of == names), None)
    if not (any(log) or task.kind.is_group):
        *_, log = _read_log(client, run_id, task, attempt)
    return {
        "run": run,
        "task": task,
        "path_of": path,
        "of": task.task_id or path,
        "attempt": attempt,
        "image": declared.image if declared else "",
        "plots": [*plots_of((name, one) for name, one in artifacts_of(run) if one.task_id == task.task_id)],
        "text": _plain(log[0]),
        "note": "\n".join(log[1]),
    }


def _find(client: Client, query: QueryParams, run_id: str) -> tuple[Run, RunTask, int]:
    """Returns the run, the task and the attempt of the address; 0 is the last attempt."""
    run = client.runs.get(run_id)
    return run, TaskPaths(run.tasks).find(query.get("of", "")), page.number(query.get("attempt", ""))


def _read_log(client: Client, run_id: str, task: RunTask, attempt: int, *, follow: bool = False) -> Iterator[Log]:
    """Yields the end of a log and notes on it, again with each piece that is read."""
    notes, tail, size = list[str](), b"", 0
    try:
        for chunk in client.runs.read_logs(
            run_id, task.task_id or task.name, follow=follow, attempt=attempt, on_note=notes.append
        ):
            tail, size = (tail + chunk)[-_MAX_TAIL_BYTES:], size + len(chunk)
            yield tail, notes
            if size > _MAX_LOG_BYTES and not follow:
                notes.append("The log is long and continues; download it to see its end.")
                break
    except AdapterError as error:
        notes.append(error.message)
    yield tail, notes


def _plain(tail: bytes) -> str:
    """Decodes the end of a log: whole lines, as a terminal shows them after progress bars."""
    if len(tail) >= _MAX_TAIL_BYTES:
        tail = tail.partition(b"\n")[2] or tail
    lines = _TERMINAL.sub("", tail.decode("utf-8", "replace")).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def changes_of_task(client: Client, query: QueryParams, run_id: str) -> Changes:
    """Comes whenever the state of the task changed, or with its log whenever that grew, until the task has finished."""
    has_log = False
    for _ in client.runs.watch(run_id, tasks=True):
        _, task, attempt = _find(client, query, run_id)
        yield {}
        if not (has_log or task.kind.is_group or task.state in _NOT_STARTED):
            has_log = True
            yield from ({"log": log} for log in _read_log(client, run_id, task, attempt, follow=True))
        if task.state.is_over:
            return


def download_log(client: Client, query: QueryParams, run_id: str) -> Response:
    run, task, attempt = _find(client, query, run_id)
    chunks = client.runs.read_logs(run.run_id, task.task_id or task.name, attempt=attempt)
    return page.attachment(chunks, f"{task.display_name or task.name}.log", "text/plain; charset=utf-8")


def show_artifact(client: Client, query: QueryParams, run_id: str) -> page.Values:
    """Shows an artifact: its metadata, its plots, and a document in a sandboxed frame."""
    artifact = client.artifacts.get(run_id, query.get("id", ""))
    plots, has_view = [*plots_of([(artifact.name, artifact)])], artifact.type in DOCUMENTS
    return {"run_id": run_id, "artifact": artifact, "plots": plots, "has_view": has_view}


def download(client: Client, query: QueryParams, run_id: str) -> Response:
    """Sends the bytes of an artifact, those of a folder as a tar archive."""
    contents, path = deque[ArtifactContent](maxlen=1), query.get("path", "")
    chunks = client.artifacts.read(run_id, query.get("id", ""), path=path, on_content=contents.append)
    first = next(chunks, b"")  # the content is known then
    content = contents[0]
    name = content.name.replace("\\", "/").rpartition("/")[2] or "artifact"
    name += ".tar" if content.is_directory and not name.endswith(".tar") else ""
    return page.attachment(chain([first], chunks), name, "application/octet-stream", size=content.size)


def view(client: Client, query: QueryParams, run_id: str) -> Response:
    """Sends an HTML or Markdown artifact, which the policy keeps apart from these pages and from the network."""
    artifact = client.artifacts.get(run_id, query.get("id", ""))
    if artifact.type not in DOCUMENTS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    if (html := document(client, run_id, artifact, _MAX_DOCUMENT_BYTES)) is None:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{artifact.name} is too large to be shown.")
    if artifact.type == "system.Markdown":
        html = page.fill("markdown.html", title=artifact.name, body=Markup(html))  # noqa: S704  it escapes
    return HTMLResponse(html, headers={"content-security-policy": _DOCUMENT_POLICY})


ROUTES = [
    page.view("/runs/{run_id}", show, "run.html", changes),
    page.view("/runs/{run_id}/report.html", report),
    page.view("/runs/{run_id}/task", show_task, "task.html", changes_of_task),
    page.view("/runs/{run_id}/task/log", download_log),
    page.view("/runs/{run_id}/artifact", show_artifact, "artifact.html"),
    page.view("/runs/{run_id}/artifact/download", download),
    page.view("/runs/{run_id}/artifact/view", view),
]
