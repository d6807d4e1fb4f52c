"""Recurring runs with their next and last starts; and the list of experiments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.routing import Route

from kfadapter_console import page

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Run

_AT_ONCE = 8
"""How many requests for last runs are sent at once."""
_SHOWN_RUNS = 10


def show_all(request: Request) -> Response:
    """The list, newest first."""
    found = (
        page.client(request).recurring_runs.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))
    )
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        last = threads.map(lambda one: next(iter(_runs(request, one.recurring_run_id, 1)), None), found.items)
        rows = list(zip(found.items, last, strict=True))
    return page.render(request, "recurring.html", rows=rows, next=found.next_token)


def show(request: Request) -> Response:
    """One of them, with its last runs."""
    calls, which = page.client(request), request.path_params["recurring_run_id"]
    found, runs = calls.recurring_runs.get(which), _runs(request, which, _SHOWN_RUNS)
    return page.render(request, "recurring_run.html", found=found, runs=runs)


def change(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Enables, disables or deletes one."""
    calls, which = page.client(request).recurring_runs, request.path_params["recurring_run_id"]
    match request.path_params["what"]:
        case "enable":
            calls.enable(which)
        case "disable":
            calls.disable(which)
        case "delete":
            calls.delete(which)
            return page.back("/recurring")
        case _:
            raise HTTPException(HTTPStatus.NOT_FOUND)
    return page.back(page.path("recurring", which))


def show_experiments(request: Request) -> Response:
    """The experiments, newest first."""
    found = page.client(request).experiments.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))
    return page.render(request, "experiments.html", experiments=found.items, next=found.next_token)


def _runs(request: Request, recurring_run_id: str, count: int) -> tuple[Run, ...]:
    """Its newest runs."""
    return page.client(request).runs.list(recurring_run_id=recurring_run_id, page_size=count).page().items


ROUTES = [
    Route("/recurring", show_all),
    Route("/recurring/{recurring_run_id}", show),
    Route("/recurring/{recurring_run_id}/{what}", page.action(change), methods=["POST"]),
    Route("/experiments", show_experiments),
]
