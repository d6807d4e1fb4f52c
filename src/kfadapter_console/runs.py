"""Lists of runs, recurring runs and experiments, and their actions."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException

from kfadapter_console import page
from kfadapter_console.live import Changes
from kfadapter_grpc.client import Client, RecurringRun
from kfadapter_grpc.client.runs import RunsWhere
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState

ORDERS = {
    "created_at desc": "newest first",
    "created_at": "oldest first",
    "finished_at desc": "last finished first",
    "display_name": "by name",
}
STATES = tuple(state for state in RunState if state not in {RunState.UNKNOWN, RunState.SKIPPED, RunState.OMITTED})
_MAX_CHOSEN = 100
_CONCURRENCY = 8
"""How many calls for the runs of a list are made at a time."""
_MAX_NAMES = 200
"""How many pipelines and experiments the filter suggests."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def show(client: Client, query: QueryParams) -> page.Values:
    """Lists runs; the first page of the newest ones is live."""
    order, token = query.get("order", ""), query.get("page", "")
    found, problem = page.listed(
        lambda: client.runs.list(order_by=order, page_size=page.PAGE_SIZE, **_where(client, query)).page(token)
    )
    return {
        "found": found,
        "problem": problem,
        "form": page.Form(query),
        "orders": ORDERS,
        "states": {"": "any"} | {state.value: state.value for state in STATES},
        "pipelines": {one.pipeline_id: one.name for one in client.pipelines.list(page_size=_MAX_NAMES).page().items},
        "experiments": [one.name for one in client.experiments.list(page_size=_MAX_NAMES).page().items],
        "is_live": not problem and not token and order in {"", "created_at desc"},
    }


def _where(client: Client, query: Mapping[str, str]) -> RunsWhere:
    """Returns the filter; a pipeline or an experiment may be a name or an id."""
    name, pipeline, experiment = (query.get(field, "").strip() for field in ("name", "pipeline", "experiment"))
    if pipeline and not _UUID.fullmatch(pipeline):
        pipeline = client.pipelines.get(pipeline, view=View.BASIC).pipeline_id
    is_id = _UUID.fullmatch(experiment)
    return {
        "archived": bool(query.get("archived")),
        "display_name_contains": name,
        "recurring_run_id": query.get("recurring_run", ""),
        "states": [state for state in STATES if state.value == query.get("state")],
        "pipeline_id": pipeline,
        "experiment_id": experiment if is_id else "",
        "experiment_name": "" if is_id else experiment,
    }


def changes(client: Client, query: QueryParams) -> Changes:
    """Comes whenever a run of the first page of the list changed or a new one was created."""
    where = _where(client, query)
    runs = client.runs.list(page_size=page.PAGE_SIZE, **where).page().items
    oldest = runs[-1].created_at if len(runs) == page.PAGE_SIZE else None
    watched = RunFilter(
        ExperimentRef(where["experiment_id"], where["experiment_name"]),
        created_after=oldest - timedelta(seconds=1) if oldest else None,
        pipeline_id=where["pipeline_id"],
        recurring_run_id=where["recurring_run_id"],
        archived=where["archived"],
    )
    return ({} for _ in client.runs.watch(where=watched))


def act(client: Client, form: FormData, verb: str) -> str:
    """Applies an action to the chosen runs, and reports those for which it failed."""
    if verb not in {"terminate", "retry", "archive", "unarchive", "delete"}:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    chosen = list(dict.fromkeys(map(str, form.getlist("run"))))[:_MAX_CHOSEN]
    failures: dict[str, AdapterError] = {}
    for run_id in chosen:
        try:
            getattr(client.runs, verb)(run_id)
        except AdapterError as error:
            failures[run_id] = error
    if failures and len(chosen) == 1:
        raise failures[chosen[0]]
    if failures:
        lines = [f"{run_id}: {error.message} ({error.reason})" for run_id, error in failures.items()]
        title = f"The action {verb} failed for {len(failures)} of {len(chosen)} runs:"
        raise HTTPException(HTTPStatus.CONFLICT, "\n".join([title, *lines]))
    return "/runs"


def show_recurring(client: Client, query: QueryParams) -> page.Values:
    """Lists recurring runs with their next and last starts."""
    found = client.recurring_runs.list(page_size=page.PAGE_SIZE).page(query.get("page", ""))

    def last_run(recurring_run: RecurringRun) -> Run | None:
        return next(client.runs.list(recurring_run_id=recurring_run.recurring_run_id, page_size=1), None)

    with ThreadPoolExecutor(_CONCURRENCY) as threads:
        rows = list(zip(found.items, threads.map(last_run, found.items), strict=True))
    return {"rows": rows, "found": found}


def act_on_recurring(client: Client, _: FormData, recurring_run_id: str, verb: str) -> str:
    if verb not in {"enable", "disable", "delete"}:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    getattr(client.recurring_runs, verb)(recurring_run_id)
    return "/recurring"


def show_experiments(client: Client, query: QueryParams) -> page.Values:
    return {"found": client.experiments.list(page_size=page.PAGE_SIZE).page(query.get("page", ""))}


ROUTES = [
    page.view("/runs", show, "runs.html", changes),
    page.action("/runs/{verb}", act),
    page.view("/recurring", show_recurring, "recurring.html"),
    page.action("/recurring/{recurring_run_id}/{verb}", act_on_recurring),
    page.view("/experiments", show_experiments, "experiments.html"),
]
