"""The logs of tasks, at KFP's route for them and as it serves them: by pod name, as far as they are written.

As KFP's, the route answers 200 before it looks for the log, so errors come as JSON in the body; it ignores `follow`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .errors import UploadError
from .execution import WHOLE, State, log_path
from .kinds import RUNS
from .run_tasks import pod_names, task_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from .run_folders import RunFolders
    from .store import Store

_CHUNK = 1 << 16


class RunLogs:
    """The route."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders

    def routes(self) -> list[Route]:
        """It alone."""
        return [Route("/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", self._read)]

    async def _read(self, request: Request) -> Response:
        run_id, pod = request.path_params["run_id"], request.path_params["pod"]
        found = await run_in_threadpool(self._find, run_id, pod)
        if isinstance(found, str):
            message = f"BadRequestError: Failed to read logs for run {run_id}{found}"
            return UploadError(message, HTTPStatus.OK).response()
        headers = {"cache-control": "no-cache, private"}
        return StreamingResponse(_whole(found), media_type="text/plain", headers=headers)

    def _find(self, run_id: str, pod: str) -> Path | str:
        """The file of a log, or what KFP writes behind the run's id where there is none."""
        query = (
            "SELECT name, position, workflow FROM tasks JOIN run_details ON id = run_id "
            "WHERE run_id = ? AND name <> ? AND json_extract(tasks.document, '$.state') NOT IN (?, ?)"
        )
        with self._store.reading() as documents:
            if documents.text(RUNS, run_id) is None:
                failed = f"Failed to fetch run {run_id}: ResourceNotFoundError: Run {run_id} not found"
                return f" due to run fetching error: {failed}"
            begun = documents.execute(query, (run_id, WHOLE, State.PENDING.value, State.SKIPPED.value)).fetchall()
        for name, position, workflow in begun:
            # A task's pod: as KFP lists it, and by the task's id, as there is one pod for each task.
            if pod in {pod_names(workflow, position)[0], task_id(run_id, name)}:
                return log_path(self._folders.path(run_id), name)
        failed = f"Failed to read logs from pod {pod} due to error opening log stream"
        return f': InternalServerError: {failed}: pods "{pod}" not found'


async def _whole(path: Path) -> AsyncIterator[bytes]:
    position = 0
    while piece := await run_in_threadpool(_piece, path, position):
        position += len(piece)
        yield piece


def _piece(path: Path, position: int) -> bytes:
    """The next bytes of a file; none if there are none, or no file."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(_CHUNK)
    except OSError:
        return b""
