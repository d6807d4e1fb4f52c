"""The types of AsyncClient, made by scripts/async_types.py from those of Client."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import BinaryIO, TypeVar

from typing_extensions import Self, Unpack

from kfadapter_grpc.client.credentials import Tls
from kfadapter_grpc.client.download import ArtifactReceipt, DownloadReceipt
from kfadapter_grpc.client.health import HealthStatus
from kfadapter_grpc.client.metrics import Rows
from kfadapter_grpc.client.runs import RunsWhere
from kfadapter_grpc.client.upload import UploadReceipt
from kfadapter_grpc.contract.artifacts import ArtifactContent, MetricsOfRun
from kfadapter_grpc.contract.experiments import Experiment
from kfadapter_grpc.contract.identity import WhoAmI
from kfadapter_grpc.contract.listing import Page, View
from kfadapter_grpc.contract.pipelines import DeleteResult, DeleteVersionResult, IfExists, Pipeline, PipelineVersion
from kfadapter_grpc.contract.recurring_runs import RecurringRun, Schedule
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.runs import Run, RunFilter
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.contract.watches import RunEvent

R = TypeVar("R")

class AsyncPages(AsyncIterator[R]):
    async def __anext__(self) -> R: ...
    async def page(self, token: str = "") -> Page[R]: ...

class AsyncClient:
    pipelines: AsyncPipelines
    runs: AsyncRuns
    artifacts: AsyncArtifacts
    experiments: AsyncExperiments
    recurring_runs: AsyncRecurringRuns
    identity: AsyncIdentityCalls
    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = None,
        namespace: str = "",
        tls: bool | Tls | None = None,
        token: str | Callable[[], str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        insecure_token: bool | None = None,
    ) -> None: ...
    @property
    def target(self) -> str: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def close(self) -> None: ...
    async def health(self, service: str = "") -> HealthStatus: ...

class AsyncPipelines:
    async def get(self, name: str = "", *, pipeline_id: str = "", view: View = View.FULL) -> Pipeline: ...
    def list(
        self,
        *,
        name_contains: str = "",
        created_after: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        order_by: str = "",
        page_size: int = 0,
    ) -> AsyncPages[Pipeline]: ...
    def list_versions(
        self, name: str = "", *, pipeline_id: str = "", view: View = View.BASIC, order_by: str = "", page_size: int = 0
    ) -> AsyncPages[PipelineVersion]: ...
    async def get_version(
        self, name: str = "", *, pipeline_id: str = "", version_name: str = "", pipeline_version_id: str = ""
    ) -> PipelineVersion: ...
    async def try_version_of(self, run: Run) -> PipelineVersion | None: ...
    async def update(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Pipeline: ...
    async def update_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> PipelineVersion: ...
    async def delete_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        allow_missing: bool = False,
    ) -> DeleteVersionResult: ...
    async def delete(
        self, name: str = "", *, pipeline_id: str = "", force: bool = False, allow_missing: bool = False
    ) -> DeleteResult: ...
    async def upload(
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
    ) -> UploadReceipt: ...
    async def download(
        self,
        name: str = "",
        *,
        to: str | os.PathLike[str] | BinaryIO,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        progress: Callable[[int, int | None], None] | None = None,
    ) -> DownloadReceipt: ...

class AsyncRuns:
    async def create(
        self,
        pipeline_name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        experiment_name: str = "",
        experiment_id: str = "",
        create_experiment: bool = False,
        parameters: Mapping[str, Json] | None = None,
        display_name: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        validate_only: bool = False,
        caching: bool = True,
        service_account: str = "",
    ) -> Run: ...
    def id_for(self, request_id: str, *, namespace: str = "") -> str: ...
    async def get(self, run_id: str, *, view: View = View.FULL) -> Run: ...
    def list(self, *, order_by: str = "", page_size: int = 0, **where: Unpack[RunsWhere]) -> AsyncPages[Run]: ...
    async def metrics(
        self,
        *,
        parameters: Iterable[str] = (),
        order_by: str = "",
        limit: int = 0,
        on_warning: Callable[[str], None] | None = None,
        **where: Unpack[RunsWhere],
    ) -> Rows: ...
    async def terminate(self, run_id: str, *, wait: float = 0) -> Run: ...
    async def retry(self, run_id: str) -> Run: ...
    async def archive(self, run_id: str) -> Run: ...
    async def unarchive(self, run_id: str) -> Run: ...
    async def delete(self, run_id: str, *, allow_missing: bool = False) -> bool: ...
    def watch(
        self,
        run_ids: str | Iterable[str] = (),
        *,
        where: RunFilter | None = None,
        tasks: bool = False,
        known_etags: Mapping[str, str] | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> AsyncGenerator[RunEvent, None]: ...
    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run: ...
    def read_logs(
        self,
        run_id: str,
        task: str,
        *,
        follow: bool = False,
        attempt: int = 0,
        iteration_index: int | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> AsyncIterator[bytes]: ...

class AsyncArtifacts:
    def list(
        self,
        run_id: str = "",
        *,
        where: RunFilter | None = None,
        task: str = "",
        type: str = "",
        name: str = "",
        page_size: int = 0,
        on_warning: Callable[[str], None] | None = None,
    ) -> AsyncPages[RunArtifact]: ...
    async def get(self, run_id: str, artifact_id: str) -> RunArtifact: ...
    def list_metrics(
        self, where: RunFilter | None = None, *, order_by: str = "", page_size: int = 0
    ) -> AsyncPages[MetricsOfRun]: ...
    def read(
        self,
        run_id: str,
        artifact_id: str,
        *,
        path: str = "",
        offset: int = 0,
        length: int = 0,
        on_content: Callable[[ArtifactContent], None] | None = None,
    ) -> AsyncGenerator[bytes, None]: ...
    async def download(
        self,
        run_id: str,
        artifact_id: str,
        *,
        to: str | os.PathLike[str] | BinaryIO = ".",
        path: str = "",
        force: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ArtifactReceipt: ...

class AsyncExperiments:
    async def create(self, name: str, *, description: str = "", allow_existing: bool = False) -> Experiment: ...
    async def get(self, name: str = "", *, experiment_id: str = "") -> Experiment: ...
    def list(
        self, *, name_contains: str = "", archived: bool = False, order_by: str = "", page_size: int = 0
    ) -> AsyncPages[Experiment]: ...
    async def archive(self, experiment_id: str) -> Experiment: ...
    async def unarchive(self, experiment_id: str) -> Experiment: ...
    async def delete(self, experiment_id: str, *, allow_missing: bool = False) -> bool: ...

class AsyncRecurringRuns:
    async def create(
        self,
        pipeline_name: str = "",
        *,
        schedule: Schedule,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        experiment_name: str = "",
        experiment_id: str = "",
        parameters: Mapping[str, Json] | None = None,
        display_name: str = "",
        description: str = "",
        max_concurrency: int = 1,
        catch_up: bool = False,
        enabled: bool = True,
        service_account: str = "",
    ) -> RecurringRun: ...
    async def get(self, recurring_run_id: str) -> RecurringRun: ...
    def list(
        self, *, experiment_name: str = "", experiment_id: str = "", order_by: str = "", page_size: int = 0
    ) -> AsyncPages[RecurringRun]: ...
    async def enable(self, recurring_run_id: str) -> RecurringRun: ...
    async def disable(self, recurring_run_id: str) -> RecurringRun: ...
    async def delete(self, recurring_run_id: str, *, allow_missing: bool = False) -> bool: ...

class AsyncIdentityCalls:
    async def who_am_i(self) -> WhoAmI: ...
