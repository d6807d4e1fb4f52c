"""What the services ask of whoever keeps the pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kfadapter_grpc.domain.call import Call
    from kfadapter_grpc.domain.models import (
        DeleteResult,
        DeleteVersionResult,
        Page,
        PageRequest,
        Pipeline,
        PipelineDownload,
        PipelineFile,
        PipelineFilter,
        PipelineRef,
        PipelineVersion,
        UploadRequest,
        UploadResult,
        VersionRef,
        View,
    )


class PipelineRepository(Protocol):
    """Keeps pipelines and their versions.

    Every method raises a subclass of `AdapterError` when it fails, and ends when the call's deadline has passed
    or the caller has gone.
    """

    def get(self, ref: PipelineRef, view: View, call: Call) -> Pipeline:
        """Gets one pipeline."""
        ...

    def list(self, where: PipelineFilter, page: PageRequest, call: Call) -> Page[Pipeline]:
        """Lists pipelines."""
        ...

    def upload(self, request: UploadRequest, file: PipelineFile, call: Call) -> UploadResult:
        """Stores a file as a new pipeline or a new version."""
        ...

    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> AbstractContextManager[PipelineDownload]:
        """Gets the file of a version, the latest where none is named; it is good for the block."""
        ...

    def delete(self, ref: PipelineRef, call: Call, *, force: bool, allow_missing: bool) -> DeleteResult:
        """Deletes a pipeline with its versions."""
        ...

    def get_version(self, ref: PipelineRef, version: VersionRef, call: Call) -> PipelineVersion:
        """Gets one version with its spec summary; the latest where none is named."""
        ...

    def delete_version(
        self, ref: PipelineRef, version: VersionRef, call: Call, *, allow_missing: bool
    ) -> DeleteVersionResult:
        """Deletes one version, which must be named."""
        ...

    def list_versions(self, ref: PipelineRef, view: View, page: PageRequest, call: Call) -> Page[PipelineVersion]:
        """Lists the versions of a pipeline."""
        ...
