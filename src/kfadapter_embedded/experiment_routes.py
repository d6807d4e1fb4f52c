"""The routes of experiments: HTTP in, one store call, JSON out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from .bodies import list_body
from .errors import already_exists, bad_request, context, internal_because, json_response, not_found
from .json_requests import json_body, text_field
from .listing import EXPERIMENTS, parse_listing
from .pipeline_store import NameTakenError
from .run_bodies import experiment_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .store import Store

_EXPERIMENTS = "/apis/v2beta1/experiments"
_EXPERIMENT = f"{_EXPERIMENTS}/{{experiment_id}}"
_MAX_NAME = 255


def routes(store: Store) -> list[Route]:
    """The routes over a store."""
    handlers = _Handlers(store)
    return [
        Route(_EXPERIMENTS, handlers.list_experiments, methods=["GET"]),
        Route(_EXPERIMENTS, handlers.create_experiment, methods=["POST"]),
        Route(f"{_EXPERIMENT}:archive", handlers.archive_experiment, methods=["POST"]),
        Route(f"{_EXPERIMENT}:unarchive", handlers.unarchive_experiment, methods=["POST"]),
        Route(_EXPERIMENT, handlers.get_experiment, methods=["GET"]),
        Route(_EXPERIMENT, handlers.delete_experiment, methods=["DELETE"]),
    ]


class _Handlers:
    """The routes' functions; those that are not async run in threads, because the store blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_experiments(self, request: Request) -> Response:
        page = self._store.experiments.page(parse_listing(EXPERIMENTS, request.query_params))
        return json_response(list_body("experiments", [experiment_body(each) for each in page.items], page))

    async def create_experiment(self, request: Request) -> Response:
        body = await json_body(request)
        name, description = text_field(body, "display_name"), text_field(body, "description")
        _check_name(name)
        with context("Failed to create a experiment"):
            try:
                experiment = await run_in_threadpool(self._store.experiments.create, name, description)
            except NameTakenError:
                words = f"Failed to create a new experiment. The name {name} already exists. Please specify a new name"
                raise already_exists(words) from None
        return json_response(experiment_body(experiment))

    def get_experiment(self, request: Request) -> Response:
        experiment_id = request.path_params["experiment_id"]
        experiment = self._store.experiments.try_get(experiment_id)
        if experiment is None:
            with context("Failed to fetch experiment"):
                raise not_found(f"Experiment {experiment_id} not found")
        return json_response(experiment_body(experiment))

    def archive_experiment(self, request: Request) -> Response:
        # As with KFP, nobody looks whether there is one.
        self._store.experiments.archive(request.path_params["experiment_id"])
        return json_response({})

    def unarchive_experiment(self, request: Request) -> Response:
        self._store.experiments.unarchive(request.path_params["experiment_id"])
        return json_response({})

    def delete_experiment(self, request: Request) -> Response:
        experiment_id = request.path_params["experiment_id"]
        default_id = self._store.experiments.default().id
        with context("Failed to delete experiment"):
            if experiment_id == default_id:
                words = f"Failed to delete experiment {experiment_id}. The default experiment cannot be deleted"
                cause = f"Invalid input error: Experiment id cannot be equal to the default id {default_id}"
                raise bad_request(words, cause)
            if not self._store.experiments.delete(experiment_id):
                with context(f"Failed to delete experiment {experiment_id} due to error fetching it"):
                    raise not_found(f"Experiment {experiment_id} not found")
        return json_response({})


def _check_name(name: str) -> None:
    with context("[ExperimentServer]: Failed to create a experiment due to conversion error"):
        words = "Failed to convert API experiment to model experiment"
        if not name:
            raise internal_because(f"{words}: Invalid input error: Experiment must have a non-empty name")
        if len(name) > _MAX_NAME:
            raise internal_because(f"{words}: Invalid input error: Experiment name cannot exceed {_MAX_NAME}")
