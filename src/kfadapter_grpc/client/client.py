"""The client: one object for every call that an adapter answers, with typed results."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kfadapter.v1 import common_pb2, pipeline_pb2
from kfadapter_grpc.client import health as health_check
from kfadapter_grpc.client import messages, server_facts
from kfadapter_grpc.client.connection import Connection, new_request_id
from kfadapter_grpc.client.credentials import make_credentials
from kfadapter_grpc.client.download import DownloadReceipt, Reception, replaced
from kfadapter_grpc.client.errors import CannotConnectError
from kfadapter_grpc.client.experiments import ExperimentCalls
from kfadapter_grpc.client.recurring_runs import RecurringRunCalls
from kfadapter_grpc.client.upload import UploadMessages, UploadReceipt, measure
from kfadapter_grpc.client.watch import WatchCalls
from kfadapter_grpc.codec import to_page, to_record
from kfadapter_grpc.contract.errors import AdapterError, DrainingError, InvalidFieldError, KfpUnavailableError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import (
    DeleteResult,
    DeleteVersionResult,
    IfExists,
    Pipeline,
    PipelineVersion,
    UploadPipelineMetadata,
)
from kfadapter_grpc.methods import DOWNLOAD_SECONDS, download_seconds, upload_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from typing_extensions import Self

    from kfadapter_grpc.client.credentials import Tls
    from kfadapter_grpc.client.health import HealthStatus
    from kfadapter_grpc.contract.listing import Page

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where an adapter listens unless told otherwise."""
TARGET_VARIABLE = "KFADAPTER_TARGET"
"""The environment variable that names another address."""
UNKNOWN_SIZE_BYTES = 32 * 2**20
"""What a stream of unknown length is taken to hold when its deadline is set: KFP's own limit."""
_REPEATS = 2
_MAX_PAUSE_SECONDS = 2.0
_OUTCOME_UNKNOWN = (CannotConnectError, DrainingError, KfpUnavailableError)


