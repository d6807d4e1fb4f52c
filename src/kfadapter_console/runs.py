"""Lists of runs, recurring runs and experiments, and what can be done to them."""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_console import live, page
from kfadapter_grpc.client import Client, RecurringRun
from kfadapter_grpc.client.runs import RunsWhere
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import Page, View
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState

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


def show(request: Request) -> Response:
    client = page.client(request)
    experiments = [one.name for one in client.experiments.list(page_size=_MAX_NAMES).page().items]
    states = {"": "any"} | {state.value: state.value for state in STATES}
    listed = _listed(request, client)
    return page.render(request, "runs.html", orders=ORDERS, states=states, experiments=experiments, **listed)


def _listed(request: Request, client: Client) -> dict[str, object]:
    """Returns what the list shows: a page of the runs that match, or what is wrong with the filter."""
    query = _query(request)

    def read() -> Page[Run]:
        where = _where(client, query)
        return client.runs.list(order_by=query["order"], page_size=page.PAGE_SIZE, **where).page(query["page"])

    found, problem = page.listed(read)
    pipelines = client.pipelines.list(page_size=_MAX_NAMES).page().items
    return {
        "form": page.Form(query),
        "found": found,
        "pipelines": {one.pipeline_id: one.name for one in pipelines},
        "problem": problem,
        # New runs appear on the first page only.
        "is_live": not problem and not query["page"] and query["order"] in {"", "created_at desc"},
        "here": lambda **changes: page.link(
            "runs", **{key: text for key, text in {**query, **changes}.items() if text}
        ),
    }


def _query(request: Request) -> dict[str, str]:
    """Returns the fields of the filter, empty if not set."""
    return {name: request.query_params.get(name, "").strip() for name in _FIELDS}


def _where(client: Client, query: Mapping[str, str]) -> RunsWhere:
    """Returns the filter; pipelines and experiments are given by name or id."""
    pipeline, experiment = query["pipeline"], query["experiment"]
    if pipeline and not _UUID.fullmatch(pipeline):
        pipeline = client.pipelines.get(pipeline, view=View.BASIC).pipeline_id
    is_id = _UUID.fullmatch(experiment)
    return {
        "archived": bool(query["archived"]),
        "display_name_contains": query["name"],
        "recurring_run_id": query["recurring_run"],
        "states": [state for state in STATES if state.value == query["state"]],
        "pipeline_id": pipeline,
        "experiment_id": experiment if is_id else "",
        "experiment_name": "" if is_id else experiment,
    }


def follow(request: Request) -> Response:
    """Sends the first page of the list again whenever a run on it changed or a new one was created."""
    return live.stream(_fragments(request, page.client(request)))


def _fragments(request: Request, client: Client) -> live.Fragments:
    where = _where(client, _query(request))
    runs = client.runs.list(page_size=page.PAGE_SIZE, **where).page().items
    oldest = runs[-1].created_at if len(runs) == page.PAGE_SIZE else None
    watched = RunFilter(
        ExperimentRef(where["experiment_id"], where["experiment_name"]),
        created_after=oldest - timedelta(seconds=1) if oldest else None,
        pipeline_id=where["pipeline_id"],
        recurring_run_id=where["recurring_run_id"],
        archived=where["archived"],
    )
    events = client.runs.watch(where=watched, known_etags={run.run_id: run.etag for run in runs})
    for has_changed in live.latest(events, False, lambda *_: True, client.close):
        yield page.text(request, "runs.html", "live", **_listed(request, client)) if has_changed else None


def act(request: Request, form: FormData) -> Response:
    """Does what the address says to the chosen runs; reports those for which it failed."""
    runs, verb = page.client(request).runs, request.path_params["verb"]
    if verb not in VERBS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    chosen = _chosen(form.getlist("run"))

    failures: dict[str, AdapterError] = {}
    for run_id in chosen:
        try:
            getattr(runs, verb)(run_id)
        except AdapterError as error:
            failures[run_id] = error
    if failures and len(chosen) == 1:
        raise failures[chosen[0]]
    if failures:
        done = len(chosen) - len(failures)
        return page.render(request, "refused.html", HTTPStatus.CONFLICT, verb=verb, done=done, failures=failures)
    where = request.query_params.get("back", "")
    return page.back(where if where.startswith("/runs") else "/runs")


def ask_delete(request: Request) -> Response:
    """Asks whether the chosen runs should be deleted."""
    client = page.client(request)
    runs = [client.runs.get(run_id, view=View.BASIC) for run_id in _chosen(request.query_params.getlist("run"))]
    if not runs:
        return page.back("/runs")
    return page.render(
        request,
        "confirm.html",
        what=f"{len(runs)} runs" if len(runs) > 1 else "1 run",
        lost="Records, metrics and logs are lost. A run in progress continues in the cluster: terminate it first.",
        runs=runs,
        fields=[("run", run.run_id) for run in runs],
        cancel="/runs",
    )


def _chosen(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))[:_MAX_CHOSEN]


def show_recurring(request: Request) -> Response:
    """Lists recurring runs with their next and last starts."""
    calls = page.client(request)
    found = calls.recurring_runs.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))

    def last_run(one: RecurringRun) -> Run | None:
        return next(calls.runs.list(recurring_run_id=one.recurring_run_id, page_size=1), None)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = list(zip(found.items, threads.map(last_run, found.items), strict=True))
    return page.render(request, "recurring.html", rows=rows, found=found)


def change_recurring(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Enables, disables or deletes a recurring run."""
    which, what = request.path_params["recurring_run_id"], request.path_params["what"]
    if what not in {"enable", "disable", "delete"}:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    getattr(page.client(request).recurring_runs, what)(which)
    return page.back("/recurring")


def show_experiments(request: Request) -> Response:
    found = page.client(request).experiments.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))
    return page.render(request, "experiments.html", found=found)


ROUTES = [
    Route("/runs", show),
    Route("/runs/live", follow),
    Route("/runs/delete", ask_delete),
    Route("/runs/{verb}", page.action(act), methods=["POST"]),
    Route("/recurring", show_recurring),
    Route("/recurring/{recurring_run_id}/{what}", page.action(change_recurring), methods=["POST"]),
    Route("/experiments", show_experiments),
]
