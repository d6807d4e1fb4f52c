"""The logs of tasks, over KFP's own address for them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from .errors import UploadError
from .execution import log_path
from .progress_store import WHOLE
from .records import OVER
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
_PAUSE_SECONDS = 0.2


def routes(store: Store, folders: RunFolders) -> list[Route]:
    """The routes over a store."""
    logs = _Logs(store, folders)
    path = "/apis/{version}/runs/{{run_id}}/nodes/{{node_id:path}}/log"
    return [Route(path.format(version=version), logs.read, methods=["GET"]) for version in ("v1beta1", "v2beta1")]


class _Logs:
    """Logs by run and node. A node is named by a task's name, its id, or its pod's name."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders

    async def read(self, request: Request) -> Response:
        run_id, node_id = request.path_params["run_id"], request.path_params["node_id"]
        task = await run_in_threadpool(self._try_task, run_id, node_id)
        if task is None:
            raise UploadError(
                f"Failed to read the log of node {node_id} of run {run_id}: there is no such task", HTTPStatus.NOT_FOUND
            )
        path = log_path(self._folders.path(run_id), task.name)
        follow = request.query_params.get("follow", "").lower() == "true"
        pieces = self._followed(request, path, task) if follow else _whole(path)
        headers = {"cache-control": "no-cache, private"}
        return StreamingResponse(pieces, media_type="text/plain", headers=headers)

    async def _followed(self, request: Request, path: Path, task: Task) -> AsyncIterator[bytes]:
        """The log, and what is written to it until the task is over or the caller has gone."""
        position = 0
        while True:
            # Asked before the log is read: what a task has written is there before it is over.
            over = await run_in_threadpool(self._is_over, task)
            while piece := await run_in_threadpool(_piece, path, position):
                position += len(piece)
                yield piece
            if over or await request.is_disconnected():
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _try_task(self, run_id: str, node_id: str) -> Task | None:
        run = self._store.runs.try_get(run_id)
        tasks = self._store.progress.tasks([run_id])[run_id] if run else []
        return next((task for task in tasks if run and node_id in _names(run, task)), None)

    def _is_over(self, task: Task) -> bool:
        """Whether a task will write no more; a run that waits may yet be going to write."""
        tasks = self._store.progress.tasks([task.run_id])[task.run_id]
        now = next((each for each in tasks if each.name == task.name), None)
        return now is None or now.state in OVER


def _names(run: Run, task: Task) -> set[str]:
    return {task.name, task_id(run.id, task.name), pod_names(run, task)[0]} if task.name != WHOLE else set()


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
