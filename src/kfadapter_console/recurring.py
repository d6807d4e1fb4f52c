"""Recurring runs with their next and last starts; and the list of experiments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.routing import Route

from kfadapter_console import page

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import RecurringRun, Run

_AT_ONCE = 8
"""How many requests for last runs are sent at once."""


def show_all(request: Request) -> Response:
    """The list, newest first."""
    calls = page.client(request)
    found = calls.recurring_runs.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))

    def last_run(one: RecurringRun) -> Run | None:
        return next(calls.runs.list(recurring_run_id=one.recurring_run_id, page_size=1), None)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = list(zip(found.items, threads.map(last_run, found.items), strict=True))
    return page.render(request, "recurring.html", rows=rows, next=found.next_token)


def change(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Enables, disables or deletes one."""
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
    """The experiments, newest first."""
    found = page.client(request).experiments.list(page_size=page.PAGE_SIZE).page(request.query_params.get("page", ""))
    return page.render(request, "experiments.html", experiments=found.items, next=found.next_token)


ROUTES = [
    Route("/recurring", show_all),
    Route("/recurring/{recurring_run_id}/{what}", page.action(change), methods=["POST"]),
    Route("/experiments", show_experiments),
]
