"""The logs of tasks, at KFP's route and in KFP's form: by pod name, up to what has been written.

Like KFP's, the route returns 200 before it opens the log, so errors are JSON in the body; it ignores `follow`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .document_kinds import RUNS
from .errors import UploadError
from .execution import WHOLE, log_path
from .run_folders import RunFolders
from .run_tasks import attempts_of, executor_pod, old_pods
from .store import Store

_CHUNK = 1 << 16
_VERSIONS = ("v1beta1", "v2beta1")


class RunLogs:
    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders

    def routes(self) -> list[Route]:
        """The route of logs, and that of Argo's artifacts, which are never found."""
        return [
            Route("/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", self._read),
            *(
                Route(f"/apis/{version}/runs/{{run_id}}/nodes/{{pod}}/artifacts/{{key}}:read", _no_artifact)
                for version in _VERSIONS
            ),
        ]

    async def _read(self, request: Request) -> Response:
        run_id, pod = request.path_params["run_id"], request.path_params["pod"]
        found = await run_in_threadpool(self._find, run_id, pod)
        if isinstance(found, str):
            message = f"BadRequestError: Failed to read logs for run {run_id}{found}"
            return UploadError(message, HTTPStatus.OK).response()
        headers = {"cache-control": "no-cache, private"}
        return StreamingResponse(_contents(found), media_type="text/plain", headers=headers)

    def _find(self, run_id: str, pod: str) -> list[Path] | str:
        """The files of a log or, if there is no log, the text that KFP appends to the run's id."""
        query = (
            "SELECT path, position, workflow, tasks.document "
            "FROM tasks JOIN run_details ON run_details.id = tasks.owner WHERE tasks.owner = ? "
            "AND began AND path <> ? AND tasks.State <> 3"
        )
        with self._store.reading() as documents:
            if documents.text(RUNS, run_id) is None:
                failed = f"Failed to fetch run {run_id}: ResourceNotFoundError: Run {run_id} not found"
                return f" due to run fetching error: {failed}"
            begun = documents.execute(query, (run_id, WHOLE)).fetchall()
        for path, position, workflow, text in begun:
            task, folder = json.loads(text), self._folders.path(run_id)
            # The pod of the running attempt is not listed yet.
            logs = [log_path(folder, path, attempt) for attempt in range(attempts_of(task) + 1)]
            for attempt, log in enumerate(logs):
                if pod == executor_pod(workflow, path, attempt, task["type"]):
                    return [log]
            if pod in {old_pods(workflow, position)[0], task["task_id"]}:
                # Older versions wrote one log for all attempts.
                return [Path(f"{logs[0].parent}.log"), *logs]
        failed = f"Failed to read logs from pod {pod} due to error opening log stream"
        return f': InternalServerError: {failed}: pods "{pod}" not found'


async def _no_artifact(_request: Request) -> Response:
    return UploadError("artifact not found: <nil>", HTTPStatus.NOT_FOUND).response()


async def _contents(paths: list[Path]) -> AsyncIterator[bytes]:
    for path in paths:
        position = 0
        while piece := await run_in_threadpool(_piece, path, position):
            position += len(piece)
            yield piece


def _piece(path: Path, position: int) -> bytes:
    """The next bytes of a file; empty at its end or if the file is missing."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(_CHUNK)
    except OSError:
        return b""
