"""One run: its graph and tasks while it runs, why it failed, and what it made; also as a single file."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.responses import HTMLResponse
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_console.compare import drawn, outputs_of
from kfadapter_console.pipelines import named
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.folding import combined, counted, folded_tasks, progress, rows_of
from kfadapter_grpc.graph import STYLE, graph_of, svg
from kfadapter_grpc.times import shown_duration
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client, RunArtifact
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Task
    from kfadapter_grpc.folding import Row
    from kfadapter_grpc.graph import Node

    Names = tuple[str, ...]
    Line = tuple[Row, int, int, str, bool]

PARTS = ("head", "why", "graph", "tasks", "results", "about")
"""The parts of the page that change while the run is in progress, a template each."""
MAX_ROWS = 300
"""How many tasks the page of a run shows, and a page of its tasks."""
_MAX_DRAWN = 100
"""Up to so many declared tasks only loops are closed in the graph, otherwise all groups."""
_MAX_RESULTS, _MAX_PICTURES = 100, 8


def show(request: Request) -> Response:
    """Shows a run."""
    client = page.client(request)
    run = client.runs.get(request.path_params["run_id"])
    values = _values(request, run, declared_tasks(client, run))
    return page.render(request, "run.html", HTTPStatus.OK, parts=PARTS, **values)


def follow(request: Request) -> Response:
    """Sends the parts of a run's page that changed, until it has finished."""
    return live.stream(_fragments(request, page.client(request)))


def changes(client: Client, run_id: str, etag: str = "") -> Iterator[Run | None]:
    """Yields a run with its tasks and outputs whenever it changed, until it has finished, and None in between."""
    events = client.runs.watch(run_id, tasks=True, known_etags={run_id: etag} if etag else None)
    for count in live.latest(events, 0, lambda count, _: count + 1, client.close):
        yield client.runs.get(run_id) if count else None


def _fragments(request: Request, client: Client) -> live.Fragments:
    run_id = request.path_params["run_id"]
    declared: Sequence[Task] | None = None
    for run in changes(client, run_id, request.query_params.get("etag", "")):
        if run is None:
            yield None
            continue
        declared = declared_tasks(client, run) if declared is None or not run.pipeline_version_id else declared
        values = _values(request, run, declared)
        yield from ((part, page.text(request, f"run_{part}.html", **values)) for part in PARTS)


def declared_tasks(client: Client, run: Run) -> Sequence[Task]:
    """Returns the tasks that the run's pipeline declares, or else what its own tasks show of them."""
    version = client.pipelines.try_version_of(run)
    return version.spec.tasks if version and version.spec and version.spec.tasks else folded_tasks(run)


def _values(request: Request, run: Run, declared: Sequence[Task]) -> dict[str, object]:
    """What the templates of a run's page show."""
    rows, unfolded = rows_of(run, declared), set(request.query_params.getlist("unfold"))
    lines, artifacts = list(_lines(rows, unfolded)), list(outputs_of(run))
    values = [(row, one) for row in flat(rows) if row.task for one in row.task.outputs if not one.artifacts]
    groups = {names: task for names, task in named(declared) if task.tasks}
    are_many = sum(1 for _ in named(declared)) > _MAX_DRAWN
    closing = {names for names, task in groups.items() if are_many or task.kind is TaskKind.LOOP}

    def unfold(path: str) -> str:
        """The address of the page with this group unfolded, or folded."""
        found = urlencode([("unfold", one) for one in sorted(unfolded ^ {path})])
        return page.path("runs", run.run_id) + (f"?{found}" if found else "")

    def link(node: Node, found: Sequence[Row]) -> str:
        if node.path in closing:
            return f"{unfold('/'.join(node.path))}#graph"
        if node.path in groups or len(found) > 1:
            return f"{page.path('runs', run.run_id, 'tasks')}?{urlencode({'of': '/'.join(node.path)})}"
        task = found[0].task if found else None
        of = urlencode({"of": task.task_id or found[0].path}) if task else ""
        return f"{page.path('runs', run.run_id, 'task')}?{of}" if of else ""

    closed = {names for names in closing if "/".join(names) not in unfolded}
    return {
        "run": run,
        "progress": progress(rows),
        "troubled": troubled(rows),
        "picture": graph(run, rows, declared, closed, link) if declared else "",
        "lines": lines[:MAX_ROWS],
        "cut": len(lines) - MAX_ROWS,
        "unfold": unfold,
        "query": urlencode([("etag", run.etag), *(("unfold", one) for one in sorted(unfolded))]),
        "metrics": run.metrics[:_MAX_RESULTS],
        "artifacts": artifacts[:_MAX_RESULTS],
        "values": values[:_MAX_RESULTS],
        "results_cut": max(len(artifacts), len(values), len(run.metrics)) - _MAX_RESULTS,
        "pictures": [*islice(drawn(artifacts), _MAX_PICTURES)],
    }


