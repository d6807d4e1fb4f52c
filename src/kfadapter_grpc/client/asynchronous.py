"""The client for asyncio, over grpc.aio: the resources of `Client`, whose calls are awaited.

All public calls are those of `Client`: their requests are made there, and they return what the few methods below make
of them, awaitables. So types differ from those that are declared; what callers see is in `aio.pyi`, made from the
declarations by scripts/async_types.py.
"""

# mypy: disable-error-code="override,misc,arg-type,return-value,assignment,no-any-return"

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.client import artifacts, experiments, identity, pipelines, recurring_runs, runs
from kfadapter_grpc.client.artifact_files import ArtifactReceipt, Destination
from kfadapter_grpc.client.async_connection import AsyncConnection
from kfadapter_grpc.client.client import address_of
from kfadapter_grpc.client.connection import (
    MARGIN_SECONDS,
    MAX_PAUSE_SECONDS,
    OUTCOME_UNKNOWN,
    REPEATS,
)
from kfadapter_grpc.client.credentials import make_credentials
from kfadapter_grpc.client.download import DownloadReceipt, Reception, replaced, write_all
from kfadapter_grpc.client.errors import CannotConnectError, DeadlineError
from kfadapter_grpc.client.health import HEALTH_SECONDS, status_of
from kfadapter_grpc.client.upload import UploadMessages, UploadReceipt, measure
from kfadapter_grpc.client.watch import PASSING, Waiting, Watching
from kfadapter_grpc.codec import to_message, to_record
from kfadapter_grpc.contract.errors import (
    AdapterError,
    DrainingError,
    PipelineNotFoundError,
    VersionNotFoundError,
)
from kfadapter_grpc.contract.watches import WatchRunsRequest
from kfadapter_grpc.methods import METHOD_OF_REQUEST, upload_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType

    from typing_extensions import Self

    from kfadapter_grpc.client.health import HealthStatus
    from kfadapter_grpc.client.metrics import Rows
    from kfadapter_grpc.contract.artifacts import ArtifactContent, MetricsOfRun, ReadArtifactRequest
    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.pipelines import DownloadPipelineRequest, PipelineVersion, UploadPipelineMetadata
    from kfadapter_grpc.contract.runs import ReadLogsRequest, Run
    from kfadapter_grpc.contract.watches import RunEvent, RunIds

    Progress = Callable[[int, int | None], None] | None

R = TypeVar("R")


class AsyncPages(AsyncIterator[R]):
    """A listing: yields all items, requesting pages as they are needed."""

    def __init__(self, read: Callable[[str], Awaitable[Page[R]]]) -> None:
        self._read = read
        self._items = self._all()

    async def __anext__(self) -> R:
        return await anext(self._items)

    async def page(self, token: str = "") -> Page[R]:
        """Requests one page: the first, or that of the previous page's `next_token`."""
        return await self._read(token)

    async def _all(self) -> AsyncIterator[R]:
        page = await self._read("")
        while True:
            for item in page.items:
                yield item
            if not page.next_token:
                return
            page = await self._read(page.next_token)