class Client(WatchCalls, ExperimentCalls, RecurringRunCalls):
    """Calls an adapter. Safe to use from several threads; close it, or use it in a `with` statement.

    Nothing is sent before the first call. Every call has a deadline. Calls that only read are repeated by gRPC
    when the adapter is away for a moment.

    All methods raise a subclass of `AdapterError` when the call fails.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = None,
        namespace: str = "",
        tls: bool | Tls | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        insecure_token: bool | None = None,
    ) -> None:
        """Will call the adapter at `target`.

        Args:
            target: `host:port`; by default what `KFADAPTER_TARGET` says, or `127.0.0.1:50051`.
            timeout: Seconds that each call may take; by default what the contract says for each kind of call.
            namespace: The namespace of all calls; empty means the adapter's own.
            tls: `Tls(...)`, or True for TLS with what the environment says of it; False: plain text. By default TLS if
                `KFADAPTER_TLS`, `KFADAPTER_CA` or another of its variables is set.
            token: Who calls; by default what `KFADAPTER_TOKEN` says.
            token_file: A file that holds the token, read before each call; by default what
                `KFADAPTER_CLIENT_TOKEN_FILE` says.
            insecure_token: Send the token without TLS to another machine, too, where others can read it on its way; by
                default only if `KFADAPTER_INSECURE_TOKEN` says so.

        Raises:
            CredentialsError: The token cannot be used, or would go to another machine without TLS.
        """
        address = target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
        credentials = make_credentials(
            address, tls=tls, token=token, token_file=token_file, insecure_token=insecure_token
        )
        super().__init__(Connection(address, timeout, credentials), namespace)

    def on_behalf(self, *, request_id: str, authorization: Sequence[str] = (), seconds: float | None = None) -> Client:
        """Returns a client over the same channel for one request of another caller, as gateways need it.

        Args:
            request_id: Sent with every call, for the adapter's log.
            authorization: The caller's `authorization`; if empty, this client's own token is sent.
            seconds: How long all calls may take together; if unset, each takes what the contract says.

        Raises:
            CredentialsError: The authorization would go to another machine without TLS.
        """
        client = Client.__new__(Client)
        super(Client, client).__init__(self._connection.on_behalf(request_id, authorization, seconds), self._namespace)
        return client

    @property
    def target(self) -> str:
        """The adapter's address."""
        return self._connection.target

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted, and the adapter known by its certificate."""
        return self._connection.tls is not None

    def certificate_end(self) -> float:
        """Tells when the adapter's certificate ends, in seconds since 1970.

        Raises:
            OSError: It cannot be connected to, or one side does not accept the other's certificate.
            ValueError: There is no TLS, or the target is no HOST:PORT.
        """
        if self._connection.tls is None:
            message = "the connection has no TLS"
            raise ValueError(message)
        return server_facts.certificate_end(self.target, self._connection.tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that are under way end as cancelled. Harmless when repeated."""
        self._connection.close()

    def health(self, service: str = "") -> HealthStatus:
        """Asks whether the adapter serves; unless a timeout was set, it has three seconds to answer.

        Args:
            service: A service's full name (`kfadapter.v1.PipelineService`), or `kfp`: whether KFP answers the adapter.
                Empty means the adapter itself.

        Raises:
            CallFailedError: There is no such service; its `status` is NOT_FOUND.
        """
        return health_check.check(self._connection, service)

    def adapter_version(self) -> str:
        """Tells the adapter's version, by listing one pipeline; empty if it is older than such answers."""
        return server_facts.version(self._connection, self._namespace)

    def reflects(self) -> bool:
        """Tells whether the adapter describes its services to callers as grpcurl (reflection)."""
        return server_facts.reflects(self._connection)

    def get(self, name: str = "", *, pipeline_id: str = "", view: View = View.FULL) -> Pipeline:
        """Gets one pipeline by name or by id.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
        """
        request = pipeline_pb2.GetPipelineRequest(
            **_one_of(name, pipeline_id), view=common_pb2.View.Value(f"VIEW_{view.name}"), namespace=self._namespace
        )
        return to_record(self._connection.unary(self._connection.pipelines.Get, request), Pipeline)

    def list(
        self,
        *,
        name_contains: str = "",
        created_after: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        order_by: str = "",
        page_size: int = 0,
    ) -> Iterator[Pipeline]:
        """Yields all pipelines that match, asking for page after page as they are needed.

        Args:
            name_contains: Only pipelines whose name holds this text; letter case counts.
            created_after: Only pipelines made after this moment.
            tags: Only pipelines that have all of these tags.
            order_by: `created_at`, `name` or `pipeline_id`, with ` desc` for the other direction.
            page_size: How many to ask for at a time; 0 leaves it to the adapter.
        """
        token = ""
        while True:
            page = self.list_page(
                name_contains=name_contains,
                created_after=created_after,
                tags=tags,
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def list_page(
        self,
        *,
        name_contains: str = "",
        created_after: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Pipeline]:
        """Gets one page of pipelines; the arguments are those of `list`, the token is the page before's."""
        request = pipeline_pb2.ListPipelinesRequest(
            page_size=page_size,
            page_token=page_token,
            order_by=order_by,
            name_contains=name_contains,
            created_after=messages.timestamp(created_after),
            tags=tags,
            namespace=self._namespace,
        )
        return to_page(self._connection.unary(self._connection.pipelines.List, request), Pipeline)

    def list_versions(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        view: View = View.BASIC,
        order_by: str = "",
        page_size: int = 0,
    ) -> Iterator[PipelineVersion]:
        """Yields all versions of a pipeline, asking for page after page as they are needed.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            view: `View.FULL` reads every version's spec, which is slow for long lists.
            order_by: `created_at`, `name` or `pipeline_version_id`, with ` desc` for the other direction.
            page_size: How many to ask for at a time; 0 leaves it to the adapter.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
        """
        token = ""
        while True:
            page = self.list_versions_page(
                name, pipeline_id=pipeline_id, view=view, order_by=order_by, page_size=page_size, page_token=token
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def list_versions_page(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        view: View = View.BASIC,
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[PipelineVersion]:
        """Gets one page of versions; the arguments are those of `list_versions`, the token is the page before's."""
        request = pipeline_pb2.ListPipelineVersionsRequest(
            **_one_of(name, pipeline_id),
            page_size=page_size,
            page_token=page_token,
            order_by=order_by,
            view=common_pb2.View.Value(f"VIEW_{view.name}"),
            namespace=self._namespace,
        )
        rpc = self._connection.pipelines.ListVersions
        return to_page(self._connection.unary(rpc, request), PipelineVersion)

    def get_version(
        self, name: str = "", *, pipeline_id: str = "", version_name: str = "", pipeline_version_id: str = ""
    ) -> PipelineVersion:
        """Gets one version of a pipeline with its spec summary: the latest, unless one is named.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
        """
        request = pipeline_pb2.GetPipelineVersionRequest(
            **_one_of(name, pipeline_id),
            **_one_version_of(version_name, pipeline_version_id),
            namespace=self._namespace,
        )
        rpc = self._connection.pipelines.GetVersion
        return to_record(self._connection.unary(rpc, request), PipelineVersion)

    def delete_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        allow_missing: bool = False,
    ) -> DeleteVersionResult:
        """Deletes one version of a pipeline, which must be named.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.
            allow_missing: Succeed, with an empty result, where there is no such version or no such pipeline.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version.
            InvalidFieldError: No version is named.
        """
        request = pipeline_pb2.DeletePipelineVersionRequest(
            **_one_of(name, pipeline_id),
            **_one_version_of(version_name, pipeline_version_id),
            allow_missing=allow_missing,
            namespace=self._namespace,
        )
        rpc = self._connection.pipelines.DeleteVersion
        return to_record(self._connection.unary(rpc, request), DeleteVersionResult)

    def delete(
        self, name: str = "", *, pipeline_id: str = "", force: bool = False, allow_missing: bool = False
    ) -> DeleteResult:
        """Deletes a pipeline and its versions.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            force: Delete it even if it has more than one version.
            allow_missing: Succeed, with an empty result, where there is no such pipeline.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            PipelineHasVersionsError: It has more than one version, and `force` is not set.
        """
        request = pipeline_pb2.DeletePipelineRequest(
            **_one_of(name, pipeline_id), force=force, allow_missing=allow_missing, namespace=self._namespace
        )
        return to_record(self._connection.unary(self._connection.pipelines.Delete, request), DeleteResult)

    def upload(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        name: str,
        version_name: str = "",
        description: str = "",
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        code_source_url: str = "",
        if_exists: IfExists = IfExists.NEW_VERSION,
        request_id: str = "",
        progress: Callable[[int, int | None], None] | None = None,
    ) -> UploadReceipt:
        """Uploads a compiled pipeline: YAML, JSON, or a zip or tar.gz archive that holds one.

        Of a file, size and checksum are announced beforehand, and the upload is repeated, at most twice and with the
        same request id, when the adapter or KFP goes away in between. Of a stream nothing is known beforehand, and
        it cannot be read twice.

        Args:
            source: A path, or a stream of bytes; the stream is read to its end and not closed.
            name: The pipeline's name, up to 128 characters.
            version_name: The version's name; by default the adapter numbers the versions.
            description: What the version, and the pipeline if it is new, is for.
            display_name: What people see; by default the name.
            tags: At most 18 tags.
            code_source_url: Where the source code lives.
            if_exists: What to do if the pipeline exists.
            request_id: Under which the upload may be repeated; by default a new one.
            progress: Is called with the bytes sent so far and the total, which is None for a stream. It runs in
                another thread, and an exception that it raises ends the upload.

        Raises:
            OSError: The file cannot be read.
            InvalidPipelineFileError: The file is not a pipeline.
            PipelineExistsError: The pipeline exists, and `if_exists` is FAIL.
            VersionExistsError: The given version name is taken.
        """
        request = UploadPipelineMetadata(
            name=name,
            version_name=version_name,
            description=description,
            display_name=display_name,
            namespace=self._namespace,
            tags=tags or {},
            code_source_url=code_source_url,
            if_exists=if_exists,
            request_id=request_id or new_request_id(),
        )
        metadata = messages.upload_metadata(request)
        if isinstance(source, (str, os.PathLike)):
            reply = self._upload_path(Path(source), metadata, progress)
        else:
            stream = UploadMessages(metadata, source, progress)
            try:
                reply = self._send(stream, UNKNOWN_SIZE_BYTES)
            finally:
                stream.stop()
        return messages.upload_receipt(reply, metadata.request_id)

    def download(
        self,
        name: str = "",
        *,
        to: str | os.PathLike[str] | BinaryIO,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        progress: Callable[[int, int | None], None] | None = None,
    ) -> DownloadReceipt:
        """Downloads the file of a version, the latest unless one is named, as KFP holds it: as JSON.

        The file holds the pipeline that was uploaded, not its bytes, and can be uploaded as it is. Size and checksum
        are compared with what the adapter announced. The download is begun anew, at most twice, when the adapter goes
        away before any bytes arrived.

        Args:
            name: The pipeline's name.
            to: A path, where the file appears once it is complete, in place of one that is there; or a stream, which is
                written to as the bytes come, and not closed.
            pipeline_id: The pipeline's id, instead of its name.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.
            progress: Is called with the bytes received so far and the total.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
            ChecksumMismatchError: What arrived is not what was announced.
            OSError: The file cannot be written.
        """
        request = pipeline_pb2.DownloadPipelineRequest(
            **_one_of(name, pipeline_id),
            **_one_version_of(version_name, pipeline_version_id),
            namespace=self._namespace,
        )
        if isinstance(to, (str, os.PathLike)):
            with replaced(Path(to)) as file:
                return self._receive(request, Reception(file, progress), _REPEATS)
        return self._receive(request, Reception(to, progress), _REPEATS)

    def _receive(
        self, request: pipeline_pb2.DownloadPipelineRequest, reception: Reception, repeats: int
    ) -> DownloadReceipt:
        seconds = DOWNLOAD_SECONDS + download_seconds(UNKNOWN_SIZE_BYTES)
        with closing(self._connection.server_stream(self._connection.pipelines.Download, request, seconds)) as stream:
            try:
                return reception.take(stream)
            except (CannotConnectError, DrainingError) as error:
                if reception.begun or repeats == 0:
                    raise
                time.sleep(min(error.retry_after or 0.0, _MAX_PAUSE_SECONDS))
        return self._receive(request, reception, repeats - 1)

    def _upload_path(
        self,
        path: Path,
        metadata: pipeline_pb2.UploadPipelineMetadata,
        progress: Callable[[int, int | None], None] | None,
    ) -> pipeline_pb2.UploadPipelineResponse:
        metadata.total_bytes, metadata.sha256 = measure(path)
        return self._repeat(path, metadata, progress, _REPEATS)

    def _repeat(
        self,
        path: Path,
        metadata: pipeline_pb2.UploadPipelineMetadata,
        progress: Callable[[int, int | None], None] | None,
        repeats: int,
    ) -> pipeline_pb2.UploadPipelineResponse:
        try:
            return self._attempt(path, metadata, progress)
        except _OUTCOME_UNKNOWN as error:
            if repeats == 0:
                raise
            time.sleep(min(error.retry_after or 0.0, _MAX_PAUSE_SECONDS))
        return self._repeat(path, metadata, progress, repeats - 1)

    def _attempt(
        self,
        path: Path,
        metadata: pipeline_pb2.UploadPipelineMetadata,
        progress: Callable[[int, int | None], None] | None,
    ) -> pipeline_pb2.UploadPipelineResponse:
        with path.open("rb", buffering=0) as file:
            stream = UploadMessages(metadata, file, progress)
            try:
                return self._send(stream, metadata.total_bytes)
            finally:
                stream.stop_and_wait()

    def _send(self, stream: UploadMessages, size: int) -> pipeline_pb2.UploadPipelineResponse:
        try:
            return self._connection.client_stream(self._connection.pipelines.Upload, stream, upload_seconds(size))
        except AdapterError as error:
            if stream.failure is not None:
                raise stream.failure from error
            raise


def _one_of(name: str, pipeline_id: str) -> dict[str, str]:
    """Fills the oneof of a request.

    Raises:
        InvalidFieldError: Both are given, of which the wire could hold only one; neither, the adapter refuses.
    """
    if name and pipeline_id:
        raise InvalidFieldError.of("pipeline", "give either a name or an id, not both")
    return {"pipeline_id": pipeline_id} if pipeline_id else {"name": name}


def _one_version_of(version_name: str, pipeline_version_id: str) -> dict[str, str]:
    """Fills the oneof of a request about a version; with neither, it stays unset.

    Raises:
        InvalidFieldError: Both are given, of which the wire could hold only one.
    """
    if version_name and pipeline_version_id:
        raise InvalidFieldError.of("version", "give either a version's name or its id, not both")
    given = {"version_name": version_name, "pipeline_version_id": pipeline_version_id}
    return {key: value for key, value in given.items() if value}