def flat(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields rows, each before those inside it."""
    for row in rows:
        yield row
        yield from flat(row.rows)


def troubled(rows: Iterable[Row]) -> list[Row]:
    """Returns the innermost rows that failed or hang."""
    return [row for row in flat(rows) if row.needs_attention and not row.is_unfolded]


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
    closed: Collection[Names] = (),
    link: Callable[[Node, Sequence[Row]], str] = lambda *_: "",
) -> Markup:
    """Draws declared tasks with their states; a closed group is one box, which leads where `link` says."""
    found: defaultdict[Names, list[Row]] = defaultdict(list)
    for row in flat(rows):
        found[row.names].append(row)
    outcomes = {names: _outcome(some) for names, some in found.items()}
    words = {names: words for names, (_, words) in outcomes.items() if words}
    return Markup(  # noqa: S704  it escapes
        svg(
            graph_of(declared, states=words, closed=closed),
            f"Tasks of {run.display_name}",
            embedded=True,
            states={names: state for names, (state, _) in outcomes.items()},
            link=lambda node: link(node, found[node.path]),
        )
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
        counts = [(one, sum(row.state is one for row in rows)) for one in page.ICONS]
        return name, "  ".join(f"{page.ICONS[one]} {count}" for one, count in counts if count)
    if row.kind is TaskKind.LOOP:
        return name, f"{icon} [{counted(row)}]"
    is_cached = row.task is not None and row.task.cached
    words = [f"{icon} {'cached' if is_cached else name}"]
    if row.started_at and row.finished_at and not is_cached:
        words.append(shown_duration(row.finished_at - row.started_at))
    return f"{name} cached" if is_cached else name, ", ".join(words)


def tasks(request: Request) -> Response:
    """Lists the tasks inside a group, or those that a declared task became, page by page."""
    client = page.client(request)
    run = client.runs.get(request.path_params["run_id"])
    of, state = request.query_params.get("of", ""), request.query_params.get("state", "")
    rows = list(flat(rows_of(run, declared_tasks(client, run))))
    inside = [one for row in rows if row.path == of for one in row.rows]
    found = inside or [row for row in rows if not of or of in {row.path, "/".join(row.names)}]
    states = {row.state for row in found}
    found = [row for row in found if not state or row.state.value == state]
    begin = request.query_params.get("from", "0")
    first = int(begin) if begin.isdecimal() and len(begin) < 9 else 0  # noqa: PLR2004  no run has so many

    def here(**changes: object) -> str:
        return f"?{urlencode({'of': of, 'state': state, **changes})}"

    return page.render(
        request,
        "tasks.html",
        run=run,
        of=of,
        state=state,
        states=states,
        first=first,
        count=len(found),
        here=here,
        lines=[(row, 0, 0, "", False) for row in found[first : first + MAX_ROWS]],
        more=MAX_ROWS,
    )


# --- a single file ---------------------------------------------------------------------------------------------------

MAX_PICTURES = 20
MAXDOCUMENTS = 10
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_FAILURES = 20
_MANY_TASKS = 500
"""From this number of tasks on, values of their inputs and outputs are cut to few characters."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FRAME = re.compile(r"<(?=i?frame)", re.IGNORECASE)
"""Chromium connects to the address of a frame within a document before it finds that the policy forbids it."""
DOCUMENTS = {"system.HTML", "system.Markdown"}


def _report(request: Request) -> Response:
    """The report as a download."""
    run_id = request.path_params["run_id"]
    headers = {
        "content-disposition": f'attachment; filename="run-{run_id}.html"',  # the adapter finds no ids with quotes
        "content-security-policy": f"sandbox; {POLICY}",
    }
    return HTMLResponse(report_of(page.client(request), run_id), headers=headers)


def report_of(calls: Client, run_id: str) -> str:
    """Returns the report of a run as HTML."""
    run, now = calls.runs.get(run_id), datetime.now(timezone.utc)
    declared = declared_tasks(calls, run)
    rows = rows_of(run, declared)
    pictures = [*drawn(outputs_of(run))]
    documents = [(name, one) for name, one in outputs_of(run) if one.type in DOCUMENTS]
    return page.TEMPLATES.get_template("report.html").render(
        run=run,
        rows=rows,
        failures=troubled(rows)[:MAX_FAILURES],
        graph=graph(run, rows, declared),
        pictures=pictures[:MAX_PICTURES],
        documents=[(name, *_document(calls, run_id, one)) for name, one in documents[:MAXDOCUMENTS]],
        left_out=max(len(pictures) - MAX_PICTURES, 0) + max(len(documents) - MAXDOCUMENTS, 0),
        longest=1000 if len(run.tasks) < _MANY_TASKS else 40,
        style=Markup((page.STATIC / "console.css").read_text("utf-8") + STYLE),  # noqa: S704  ours
        policy=POLICY,
        now=now,
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
    return None if len(data) > most else page.markdown(text) if artifact.type == "system.Markdown" else text


ROUTES = [
    Route("/runs/{run_id}", show),
    Route("/runs/{run_id}/live", follow),
    Route("/runs/{run_id}/tasks", tasks),
    Route("/runs/{run_id}/report.html", _report),
]
