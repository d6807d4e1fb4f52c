"""Pipelines and versions, kept by KFP."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import Page, View
from kfadapter_grpc.contract.pipelines import (
    DeleteResult,
    DeleteVersionResult,
    Pipeline,
    PipelineRef,
    PipelineVersion,
    VersionRef,
)
from kfadapter_grpc.kfp.downloads import Downloader
from kfadapter_grpc.kfp.gateway import MAX_FULL_PAGE, Gateway, context_of, context_of_version, no_version_yet
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, equals, explained, gather
from kfadapter_grpc.kfp.spec import summary_weight
from kfadapter_grpc.kfp.uploads import Uploader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import Order, PageRequest
    from kfadapter_grpc.contract.pipelines import (
        ListPipelinesRequest,
        PipelineDownload,
        PipelineFile,
        UploadPipelineMetadata,
        UploadResult,
    )
    from kfadapter_grpc.spool import SpoolPlace

_SORT_KEYS = {"created_at": "created_at", "name": "name", "pipeline_id": "id", "pipeline_version_id": "id"}
_LATEST_ATTEMPTS = 3
"""How often the latest version is read anew when somebody deletes it between finding and getting it."""


class KfpPipelineRepository:
    """The `PipelineRepository` before KFP. Safe to use from many threads."""

    def __init__(self, gateway: Gateway, place: SpoolPlace) -> None:
        """Asks KFP through `gateway`, and keeps what is on its way in `place`."""
        self._gateway = gateway
        self._api = gateway.api
        self._uploader = Uploader(gateway)
        self._downloader = Downloader(gateway, place)

    def get(self, ref: PipelineRef, view: View, call: Call) -> Pipeline:
        """Gets one pipeline; FULL costs two further calls."""
        pipeline = self._gateway.find(ref, call).to_domain()
        if view is View.BASIC:
            return pipeline
        latest, count = self._get_latest(pipeline.pipeline_id, call)
        return replace(pipeline, latest_version=latest, version_count=count)

    def list(self, where: ListPipelinesRequest, page: PageRequest, call: Call) -> Page[Pipeline]:
        """Lists pipelines; the filters are KFP's, and what its LIKE lets through is compared exactly afterwards."""
        predicates = tuple(_predicates(where))

        def fetch(size: int, token: str) -> KfpPage[Pipeline]:
            with explained():
                query = ListQuery(size, token, _sort(page.order), predicates)
                found = self._api.list_pipelines(query, where.namespace, call)
            items = [item.to_domain() for item in found.pipelines]
            matching = [item for item in items if where.name_contains in item.name]
            return KfpPage(matching, found.next_page_token, found.total_size)

        result = gather(fetch, _pipeline_weight, page.size, page.token)
        return replace(result, total_size=None) if where.name_contains else result

    def upload(self, request: UploadPipelineMetadata, file: PipelineFile, call: Call) -> UploadResult:
        """Stores a file as a new pipeline or a new version."""
        return self._uploader.upload(request, file, call)

    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> AbstractContextManager[PipelineDownload]:
        """Gets the file of a version, the latest where none is named; good for the block."""
        return self._downloader.download(ref, version, call)

    def get_version(self, ref: PipelineRef, version: VersionRef, call: Call) -> PipelineVersion:
        """Gets one version with its spec summary; the latest where none is named."""
        pipeline_id = ref.pipeline_id or self._gateway.find(ref, call).pipeline_id
        if version.pipeline_version_id or version.name:
            version_id = self._gateway.find_version(pipeline_id, version, call).pipeline_version_id
            return self._get_summarized(pipeline_id, version_id, call)
        latest, _ = self._get_latest(pipeline_id, call)
        if latest is None:
            raise no_version_yet(pipeline_id, ref)
        return latest

    def _get_latest(self, pipeline_id: str, call: Call) -> tuple[PipelineVersion | None, int]:
        """Gets the latest version with its spec summary, if there is one, and tells how many versions there are."""
        for attempt in range(1, _LATEST_ATTEMPTS + 1):
            latest, count = self._gateway.latest_version(pipeline_id, call)
            if latest is None:
                break
            try:
                return self._get_summarized(pipeline_id, latest.pipeline_version_id, call), count
            except errors.VersionNotFoundError:
                if attempt == _LATEST_ATTEMPTS:
                    raise
        return None, 0

    def _get_summarized(self, pipeline_id: str, version_id: str, call: Call) -> PipelineVersion:
        with explained(context_of_version(pipeline_id, VersionRef(version_id))):
            return self._api.get_version(pipeline_id, version_id, call).summarized()

    def delete_version(
        self, ref: PipelineRef, version: VersionRef, call: Call, *, allow_missing: bool
    ) -> DeleteVersionResult:
        """Deletes one version; after a broken answer, looks whether it is gone."""
        try:
            pipeline_id = ref.pipeline_id or self._gateway.find(ref, call).pipeline_id
            found = self._gateway.find_version(pipeline_id, version, call).to_domain()
            self._delete_version(found, call)
        except (errors.PipelineNotFoundError, errors.VersionNotFoundError):
            if allow_missing:
                return DeleteVersionResult()
            raise
        return DeleteVersionResult(found.pipeline_version_id, found.name)

    def _delete_version(self, version: PipelineVersion, call: Call) -> None:
        ref = VersionRef(version.pipeline_version_id)
        try:
            with explained(context_of_version(version.pipeline_id, ref)):
                self._api.delete_version(version.pipeline_id, version.pipeline_version_id, call)
        except errors.KfpUnavailableError:
            try:
                self._gateway.find_version(version.pipeline_id, ref, call)
            except errors.VersionNotFoundError:
                return
            raise

    def list_versions(self, ref: PipelineRef, view: View, page: PageRequest, call: Call) -> Page[PipelineVersion]:
        """Lists versions: BASIC from KFP's cheap list, FULL with their specs."""
        pipeline_id = ref.pipeline_id or self._gateway.find(ref, call).pipeline_id
        context = context_of(ref)

        def fetch_basic(size: int, token: str) -> KfpPage[PipelineVersion]:
            query = ListQuery(size, token, _sort(page.order))
            return KfpPage(*self._gateway.list_cheap(pipeline_id, query, call))

        def fetch_full(size: int, token: str) -> KfpPage[PipelineVersion]:
            query = ListQuery(size, token, _sort(page.order))
            with explained(context):
                found = self._api.list_full_versions(pipeline_id, query, call)
            items = [version.summarized() for version in found.pipeline_versions]
            return KfpPage(items, found.next_page_token, found.total_size)

        if view is View.FULL:
            return gather(fetch_full, _version_weight, page.size, page.token, MAX_FULL_PAGE)
        return gather(fetch_basic, _version_weight, page.size, page.token)

    def delete(self, ref: PipelineRef, call: Call, *, force: bool, allow_missing: bool) -> DeleteResult:
        """Deletes a pipeline with its versions."""
        try:
            pipeline = self._gateway.find(ref, call).to_domain()
            count = self._delete_found(pipeline, call, force=force)
        except errors.PipelineNotFoundError:
            if allow_missing:
                return DeleteResult()
            raise
        return DeleteResult(pipeline.pipeline_id, pipeline.name, count)

    def _delete_found(self, pipeline: Pipeline, call: Call, *, force: bool) -> int:
        """Deletes a pipeline and tells how many versions went."""
        if not force:
            return self._delete_known(pipeline, self._only_version(pipeline, call), call)
        count = self._gateway.count_versions(pipeline.pipeline_id, call)
        try:
            self._delete_pipeline(pipeline, call, cascade=True)
        except errors.PipelineHasVersionsError:  # KFP before cascade: the versions first
            return self._delete_known(pipeline, tuple(self._gateway.every_version(pipeline.pipeline_id, call)), call)
        return count

    def _only_version(self, pipeline: Pipeline, call: Call) -> Sequence[PipelineVersion]:
        """Reads the one version, or none; one call tells it and that there are no others."""
        versions, _, total = self._gateway.list_cheap(pipeline.pipeline_id, ListQuery(page_size=2), call)
        if max(total, len(versions)) > 1:
            raise _has_versions(pipeline, max(total, len(versions)))
        return versions

    def _delete_known(self, pipeline: Pipeline, versions: Sequence[PipelineVersion], call: Call) -> int:
        """Deletes exactly these versions, then the pipeline without KFP's cascade.

        KFP refuses that if somebody added a version meanwhile: nothing is deleted that was not seen here.
        """
        for version in versions:
            with suppress(errors.VersionNotFoundError):  # somebody else was faster
                self._delete_version(version, call)
        try:
            self._delete_pipeline(pipeline, call, cascade=False)
        except errors.PipelineHasVersionsError as error:
            count = self._gateway.count_versions(pipeline.pipeline_id, call)
            raise _added_meanwhile(pipeline, len(versions), count) from error
        return len(versions)

    def _delete_pipeline(self, pipeline: Pipeline, call: Call, *, cascade: bool) -> None:
        """Deletes it; after a broken answer, looks whether it is gone."""
        ref_context = context_of(_by_id(pipeline))
        try:
            with explained(ref_context):
                self._api.delete_pipeline(pipeline.pipeline_id, call, cascade=cascade)
        except errors.KfpUnavailableError:
            try:
                self._gateway.find(_by_id(pipeline), call)
            except errors.PipelineNotFoundError:
                return
            raise


