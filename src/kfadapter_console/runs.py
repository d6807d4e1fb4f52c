"""Lists of runs, recurring runs and experiments, and what can be done to them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING
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
    from collections.abc import Callable, Iterable, Mapping

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client, RecurringRun
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
_FIELDS = ("name", "state", "pipeline", "experiment", "recurring_run", "archived", "order", "page", "chosen")
_MAX_CHOSEN = 100
_AT_ONCE = 8
"""How many calls for the runs of a list are made at a time."""
_MAX_NAMES = 200
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WRONG_FILTER = (
    AmbiguousNameError,
    ExperimentNotFoundError,
    InvalidFieldError,
    InvalidPageTokenError,
    PipelineNotFoundError,
)


def show(request: Request) -> Response:
    """Lists runs."""
    client = page.client(request)
    experiments = [one.name for one in client.experiments.list(page_size=_MAX_NAMES).page().items]
    return page.render(
        request,
        "runs.html",
        HTTPStatus.OK,
        orders=ORDERS,
        states={"": "any"} | {state.value: state.value for state in STATES},
        experiments=experiments,
        **_listed(request, client),
    )


def _listed(request: Request, client: Client) -> dict[str, object]:
    """Returns what the templates of the list show: a page of the runs that match, or what is wrong with the filter."""
    query, problem = _query(request), ""
    found: Page[Run] = Page(())
    pipelines = {one.pipeline_id: one.name for one in client.pipelines.list(page_size=_MAX_NAMES).page().items}
    try:
        runs = client.runs.list(order_by=query["order"], page_size=page.PAGE_SIZE, **_where(client, query))
        found = runs.page(query["page"])
    except _WRONG_FILTER as error:
        problem = error.message

    def link(**changes: str) -> str:
        """Returns the address of this list with other fields."""
        fields = {name: value for name, value in {**query, **changes}.items() if value}
        return f"/runs?{urlencode(fields)}" if fields else "/runs"

    is_live = not problem and not query["page"] and query["order"] in {"", "created_at desc"}  # new runs appear on it
    shown = {"query": query, "found": found, "pipelines": pipelines, "problem": problem}
    return {**shown, "is_live": is_live, "here": link}


def _query(request: Request) -> dict[str, str]:
    """Returns the fields of the filter, empty if not set."""
    return {name: request.query_params.get(name, "").strip() for name in _FIELDS}


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


def _fragments(request: Request, client: Client) -> live.Fragments:
    where = _where(client, _query(request))
    runs = client.runs.list(page_size=page.PAGE_SIZE, **where).page().items
    oldest = runs[-1].created_at if len(runs) == page.PAGE_SIZE else None
    watched = RunFilter(
        ExperimentRef(where.get("experiment_id", ""), where.get("experiment_name", "")),
        created_after=oldest - timedelta(seconds=1) if oldest else None,
        pipeline_id=where.get("pipeline_id", ""),
        recurring_run_id=where["recurring_run_id"],
        archived=where["archived"],
    )
    events = client.runs.watch(where=watched, known_etags={run.run_id: run.etag for run in runs})
    for count in live.latest(events, 0, lambda count, _: count + 1, client.close):
        yield ("runs", page.text(request, "runs_table.html", **_listed(request, client))) if count else None


def act(request: Request, form: FormData) -> Response:
    """Does what the address says to the chosen runs; reports those for which it failed."""
    runs, verb = page.client(request).runs, request.path_params["verb"]
    if verb not in VERBS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    chosen = _chosen(form.getlist("run"))

    def change(run_id: str) -> tuple[str, AdapterError] | None:
        try:
            getattr(runs, verb)(run_id)
        except AdapterError as error:
            if len(chosen) == 1:
                raise
            return run_id, error
        return None

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        failures = [*filter(None, threads.map(change, chosen))]
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


# --- recurring runs and experiments -----------------------------------------------------------------------------------


def show_recurring(request: Request) -> Response:
    """Lists recurring runs with their next and last starts."""
    calls = page.client(request)
    found = calls.recurring_runs.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))

    def last_run(one: RecurringRun) -> Run | None:
        return next(calls.runs.list(recurring_run_id=one.recurring_run_id, page_size=1), None)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = list(zip(found.items, threads.map(last_run, found.items), strict=True))
    return page.render(request, "recurring.html", rows=rows, next=found.next_token)


def change_recurring(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Enables, disables or deletes a recurring run."""
    calls, which = page.client(request).recurring_runs, request.path_params["recurring_run_id"]
    actions: dict[str, Callable[[str], object]] = {
        "enable": calls.enable,
        "disable": calls.disable,
        "delete": calls.delete,
    }
    if (what := request.path_params["what"]) not in actions:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    actions[what](which)
    return page.back("/recurring")


def show_experiments(request: Request) -> Response:
    """Lists experiments."""
    found = page.client(request).experiments.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))
    return page.render(request, "experiments.html", experiments=found.items, next=found.next_token)


ROUTES = [
    Route("/runs", show),
    Route("/runs/live", follow),
    Route("/runs/delete", ask_delete),
    Route("/runs/{verb}", page.action(act), methods=["POST"]),
    Route("/recurring", show_recurring),
    Route("/recurring/{recurring_run_id}/{what}", page.action(change_recurring), methods=["POST"]),
    Route("/experiments", show_experiments),
]
