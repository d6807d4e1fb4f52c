"""The routes of recurring runs, which are kept and shown, and never fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .bodies import list_body, streamed_list
from .errors import context, json_response, json_text_response, not_found
from .json_requests import json_body
from .listing import RECURRING_RUNS, parse_listing
from .recurring_run_requests import read_new_recurring_run
from .run_bodies import recurring_run_body
from .run_routes import require_experiment_of_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from .records import RecurringRun
    from .store import Store

_RECURRING_RUNS = "/apis/v2beta1/recurringruns"
_RECURRING_RUN = f"{_RECURRING_RUNS}/{{recurring_run_id}}"


def routes(store: Store) -> list[Route]:
    """The routes over a store."""
    handlers = _Handlers(store)
    return [
        Route(_RECURRING_RUNS, handlers.list_recurring_runs, methods=["GET"]),
        Route(_RECURRING_RUNS, handlers.create_recurring_run, methods=["POST"]),
        Route(f"{_RECURRING_RUN}:enable", handlers.switch(enabled=True), methods=["POST"]),
        Route(f"{_RECURRING_RUN}:disable", handlers.switch(enabled=False), methods=["POST"]),
        Route(_RECURRING_RUN, handlers.get_recurring_run, methods=["GET"]),
        Route(_RECURRING_RUN, handlers.delete_recurring_run, methods=["DELETE"]),
    ]


class _Handlers:
    """The routes' functions; those that are not async run in threads, because the store blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_recurring_run(self, request: Request) -> Response:
        body = await json_body(request)
        return json_text_response(recurring_run_body(await run_in_threadpool(self._create, body)))

    def _create(self, body: dict[str, object]) -> RecurringRun:
        return self._store.recurring_runs.create(read_new_recurring_run(self._store, body))

    def list_recurring_runs(self, request: Request) -> Response:
        listing = parse_listing(RECURRING_RUNS, request.query_params)
        experiment_id = request.query_params.get("experiment_id", "")
        require_experiment_of_list(self._store, experiment_id, "recurring runs")
        page = self._store.recurring_runs.page(listing, experiment_id)
        if not page.items:
            return json_response(list_body("recurringRuns", [], page))
        texts = map(recurring_run_body, page.items)
        return StreamingResponse(streamed_list("recurringRuns", texts, page), media_type="application/json")

    def get_recurring_run(self, request: Request) -> Response:
        recurring_run_id = request.path_params["recurring_run_id"]
        recurring = self._store.recurring_runs.try_get(recurring_run_id)
        if recurring is None:
            with context("Failed to fetch a recurring run"):
                raise not_found(f"Job {recurring_run_id} not found")
        return json_text_response(recurring_run_body(recurring))

    def switch(self, *, enabled: bool) -> Callable[[Request], Response]:
        """The function of a route that enables or disables."""
        verb = "enable" if enabled else "disable"

        def handle(request: Request) -> Response:
            recurring_run_id = request.path_params["recurring_run_id"]
            if not self._store.recurring_runs.enable(recurring_run_id, enabled=enabled):
                mode = f"Failed to change recurring run's mode to enable:{str(enabled).lower()}"
                with (
                    context(f"Failed to {verb} a recurring run"),
                    context(f"{mode}. Check if recurring run {recurring_run_id} exists"),
                ):
                    raise not_found(f"Job {recurring_run_id} not found")
            return json_response({})

        return handle

    def delete_recurring_run(self, request: Request) -> Response:
        recurring_run_id = request.path_params["recurring_run_id"]
        if not self._store.recurring_runs.delete(recurring_run_id):
            with (
                context("Failed to delete a recurring run"),
                context(f"Failed to delete recurring run {recurring_run_id}. Check if exists"),
            ):
                raise not_found(f"Job {recurring_run_id} not found")
        return json_response({})