def _by_id(pipeline: Pipeline) -> PipelineRef:
    return PipelineRef(pipeline_id=pipeline.pipeline_id)


def _has_versions(pipeline: Pipeline, count: int, text: str = "") -> errors.PipelineHasVersionsError:
    return errors.PipelineHasVersionsError(
        text or f"pipeline '{pipeline.name}' has {count} versions; set force to delete it with all of them",
        metadata={"pipeline_id": pipeline.pipeline_id, "name": pipeline.name, "version_count": str(count)},
        resource_name=pipeline.pipeline_id,
    )


_KNOWN_TEXTS = {0: "no version was known", 1: "the one version that was known is deleted"}


def _added_meanwhile(pipeline: Pipeline, deleted: int, count: int) -> errors.PipelineHasVersionsError:
    known = _KNOWN_TEXTS.get(deleted, f"the {deleted} versions that were known are deleted")
    text = (
        f"{known}, but somebody added another one meanwhile: pipeline '{pipeline.name}' stays, and the number of its "
        f"versions is {count}; delete it again, with force if there are several"
    )
    return _has_versions(pipeline, count, text)


def _sort(order: Order) -> str:
    return _SORT_KEYS[order.field] + (" desc" if order.descending else " asc")


def _predicates(where: ListPipelinesRequest) -> list[dict[str, str]]:
    predicates = [equals(f"tags.{key}", value) for key, value in sorted(where.tags.items())]
    if where.name_contains:
        predicates.append({"operation": "IS_SUBSTRING", "key": "name", "string_value": where.name_contains})
    if where.created_after is not None:
        moment = where.created_after.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
        predicates.append({"operation": "GREATER_THAN", "key": "created_at", "timestamp_value": moment})
    return predicates


def _pipeline_weight(item: Pipeline) -> int:
    return 200 + 4 * (len(item.description) + len(item.name) + len(item.display_name)) + 140 * len(item.tags)


def _version_weight(item: PipelineVersion) -> int:
    texts = len(item.description) + len(item.name) + len(item.display_name) + len(item.code_source_url)
    return 200 + 4 * texts + 140 * len(item.tags) + (summary_weight(item.spec) if item.spec else 0)
