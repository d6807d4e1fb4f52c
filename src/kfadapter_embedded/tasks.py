"""Tasks and artifacts as the next KFP returns them: `/runs/{run_id}/tasks`, `/artifacts`, `/artifact_tasks`."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .document_kinds import ARTIFACT_TASKS, ARTIFACTS, TASKS
from .errors import invalid_input, invalid_parameter, json_response, not_found
from .listing import parse_listing
from .requests import Resource
from .run_tasks import children_of, with_children
from .store import Documents

_TASKS = "/apis/v2beta1/runs/{run_id}/tasks"
_ARTIFACTS = "/apis/v2beta1/artifacts"
_FILTERS = {"task_ids": "TaskID", "run_ids": "RunUUID", "artifact_ids": "ArtifactID"}
_LINK_TYPES = frozenset(
    {
        *("IO_TYPE_UNSPECIFIED", "COMPONENT_DEFAULT_INPUT", "TASK_OUTPUT_INPUT", "COMPONENT_INPUT"),
        *("RUNTIME_VALUE_INPUT", "COLLECTED_INPUTS", "ITERATOR_INPUT", "ITERATOR_INPUT_RAW", "ITERATOR_OUTPUT"),
        *("OUTPUT", "ONE_OF_OUTPUT", "TASK_FINAL_STATUS_OUTPUT"),
    }
)


class Tasks(Resource):
    def routes(self) -> list[Route]:
        return [
            Route(_TASKS, self._list, methods=["GET"]),
            Route(f"{_TASKS}/{{task_id}}", self._get, methods=["GET"]),
            Route(_ARTIFACTS, self._lists(ARTIFACTS, "artifacts"), methods=["GET"]),
            Route(f"{_ARTIFACTS}/{{artifact_id}}", self._get_artifact, methods=["GET"]),
            Route("/apis/v2beta1/artifact_tasks", self._list_links, methods=["GET"]),
        ]

    def _list(self, request: Request) -> Response:
        run_id, parent_id = request.path_params["run_id"], request.query_params.get("parent_id", "")
        wanted = {"owner": [run_id], "began": [1], **({"ParentTaskUUID": [parent_id]} if parent_id else {})}
        with self._store.reading() as documents:
            if parent_id and _task(documents, parent_id, "Failed to get parent task for authorization") != run_id:
                raise invalid_input("parent_task_id must belong to the same run as run_id")
            page = documents.page(parse_listing(TASKS, request.query_params), **wanted)
            children = children_of(documents, [run_id])
            return json_response("".join(page.json("tasks", [with_children(text, children) for text in page.texts])))

    def _get(self, request: Request) -> Response:
        run_id, task_id = request.path_params["run_id"], request.path_params["task_id"]
        with self._store.reading() as documents:
            if _task(documents, task_id, "Failed to get task") != run_id:
                raise invalid_input("Task run_id in path parameter does not match the existing task run_id")
            return json_response(with_children(documents.text(TASKS, task_id) or "", children_of(documents, [run_id])))

    def _get_artifact(self, request: Request) -> Response:
        artifact_id = request.path_params["artifact_id"]
        with self._store.reading() as documents:
            text = documents.text(ARTIFACTS, artifact_id)
        if text is None:
            layers = ("Failed to get artifact", f"Failed to fetch artifact {artifact_id}")
            raise not_found(f"artifact {artifact_id} not found", *layers)
        return json_response(text)

    def _list_links(self, request: Request) -> Response:
        query = request.query_params
        wanted = {column: query.getlist(name) for name, column in _FILTERS.items() if name in query}
        if not wanted:
            raise invalid_input("At least one filter (task_ids, run_ids, or artifact_ids) is required")
        for name in _FILTERS:
            if "" in query.getlist(name):
                raise invalid_input(f"{name} must not contain empty values")
        kind = query.get("type", "")
        if kind and kind not in _LINK_TYPES:
            raise invalid_parameter("type", kind)
        if kind:
            wanted["Type"] = [kind]
        with self._store.reading() as documents:
            page = documents.page(parse_listing(ARTIFACT_TASKS, query), **wanted)
            return json_response("".join(page.json("artifact_tasks")))


def _task(documents: Documents, task_id: str, words: str) -> object:
    """The run of a task; raises KfpError if the task does not exist."""
    row = documents.one("SELECT document FROM tasks WHERE id = ? AND began", task_id)
    if row is None:
        raise not_found(f"task {task_id} not found", words, f"Failed to fetch task {task_id}")
    return json.loads(row)["run_id"]
