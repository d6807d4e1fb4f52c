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
from .execution import State, log_path
from .progress_store import WHOLE
from .task_bodies import pod_names, task_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from .records import Run, Task
    from .run_folders import RunFolders
    from .store import Store

_CHUNK = 1 << 16
_WITHOUT_POD = frozenset({State.PENDING, State.SKIPPED})


def routes(store: Store, folders: RunFolders) -> list[Route]:
    """The route over a store."""
    logs = _Logs(store, folders)
    return [Route("/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", logs.read)]


class _Logs:
    """Logs by run and pod."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders

    async def read(self, request: Request) -> Response:
        run_id, pod = request.path_params["run_id"], request.path_params["pod"]
        found = await run_in_threadpool(self._find, run_id, pod)
        if isinstance(found, str):
            message = f"BadRequestError: Failed to read logs for run {run_id}{found}"
            return UploadError(message, HTTPStatus.OK).response()
        headers = {"cache-control": "no-cache, private"}
        return StreamingResponse(_whole(found), media_type="text/plain", headers=headers)

    def _find(self, run_id: str, pod: str) -> Path | str:
        """The file of a log, or what KFP writes behind the run's id where there is none."""
        run = self._store.runs.try_get(run_id)
        if run is None:
            failed = f"Failed to fetch run {run_id}: ResourceNotFoundError: Run {run_id} not found"
            return f" due to run fetching error: {failed}"
        tasks = self._store.progress.tasks([run_id])[run_id]
        begun = (task for task in tasks if task.name != WHOLE and task.state not in _WITHOUT_POD)
        name = next((task.name for task in begun if pod in _names(run, task)), None)
        if name is None:
            failed = f"Failed to read logs from pod {pod} due to error opening log stream"
            return f': InternalServerError: {failed}: pods "{pod}" not found'
        return log_path(self._folders.path(run_id), name)


def _names(run: Run, task: Task) -> tuple[str, str]:
    """Names of a task's pod: as KFP lists it, and the task's id, as there is one pod for each task."""
    return pod_names(run, task)[0], task_id(run.id, task.name)


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
