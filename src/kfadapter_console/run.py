"""One run: its graph and tasks while it runs, why it failed, and what it made; also as a single file."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import TypeAlias
from urllib.parse import urlencode

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_console.pipelines import named
from kfadapter_console.plots import outputs_of, pictures_of
from kfadapter_grpc.client import Client, RunArtifact
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.folding import Row, combined, counted, folded_tasks, progress, rows_of
from kfadapter_grpc.graph import STYLE, Node
from kfadapter_grpc.version import installed_version

MAX_ROWS = 300
"""How many tasks the page of a run shows, and a page of its tasks."""
_MAX_DRAWN = 100
"""Up to so many declared tasks only loops are closed in the graph, otherwise all groups."""
_MAX_RESULTS, _MAX_PICTURES, _MAX_TROUBLED = 100, 8, 3
Line: TypeAlias = tuple[Row, int, int, str, bool]
"""A row of the table of tasks: see `_lines`."""


def show(request: Request) -> Response:
    client = page.client(request)
    run = client.runs.get(request.path_params["run_id"])
    return page.render(request, "run.html", **_values(request, run, declared_tasks(client, run)))


def follow(request: Request) -> Response:
    """Sends a run's page again whenever it changed, until the run has finished."""
    return live.stream(_fragments(request, page.client(request)))


def changes(client: Client, run_id: str, etag: str = "") -> Iterator[Run | None]:
    """Yields a run with its tasks and outputs whenever it changed, until it has finished, and None in between."""
    events = client.runs.watch(run_id, tasks=True, known_etags={run_id: etag} if etag else None)
    for has_changed in live.latest(events, False, lambda *_: True, client.close):
        yield client.runs.get(run_id) if has_changed else None


def _fragments(request: Request, client: Client) -> live.Fragments:
    declared: Sequence[Task] = ()
    for run in changes(client, request.path_params["run_id"], request.query_params.get("etag", "")):
        if run is None:
            yield None
            continue
        declared = declared if declared and run.pipeline_version_id else declared_tasks(client, run)
        yield page.text(request, "run.html", "live", **_values(request, run, declared))


def declared_tasks(client: Client, run: Run) -> Sequence[Task]:
    """Returns the tasks that the run's pipeline declares, or else what its own tasks show of them."""
    version = client.pipelines.try_version_of(run)
    return version.spec.tasks if version and version.spec and version.spec.tasks else folded_tasks(run)


def _values(request: Request, run: Run, declared: Sequence[Task]) -> dict[str, object]:
    """What the page of a run shows, with links that unfold and fold its groups."""
    unfolded = set(request.query_params.getlist("unfold"))
    groups = {"/".join(names): task for names, task in named(declared) if task.tasks}
    are_many = sum(1 for _ in named(declared)) > _MAX_DRAWN
    closing = {path for path, task in groups.items() if are_many or task.kind is TaskKind.LOOP}

    def unfold(path: str) -> str:
        """The address of the page with this group unfolded, or folded."""
        return page.link("runs", run.run_id, unfold=sorted(unfolded ^ {path}))

    def where(node: Node, found: Sequence[Row]) -> str:
        path = "/".join(node.path)
        if path in closing:
            return f"{unfold(path)}#graph"
        if path in groups or len(found) > 1:
            return page.link("runs", run.run_id, "tasks", of=path)
        task = found[0].task if found else None
        return page.link("runs", run.run_id, "task", of=task.task_id or found[0].path) if task else ""

    rows = rows_of(run, declared)
    return {
        **_shown(run, rows, list(_lines(rows, unfolded)), MAX_ROWS),
        "picture": graph(run, rows, declared, closing - unfolded, where) if declared else "",
        "unfold": unfold,
        "live": page.link("runs", run.run_id, "live", etag=run.etag, unfold=sorted(unfolded)),
        "pictures": [*islice(pictures_of(outputs_of(run)), _MAX_PICTURES)],
        "most": _MAX_RESULTS,
        "most_troubled": _MAX_TROUBLED,
    }


