"""The routes of runs: HTTP in, a step of the control or a look into the store, JSON out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .bodies import list_body, streamed_list
from .errors import context, json_response, json_text_response, not_found
from .json_requests import json_body
from .listing import RUNS, parse_listing
from .run_bodies import run_body
from .run_requests import read_new_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from .pages import Page
    from .records import Run
    from .run_control import RunControl
    from .store import Store

_RUNS = "/apis/v2beta1/runs"
_RUN = f"{_RUNS}/{{run_id}}"


def routes(store: Store, control: RunControl) -> list[Route]:
    """The routes over a store."""
    handlers = _Handlers(store, control)
    steps = {
        "archive": control.archive,
        "unarchive": control.unarchive,
        "terminate": control.terminate,
        "retry": control.retry,
    }
    return [
        Route(_RUNS, handlers.list_runs, methods=["GET"]),
        Route(_RUNS, handlers.create_run, methods=["POST"]),
        *(Route(f"{_RUN}:{name}", _step(step), methods=["POST"]) for name, step in steps.items()),
        Route(_RUN, handlers.get_run, methods=["GET"]),
        Route(_RUN, _step(control.delete), methods=["DELETE"]),
    ]


class _Handlers:
    """The routes' functions; those that are not async run in threads, because the store blocks."""

    def __init__(self, store: Store, control: RunControl) -> None:
        self._store = store
        self._control = control

    async def create_run(self, request: Request) -> Response:
        body = await json_body(request)
        experiment_id = request.query_params.get("experiment_id", "")
        return await run_in_threadpool(self._create, body, experiment_id)

    def _create(self, body: dict[str, object], experiment_id: str) -> Response:
        new = read_new_run(self._store, body, experiment_id)
        return json_text_response(run_body(self._control.create(new), new.spec, []))

    def get_run(self, request: Request) -> Response:
        run = self._control.get(request.path_params["run_id"], "Failed to get a run")
        tasks, outputs = self._store.progress.tasks([run.id])[run.id], self._store.progress.outputs(run.id)
        spec = self._store.runs.try_spec(run.id) or "{}"
        return json_text_response(run_body(run, spec, tasks, outputs))

    def list_runs(self, request: Request) -> Response:
        listing = parse_listing(RUNS, request.query_params)
        experiment_id = request.query_params.get("experiment_id", "")
        require_experiment_of_list(self._store, experiment_id, "runs")
        page = self._store.runs.page(listing, experiment_id)
        if not page.items:
            return json_response(list_body("runs", [], page))
        return StreamingResponse(streamed_list("runs", self._texts(page), page), media_type="application/json")

    def _texts(self, page: Page[Run]) -> Iterator[str]:
        tasks = self._store.progress.tasks(run.id for run in page.items)
        for run in page.items:
            spec = "" if run.origin.version_id else self._store.runs.try_spec(run.id)
            if spec is not None:  # deleted since the page was read
                yield run_body(run, spec, tasks[run.id])


def require_experiment_of_list(store: Store, experiment_id: str, plural: str) -> None:
    """Sees to it that there is the experiment whose runs are listed, if one is named.

    Raises:
        KfpError: there is none.
    """
    if experiment_id and store.experiments.try_get(experiment_id) is None:
        words = f"Failed to list {plural} due to error fetching namespace for experiment {experiment_id}"
        with (
            context(f"Failed to list {plural}"),
            context(f"{words}. Try filtering based on namespace"),
            context(f"Failed to fetch namespace from experiment {experiment_id}"),
        ):
            raise not_found(f"Experiment {experiment_id} not found")


def _step(step: Callable[[str], None]) -> Callable[[Request], Response]:
    def handle(request: Request) -> Response:
        step(request.path_params["run_id"])
        return json_response({})

    return handle
