"""Runs: the list, and what can be done to them."""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_grpc.contract.errors import (
    AdapterError,
    AmbiguousNameError,
    ExperimentNotFoundError,
    InvalidFieldError,
    InvalidPageTokenError,
    PipelineNotFoundError,
)
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import Page, View
from kfadapter_grpc.contract.runs import RunFilter, RunState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.client.runs import RunsWhere
    from kfadapter_grpc.contract.runs import Run

ORDERS = {
    "created_at desc": "newest first",
    "created_at": "oldest first",
    "finished_at desc": "last finished first",
    "display_name": "by name",
}
STATES = tuple(state for state in RunState if state not in {RunState.UNKNOWN, RunState.SKIPPED, RunState.OMITTED})
VERBS = ("terminate", "retry", "archive", "unarchive", "delete")
_FIELDS = ("name", "state", "pipeline", "experiment", "recurring_run", "archived", "order", "page")
_MAX_CHOSEN = 100
_MAX_NAMES = 200
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WRONG_FILTER = (
    AmbiguousNameError,
    ExperimentNotFoundError,
    InvalidFieldError,
    InvalidPageTokenError,
    PipelineNotFoundError,
)


class _Listed(NamedTuple):
    """A page of the list.

    Attributes:
        query: The fields of the filter, empty if not set.
        found: The runs.
        pipelines: The names of pipelines by their ids.
        problem: What is wrong with the filter.
    """

    query: Mapping[str, str]
    found: Page[Run] = Page(())
    pipelines: Mapping[str, str] = {}
    problem: str = ""

    @property
    def is_live(self) -> bool:
        """Whether new runs appear on this page."""
        return not self.problem and not self.query["page"] and self.query["order"] in {"", "created_at desc"}

    def link(self, **changes: str) -> str:
        """Returns the address of this list with other fields."""
        query = {name: value for name, value in {**self.query, **changes}.items() if value}
        return f"/runs?{urlencode(query)}" if query else "/runs"


def show(request: Request) -> Response:
    """Lists runs."""
    client = page.client(request)
    listed = _list(client, request)
    experiments = client.experiments.list(page_size=_MAX_NAMES).page().items
    return page.render(
        request, "runs.html", listed=listed, orders=ORDERS, states=STATES, experiments=[one.name for one in experiments]
    )


def _list(client: Client, request: Request) -> _Listed:
    query = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    pipelines = {one.pipeline_id: one.name for one in client.pipelines.list(page_size=_MAX_NAMES).page().items}
    try:
        runs = client.runs.list(order_by=query["order"], page_size=page.PAGE_SIZE, **_where(client, query))
        return _Listed(query, runs.page(query["page"]), pipelines)
    except _WRONG_FILTER as error:
        return _Listed(query, pipelines=pipelines, problem=error.message)


def _where(client: Client, query: Mapping[str, str]) -> RunsWhere:
    """Returns the filter; pipelines and experiments are given by name or id."""
    where: RunsWhere = {
        "archived": bool(query["archived"]),
        "display_name_contains": query["name"],
        "recurring_run_id": query["recurring_run"],
        "states": [state for state in STATES if state.value == query["state"]],
    }
    if named := query["pipeline"]:
        is_id = _UUID.fullmatch(named)
        where["pipeline_id"] = named if is_id else client.pipelines.get(named, view=View.BASIC).pipeline_id
    if _UUID.fullmatch(query["experiment"]):
        where["experiment_id"] = query["experiment"]
    else:
        where["experiment_name"] = query["experiment"]
    return where


def follow(request: Request) -> Response:
    """Sends the first page of the list again whenever a run on it changed or a new one was created."""
    return live.stream(_fragments(request, page.client(request)))


def _fragments(request: Request, client: Client) -> Generator[str, None, None]:
    listed = _list(client, request)
    where, runs = _where(client, listed.query), listed.found.items
    oldest = runs[-1].created_at if len(runs) == page.PAGE_SIZE else None
    watched = RunFilter(
        ExperimentRef(where.get("experiment_id", ""), where.get("experiment_name", "")),
        created_after=oldest - timedelta(seconds=1) if oldest else None,
        pipeline_id=where.get("pipeline_id", ""),
        recurring_run_id=where["recurring_run_id"],
        archived=where["archived"],
    )
    events = client.runs.watch(where=watched, known_etags={run.run_id: run.etag for run in runs})
    sent = ""
    for count in live.latest(events, 0, lambda count, _: count + 1, client.close):
        if count is None:
            yield live.BEAT
            continue
        fragment = page.text(request, "runs_table.html", listed=_list(client, request))
        yield fragment if fragment != sent else live.BEAT
        sent = fragment


def act(request: Request, form: FormData) -> Response:
    """Does what the address says to the chosen runs; reports those for which it failed."""
    runs, verb = page.client(request).runs, request.path_params["verb"]
    if verb not in VERBS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    chosen = _chosen(form.getlist("run"))
    failures: list[tuple[str, AdapterError]] = []
    for run_id in chosen:
        try:
            getattr(runs, verb)(run_id)
        except AdapterError as error:
            if len(chosen) == 1:
                raise
            failures.append((run_id, error))
    if failures:
        done = len(chosen) - len(failures)
        return page.render(request, "runs_refused.html", HTTPStatus.CONFLICT, verb=verb, done=done, failures=failures)
    where = request.query_params.get("back", "")
    return page.back(where if where.startswith("/runs") else "/runs")


def ask_delete(request: Request) -> Response:
    """Asks whether the chosen runs should be deleted."""
    client = page.client(request)
    runs = [client.runs.get(run_id, view=View.BASIC) for run_id in _chosen(request.query_params.getlist("run"))]
    return page.render(request, "runs_delete.html", runs=runs) if runs else page.back("/runs")


def _chosen(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))[:_MAX_CHOSEN]


ROUTES = [
    Route("/runs", show),
    Route("/runs/live", follow),
    Route("/runs/delete", ask_delete),
    Route("/runs/{verb}", page.action(act), methods=["POST"]),
]