def _shown(run: Run, rows: Sequence[Row], lines: Sequence[Line], most: int) -> dict[str, object]:
    """What both the page and the report of a run show."""
    return {
        "run": run,
        "progress": progress(rows),
        "troubled": [row for row in flat(rows) if row.needs_attention and not row.is_unfolded],
        "lines": lines[:most],
        "cut": len(lines) - most,
        "artifacts": list(outputs_of(run)),
        "values": [(row, one) for row in flat(rows) if row.task for one in row.task.outputs if not one.artifacts],
    }


def flat(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields rows, each before those inside it."""
    for row in rows:
        yield row
        yield from flat(row.rows)


def _lines(rows: Iterable[Row], unfolded: Collection[str], depth: int = 0) -> Iterator[Line]:
    """Yields the rows that the table shows: of a folded loop or iteration only what failed or hangs.

    With each row: the number of groups around it, how many rows inside it are not shown, what unfolds or folds it (a
    loop in all iterations around it; empty if it always shows all), and whether it is unfolded.
    """
    for row in rows:
        folds = bool(row.rows) and (row.kind is TaskKind.LOOP or not row.names)
        toggle = "/".join(row.names) or row.path
        is_open = not folds or toggle in unfolded
        inside = row.rows if is_open else [one for one in row.rows if one.needs_attention]
        yield row, depth, len(row.rows) - len(inside), toggle if folds else "", is_open and folds
        yield from _lines(inside, unfolded, depth + 1)


# --- the graph -------------------------------------------------------------------------------------------------------


def graph(
    run: Run,
    rows: Iterable[Row],
    declared: Sequence[Task],
    closed: Collection[str] = (),
    where: Callable[[Node, Sequence[Row]], str] = lambda *_: "",
) -> Markup:
    """Draws declared tasks with their states; a closed group is one box, which leads to `where`."""
    found: defaultdict[page.Names, list[Row]] = defaultdict(list)
    for row in flat(rows):
        found[row.names].append(row)
    outcomes = {names: _outcome(some) for names, some in found.items()}
    return page.picture(
        declared,
        f"Tasks of {run.display_name}",
        {names: state for names, (state, _) in outcomes.items()},
        {names: words for names, (_, words) in outcomes.items() if words},
        closed=[tuple(path.split("/")) for path in closed],
        link=lambda node: where(node, found[node.path]),
    )


def _outcome(rows: Sequence[Row]) -> tuple[str, str]:
    """Returns the CSS class of a declared task, and its outcome in words; neither changes with the time."""
    row, state = rows[0], combined(one.state for one in rows)
    if not any(one.task for one in rows):
        return "waiting", ""
    icon, name = page.ICONS.get(state, "·"), state.name.lower()
    if any(one.hangs for one in rows):
        return "paused", f"{icon} does not start"
    if len(rows) > 1:
        counts = Counter(one.state for one in rows)
        return name, "  ".join(f"{icon} {counts[one]}" for one, icon in page.ICONS.items() if counts[one])
    if row.kind is TaskKind.LOOP:
        return name, f"{icon} [{counted(row)}]"
    if row.task and row.task.cached:
        return f"{name} cached", f"{icon} cached"
    return name, f"{icon} {name}" + (f", {page.length_of(row)}" if row.started_at and row.finished_at else "")


def tasks(request: Request) -> Response:
    """Lists the tasks inside a group, or those that a declared task became, page by page."""
    client, query = page.client(request), request.query_params
    run = client.runs.get(request.path_params["run_id"])
    of, state, first = query.get("of", ""), query.get("state", ""), page.number(query.get("from", ""))
    rows = list(flat(rows_of(run, declared_tasks(client, run))))
    inside = [one for row in rows if row.path == of for one in row.rows]
    found = inside or [row for row in rows if not of or of in {row.path, "/".join(row.names)}]
    chosen = [row for row in found if not state or row.state.value == state]
    return page.render(
        request,
        "tasks.html",
        run=run,
        of=of,
        state=state,
        states=sorted({row.state.value for row in found} - {""}),
        first=first,
        count=len(chosen),
        here=lambda **changes: f"?{urlencode({'of': of, 'state': state, **changes})}",
        lines=[(row, 0, 0, "", False) for row in chosen[first : first + MAX_ROWS]],
        more=MAX_ROWS,
    )


# --- a single file ---------------------------------------------------------------------------------------------------

MAX_REPORTED = 1000
"""How many outputs of each kind a report shows."""
MAX_PICTURES, MAX_DOCUMENTS, MAX_TROUBLED = 20, 10, 20
MAX_DOCUMENT_BYTES = 256 * 1024
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FRAME = re.compile(r"<(?=i?frame)", re.IGNORECASE)
"""Chromium connects to the address of a frame within a document before it finds that the policy forbids it."""
DOCUMENTS = {"system.HTML", "system.Markdown"}


def report(request: Request) -> Response:
    """Sends the report as a download."""
    run_id = request.path_params["run_id"]
    headers = {
        "content-disposition": f'attachment; filename="run-{run_id}.html"',  # the adapter finds no ids with quotes
        "content-security-policy": f"sandbox; {POLICY}",
    }
    return HTMLResponse(report_of(page.client(request), run_id), headers=headers)


def report_of(calls: Client, run_id: str) -> str:
    """Returns the report of a run as HTML."""
    run = calls.runs.get(run_id)
    declared = declared_tasks(calls, run)
    rows = rows_of(run, declared)
    lines = [(row, row.path.count("/"), 0, "", False) for row in flat(rows)]
    pictures = [*pictures_of(outputs_of(run))]
    documents = [(name, one) for name, one in outputs_of(run) if one.type in DOCUMENTS]
    return page.filled(
        "report.html",
        **_shown(run, rows, lines, len(lines)),
        is_report=True,
        read_only=True,
        picture=graph(run, rows, declared),
        unfold=None,
        live=None,
        pictures=pictures[:MAX_PICTURES],
        documents=[(name, *_document(calls, run_id, one)) for name, one in documents[:MAX_DOCUMENTS]],
        left_out=max(len(pictures) - MAX_PICTURES, 0) + max(len(documents) - MAX_DOCUMENTS, 0),
        most=MAX_REPORTED,
        most_troubled=MAX_TROUBLED,
        style=Markup((page.STATIC / "console.css").read_text("utf-8") + STYLE),  # noqa: S704  ours
        policy=POLICY,
        now=datetime.now(timezone.utc),
        version=installed_version(),
    )


def _document(calls: Client, run_id: str, artifact: RunArtifact) -> tuple[str, str]:
    """Returns an artifact as HTML, or else why it is missing."""
    try:
        text = document(calls, run_id, artifact, MAX_DOCUMENT_BYTES)
    except AdapterError as error:
        return "", error.message
    if text is None:
        return "", f"It has more than {MAX_DOCUMENT_BYTES // 1024} KiB: download it instead."
    return _FRAME.sub("&lt;", text), ""


def document(calls: Client, run_id: str, artifact: RunArtifact, most: int) -> str | None:
    """Returns an artifact, HTML or Markdown, as HTML; None if it has more than `most` bytes."""
    data = b"".join(calls.artifacts.read(run_id, artifact.artifact_id, length=most + 1))
    text = data.decode("utf-8", "replace")
    if artifact.type == "system.Markdown":
        # HTML inside Markdown is escaped.
        text = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    return text if len(data) <= most else None


ROUTES = [
    Route("/runs/{run_id}", show),
    Route("/runs/{run_id}/live", follow),
    Route("/runs/{run_id}/tasks", tasks),
    Route("/runs/{run_id}/report.html", report),
]
