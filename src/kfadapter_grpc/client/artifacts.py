"""Artifacts: the outputs of the tasks of runs, and their bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from typing import BinaryIO, cast

from grpc import StatusCode

from kfadapter.v1 import artifact_pb2 as pb
from kfadapter_grpc.client.connection import MAX_PAUSE_SECONDS, Pages
from kfadapter_grpc.client.download import ArtifactReceipt, Destination, write_all
from kfadapter_grpc.client.errors import CallFailedError, CannotConnectError
from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.codec import to_record
from kfadapter_grpc.contract.artifacts import (
    ArtifactContent,
    GetArtifactRequest,
    ListArtifactsRequest,
    ListMetricsRequest,
    MetricsOfRun,
    ReadArtifactRequest,
)
from kfadapter_grpc.contract.errors import (
    AdapterError,
    ArtifactChangedError,
    ArtifactStoreUnavailableError,
    DrainingError,
)
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.runs import RunFilter

RESUMABLE = (ArtifactStoreUnavailableError, CannotConnectError, DrainingError)
_RETRIES = 3
"""The maximum number of retries without progress."""
_PAUSE_SECONDS = 0.5


class Artifacts(Resource):
    """The calls of ArtifactService (docs/reference/api/artifact.md)."""

    def list(
        self,
        run_id: str = "",
        *,
        where: RunFilter | None = None,
        task: str = "",
        type: str = "",  # noqa: A002 - the contract's name
        name: str = "",
        page_size: int = 0,
        on_warning: Callable[[str], None] | None = None,
    ) -> Pages[RunArtifact]:
        """Yields the artifacts of a run, or of all runs that match a filter, newest run first.

        Only outputs of a `task` (its name, its id in the run or its path), of a `type` (`system.Model`, or `Model`), or
        with a `name`. `on_warning` is called for each run of a filter that could not be read, with the reason.

        Raises:
            RunNotFoundError: The run does not exist.
            TaskNotFoundError: The task does not exist in the run.
            UnsupportedByKfpError: The outputs of the run are not available; the message has the reason.
        """
        selected = RunFilter() if run_id and where is None else self._with_namespace(where or RunFilter())
        request = ListArtifactsRequest(
            run_id=run_id, filter=selected, task=task, type=type, name=name, page_size=page_size
        )

        def warn(response: pb.ListArtifactsResponse) -> None:
            if on_warning is not None:
                for text in response.warnings:
                    on_warning(text)

        return self._list(request, RunArtifact, warn)

    def get(self, run_id: str, artifact_id: str) -> RunArtifact:
        """Gets an artifact of a run, an input or an output of its tasks.

        Raises:
            RunNotFoundError: The run does not exist.
            ArtifactNotFoundError: The artifact does not exist in the run.
        """
        return self._call(GetArtifactRequest(run_id, artifact_id), RunArtifact)

    def list_metrics(
        self, where: RunFilter | None = None, *, order_by: str = "", page_size: int = 0
    ) -> Pages[MetricsOfRun]:
        """Yields the scalar metrics of all runs that match a filter; `runs.metrics` returns them as a table.

        `order_by` is as in `runs.list`; a page has at most 100 runs.
        """
        here = self._with_namespace(where or RunFilter())
        return self._list(ListMetricsRequest(here, page_size=page_size, order_by=order_by), MetricsOfRun)

    def read(
        self,
        run_id: str,
        artifact_id: str,
        *,
        path: str = "",
        offset: int = 0,
        length: int = 0,
        on_content: Callable[[ArtifactContent], None] | None = None,
    ) -> Generator[bytes, None, None]:
        """Yields the bytes of an artifact, or of the file at `path` in a folder; those of a folder as a tar archive.

        `length` bytes from `offset` on; 0 means all. `on_content` is called before the first byte with name, size and,
        for a folder, its files.

        Raises:
            ArtifactNotFoundError: The artifact does not exist in the run, or nothing is stored at its location.
            ArtifactNotReadableError: The adapter cannot read its bytes.
            ArtifactStoreUnavailableError: The store is unreachable or failed; `offset` continues.
        """
        return self._each(self._bytes(ReadArtifactRequest(run_id, artifact_id, path, offset, length), on_content))

    async def _bytes(
        self, request: ReadArtifactRequest, on_content: Callable[[ArtifactContent], None] | None
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._parts(request)) as parts:
            async for part in parts:
                if isinstance(part, bytes):
                    yield part
                elif on_content is not None:
                    on_content(part)

    def download(
        self,
        run_id: str,
        artifact_id: str,
        *,
        to: str | os.PathLike[str] | BinaryIO = ".",
        path: str = "",
        force: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ArtifactReceipt:
        """Downloads an artifact: a file, or a folder with all its files, or the file at `path` in it.

        A file or folder appears once it is complete, and its size is compared with what the adapter announced. If the
        connection breaks, the download of a file is resumed, and that of a folder restarts.

        Args:
            run_id: The run.
            artifact_id: The artifact.
            to: A path; an existing directory, or a path that ends with a separator, gets a file or folder with the
                artifact's own name. A folder is unpacked, unless the path ends with `.tar`. A stream receives the bytes
                as they arrive, for a folder as a tar archive, and is not closed.
            path: A file of a folder.
            force: Replace files that exist.
            progress: Called with the number of bytes received and the total, which is None for a folder.

        Raises:
            FileExistsError: The file or folder exists, and `force` is not set.
            ArtifactNotFoundError: The artifact does not exist in the run, or nothing is stored at its location.
            ArtifactNotReadableError: The adapter cannot read its bytes.
            ArtifactChangedError: It changed while it was read, or the received bytes differ from what was announced.
            OSError: The file cannot be written.
        """
        return self._run(self._save(ReadArtifactRequest(run_id, artifact_id, path), to, force, progress))

    async def _save(
        self,
        request: ReadArtifactRequest,
        to: str | os.PathLike[str] | BinaryIO,
        force: bool,
        progress: Callable[[int, int | None], None] | None,
    ) -> ArtifactReceipt:
        if not isinstance(to, (str, os.PathLike)):
            async with aclosing(self._continued(request, progress)) as parts:
                content = cast("ArtifactContent", await anext(parts))
                size = sum([write_all(to, cast("bytes", chunk)) async for chunk in parts])
            return ArtifactReceipt(None, size, content)
        destination = Destination(to, force=force)

        async def receive() -> ArtifactReceipt:
            async with aclosing(self._continued(request, progress)) as parts:
                content = cast("ArtifactContent", await anext(parts))
                return await self._connection.in_thread(destination.save, content, parts)

        return await self._with_retries(receive, RESUMABLE, lambda: destination.is_folder)

    async def _continued(
        self, request: ReadArtifactRequest, progress: Callable[[int, int | None], None] | None
    ) -> AsyncGenerator[ArtifactContent | bytes, None]:
        """Yields the announcement, then all bytes; the read of a file is resumed if the connection breaks."""
        state = _ReadState(request, progress)
        while not state.is_complete:
            try:
                async with aclosing(self._parts(state.request)) as parts:
                    async for part in parts:
                        if state.accepts(part):
                            yield part
                state.end()
            except RESUMABLE as error:
                await self._connection.sleep(state.pause(error))

    async def _parts(self, request: ReadArtifactRequest) -> AsyncGenerator[ArtifactContent | bytes, None]:
        async with aclosing(self._connection.stream(request, None)) as messages:
            async for message in messages:
                is_chunk = message.WhichOneof("part") == "chunk"
                yield message.chunk if is_chunk else to_record(message.content, ArtifactContent)


class _ReadState:
    """The state of a read across its streams; `request` is for the rest."""

    def __init__(self, request: ReadArtifactRequest, progress: Callable[[int, int | None], None] | None) -> None:
        self.request = request
        self.is_complete = False
        self._progress = progress
        self._announced: ArtifactContent | None = None
        self._failures = 0

    def accepts(self, part: ArtifactContent | bytes) -> bool:
        """Whether the reader gets a part: a repeated announcement must be the same, and is dropped."""
        if isinstance(part, bytes):
            self.request = replace(self.request, offset=self.request.offset + len(part))
            self._failures = 0
            if self._progress is not None:
                self._progress(self.request.offset, self._announced.size if self._announced else None)
            return True
        is_first = self._announced is None
        if not is_first and part != self._announced:
            raise ArtifactChangedError("the artifact was changed while it was read; download it again")
        self._announced = part
        return is_first

    def pause(self, error: AdapterError) -> float:
        """Returns how many seconds to wait before the rest is read, or raises the error."""
        self._failures += 1
        if self._announced is None or self._announced.is_directory or self._failures > _RETRIES:
            raise error
        return min(error.retry_after or _PAUSE_SECONDS, MAX_PAUSE_SECONDS)

    def end(self) -> None:
        """Checks that all has arrived."""
        if self._announced is None:
            raise CallFailedError("the response is empty", status=StatusCode.UNKNOWN, request_id="", metadata={})
        received = self.request.offset
        if self._announced.size not in {None, received}:
            raise ArtifactChangedError(f"{received} bytes arrived instead of {self._announced.size}; download it again")
        self.is_complete = True
