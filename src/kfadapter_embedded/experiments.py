"""Experiments: `/apis/v2beta1/experiments`. The experiment "Default" exists from the start."""

from __future__ import annotations

import uuid
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .document_kinds import EXPERIMENTS
from .errors import already_exists, bad_request, context, internal, json_response
from .json_text import rfc3339, without_empty
from .requests import Resource, text_field, with_body
from .store import DuplicateError, Store

AVAILABLE: Final = "AVAILABLE"
ARCHIVED: Final = "ARCHIVED"
_EXPERIMENTS = "/apis/v2beta1/experiments"
_EXPERIMENT = f"{_EXPERIMENTS}/{{experiment_id}}"
_MAX_NAME = 255
_DEFAULT_NAME = "Default"
_DEFAULT_DESCRIPTION = "All runs created without specifying an experiment will be grouped here."


def default_experiment(store: Store) -> str:
    """The id of the experiment for runs that set none; it is created if missing."""
    with store.reading() as documents:
        found = documents.one("SELECT id FROM experiments WHERE Name = ?", _DEFAULT_NAME)
    return str(found or _create(store, _DEFAULT_NAME, _DEFAULT_DESCRIPTION)["experiment_id"])


def _create(store: Store, name: str, description: str) -> dict[str, object]:
    experiment = without_empty(
        experiment_id=str(uuid.uuid4()),
        display_name=name,
        description=description,
        created_at=rfc3339(store.now()),
        storage_state=AVAILABLE,
        last_run_created_at=rfc3339(0),
    )
    with store.writing() as documents:
        documents.add(EXPERIMENTS, experiment)
    return experiment


class Experiments(Resource):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        default_experiment(store)

    def routes(self) -> list[Route]:
        return [
            Route(_EXPERIMENTS, self._lists(EXPERIMENTS, "experiments"), methods=["GET"]),
            Route(_EXPERIMENTS, with_body(self._create), methods=["POST"]),
            Route(f"{_EXPERIMENT}:archive", self._archive, methods=["POST"]),
            Route(f"{_EXPERIMENT}:unarchive", self._unarchive, methods=["POST"]),
            Route(_EXPERIMENT, self._get, methods=["GET"]),
            Route(_EXPERIMENT, self._delete, methods=["DELETE"]),
        ]

    def _create(self, _request: Request, body: dict[str, object]) -> Response:
        name, description = text_field(body, "display_name"), text_field(body, "description")
        with context("[ExperimentServer]: Failed to create a experiment due to conversion error"):
            words = "Failed to convert API experiment to model experiment: Invalid input error"
            if not name:
                raise internal(f"{words}: Experiment must have a non-empty name")
            if len(name) > _MAX_NAME:
                raise internal(f"{words}: Experiment name cannot exceed {_MAX_NAME}")
        try:
            return json_response(_create(self._store, name, description))
        except DuplicateError:
            words = f"Failed to create a new experiment. The name {name} already exists. Please specify a new name"
            raise already_exists(words, "Failed to create a experiment") from None

    def _get(self, request: Request) -> Response:
        experiment_id = request.path_params["experiment_id"]
        with self._store.reading() as documents:
            return json_response(documents.found(EXPERIMENTS, experiment_id, "Failed to fetch experiment"))

    def _archive(self, request: Request) -> Response:
        """Archives an experiment and its runs, and disables its recurring runs; as in KFP, no error if missing."""
        experiment_id = request.path_params["experiment_id"]
        state = f"json_set(document, '$.storage_state', '{ARCHIVED}')"
        disabled = "json_set(document, '$.mode', 'DISABLE', '$.status', 'DISABLED')"
        with self._store.writing() as documents:
            documents.execute(f"UPDATE experiments SET document = {state} WHERE id = ?", (experiment_id,))  # noqa: S608
            documents.execute(f"UPDATE run_details SET document = {state} WHERE owner = ?", (experiment_id,))  # noqa: S608
            documents.execute(f"UPDATE jobs SET document = {disabled} WHERE owner = ?", (experiment_id,))  # noqa: S608
        return json_response({})

    def _unarchive(self, request: Request) -> Response:
        """Unarchives an experiment, but not its runs; no error if it is missing."""
        with self._store.writing() as documents:
            experiment = documents.document(EXPERIMENTS, request.path_params["experiment_id"])
            if experiment:
                documents.put(EXPERIMENTS, {**experiment, "storage_state": AVAILABLE})
        return json_response({})

    def _delete(self, request: Request) -> Response:
        """Deletes an experiment, but not its runs."""
        experiment_id = request.path_params["experiment_id"]
        default_id = default_experiment(self._store)
        with context("Failed to delete experiment"), self._store.writing() as documents:
            if experiment_id == default_id:
                words = f"Failed to delete experiment {experiment_id}. The default experiment cannot be deleted"
                cause = f"Invalid input error: Experiment id cannot be equal to the default id {default_id}"
                raise bad_request(words, cause)
            layer = f"Failed to delete experiment {experiment_id} due to error fetching it"
            documents.drop(EXPERIMENTS, experiment_id, layer)
        return json_response({})