class _Resource:
    """Stands before a resource of the other client: its calls are awaited, all else is the same."""

    _connection: AsyncConnection
    _pages = AsyncPages

    async def _read(self, request: object, read: Callable[[Any], R], seconds: float | None = None) -> R:
        return read(await self._connection.unary(self._here(request), seconds))  # type: ignore[attr-defined]

    async def _repeated(
        self,
        call: Callable[[], Awaitable[R]],
        errors: tuple[type[AdapterError], ...] = OUTCOME_UNKNOWN,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> R:
        for _ in range(REPEATS):
            try:
                return await call()
            except errors as error:
                if not can_repeat():
                    raise
                await asyncio.sleep(min(error.retry_after or 0.0, MAX_PAUSE_SECONDS))
        return await call()


class _Pipelines(_Resource, pipelines.Pipelines):
    async def try_version_of(self, run: Run) -> PipelineVersion | None:
        if run.pipeline_id and run.pipeline_version_id:
            with suppress(PipelineNotFoundError, VersionNotFoundError):
                wanted = {"pipeline_id": run.pipeline_id, "pipeline_version_id": run.pipeline_version_id}
                return await self.get_version(**wanted)
        return None

    async def _store(
        self, source: Path | BinaryIO, request: UploadPipelineMetadata, progress: Progress
    ) -> UploadReceipt:
        if not isinstance(source, (str, os.PathLike)):
            return await self._sent(request, source, progress)
        path = Path(source)
        size, sha256 = await asyncio.to_thread(measure, path)
        announced = replace(request, total_bytes=size, sha256=sha256)

        async def attempt() -> UploadReceipt:
            with path.open("rb", buffering=0) as file:
                return await self._sent(announced, file, progress)

        return await self._repeated(attempt)

    async def _sent(self, request: UploadPipelineMetadata, source: BinaryIO, progress: Progress) -> UploadReceipt:
        stream = UploadMessages(to_message(request, pipeline_pb2.UploadPipelineMetadata), source, progress)
        rpc = METHOD_OF_REQUEST[pipeline_pb2.UploadPipelineRequest.DESCRIPTOR.name]
        seconds = upload_seconds(request.total_bytes or pipelines.UNKNOWN_SIZE_BYTES)
        try:
            reply = await self._connection.call(self._connection.rpc_of(rpc), stream, seconds + MARGIN_SECONDS)
        except (AdapterError, asyncio.CancelledError):
            if stream.failure is not None:
                raise stream.failure from None
            raise
        finally:
            stream.stop()
        return replace(to_record(reply, UploadReceipt), request_id=stream.request_id)

    async def _receive(
        self, request: DownloadPipelineRequest, to: Path | BinaryIO, progress: Progress
    ) -> DownloadReceipt:
        if isinstance(to, (str, os.PathLike)):
            with replaced(Path(to)) as file:
                return await self._receive(request, file, progress)
        reception = Reception(to, progress)

        async def receive() -> DownloadReceipt:
            seconds = self._connection.within(pipelines.DOWNLOAD_STREAM_SECONDS + MARGIN_SECONDS)
            async with aclosing(self._connection.stream(request, seconds)) as messages:
                async for message in messages:
                    reception.take(message)
            return reception.receipt()

        return await self._repeated(receive, (CannotConnectError, DrainingError), lambda: not reception.begun)


class _Runs(_Resource, runs.Runs):
    async def _collected(
        self, found: AsyncPages[MetricsOfRun], limit: int | None, rows: Callable[[list[MetricsOfRun]], Rows]
    ) -> Rows:
        read: list[MetricsOfRun] = []
        async for one in found:
            read.append(one)
            if len(read) == limit:
                break
        return rows(read)

    async def _events(
        self, request: WatchRunsRequest, on_connection: Callable[[bool], None] | None, end: float | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        watching = Watching(request, end, on_connection)
        while wanted := watching.next_request():
            stream = self._connection.stream(wanted, watching.seconds_left(), watching.was_open)
            try:
                async with aclosing(stream) as messages:
                    async for message in messages:
                        event = watching.event(message)
                        if event is not None:
                            yield event
            except PASSING as error:
                await asyncio.sleep(watching.pause(error))
            else:
                return

    async def _wait(self, which: RunIds, timeout: float | None) -> Run:
        waiting = Waiting(which, timeout)
        try:
            async with aclosing(self._events(WatchRunsRequest(which), None, waiting.end)) as events:
                async for event in events:
                    if waiting.has_ended(event):
                        break
        except DeadlineError as error:
            raise waiting.too_late(error) from error
        return waiting.result()

    async def _log(
        self, request: ReadLogsRequest, on_note: Callable[[str], None] | None
    ) -> AsyncGenerator[bytes, None]:
        seconds = runs.log_seconds(request)
        within = None if seconds is None else self._connection.within(seconds + MARGIN_SECONDS)
        async with aclosing(self._connection.stream(request, within)) as messages:
            async for message in messages:
                if message.chunk:
                    yield message.chunk
                if message.note and on_note is not None:
                    on_note(message.note)


class _Artifacts(_Resource, artifacts.Artifacts):
    async def _bytes(
        self, request: ReadArtifactRequest, on_content: Callable[[ArtifactContent], None] | None
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._parts(request)) as parts:
            async for part in parts:
                if isinstance(part, bytes):
                    yield part
                elif on_content is not None:
                    on_content(part)

    async def _save(
        self,
        request: ReadArtifactRequest,
        to: Path | BinaryIO,
        force: bool,
        progress: Progress,
    ) -> ArtifactReceipt:
        if not isinstance(to, (str, os.PathLike)):
            async with aclosing(self._continued(request, progress)) as parts:
                content = cast("ArtifactContent", await anext(parts))
                size = sum([write_all(to, cast("bytes", chunk)) async for chunk in parts])
            return ArtifactReceipt(None, size, content)
        destination = Destination(to, force=force)
        loop = asyncio.get_running_loop()

        async def receive() -> ArtifactReceipt:
            async with aclosing(self._continued(request, progress)) as parts:
                content = cast("ArtifactContent", await anext(parts))

                def chunks() -> Iterator[bytes]:  # in a thread, which writes, and unpacks folders
                    while (chunk := asyncio.run_coroutine_threadsafe(anext(parts, None), loop).result()) is not None:
                        yield cast("bytes", chunk)

                return await asyncio.to_thread(destination.save, content, chunks())

        return await self._repeated(receive, artifacts.BROKEN, lambda: destination.is_folder)

    async def _continued(
        self, request: ReadArtifactRequest, progress: Progress
    ) -> AsyncGenerator[ArtifactContent | bytes, None]:
        reading = artifacts.Reading(request, progress)
        while not reading.is_complete:
            try:
                async with aclosing(self._parts(reading.request)) as parts:
                    async for part in parts:
                        if reading.takes(part):
                            yield part
                reading.end()
            except artifacts.BROKEN as error:
                await asyncio.sleep(reading.pause(error))

    async def _parts(self, request: ReadArtifactRequest) -> AsyncGenerator[ArtifactContent | bytes, None]:
        async with aclosing(self._connection.stream(request, None)) as messages:
            async for message in messages:
                yield artifacts.part_of(message)


class _Experiments(_Resource, experiments.Experiments):
    pass


class _RecurringRuns(_Resource, recurring_runs.RecurringRuns):
    pass


class _Identity(_Resource, identity.IdentityCalls):
    pass


class AsyncClient:
    """Calls an adapter; for one event loop. Use it in an `async with` statement, or close it.

    It takes the arguments of `Client` and has its resources, with the same calls and errors. What `Client` returns is
    awaited here; listings, watches, logs and bytes are read with `async for`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = None,
        namespace: str = "",
        **credentials: Any,  # noqa: ANN401 - those of `Client`
    ) -> None:
        defaults = dict.fromkeys(("tls", "token", "token_file", "insecure_token"))
        address = address_of(target)
        self._connection = AsyncConnection(address, timeout, make_credentials(address, **(defaults | credentials)))
        self.pipelines = _Pipelines(self._connection, namespace)
        self.runs = _Runs(self._connection, namespace)
        self.artifacts = _Artifacts(self._connection, namespace)
        self.experiments = _Experiments(self._connection, namespace)
        self.recurring_runs = _RecurringRuns(self._connection, namespace)
        self.identity = _Identity(self._connection, namespace)

    @property
    def target(self) -> str:
        """The adapter's address."""
        return self._connection.target

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled. Idempotent."""
        await self._connection.close()

    async def health(self, service: str = "") -> HealthStatus:
        """Checks the adapter's health, as `Client.health`."""
        async with self._connection.channel_to_any() as channel:
            rpc = health_pb2_grpc.HealthStub(channel).Check
            reply = await self._connection.call(rpc, health_pb2.HealthCheckRequest(service=service), HEALTH_SECONDS)
        return status_of(reply)
