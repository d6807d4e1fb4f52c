"""Pipelines in KFP, and operations on the versions of a pipeline that is given by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import Page, PageRequest, View
from kfadapter_grpc.contract.pipelines import (
    Changes,
    DeleteResult,
    DeleteVersionResult,
    ListPipelinesRequest,
    Pipeline,
    PipelineRef,
    PipelineVersion,
    UpdatePipelineRequest,
    UpdatePipelineVersionRequest,
    VersionRef,
)
from kfadapter_grpc.kfp import tags
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.downloads import download
from kfadapter_grpc.kfp.error_table import NO_SUCH_PIPELINE, Context
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import (
    V2,
    ListJson,
    ListQuery,
    Predicate,
    Rest,
    after,
    contains,
    equals,
    non_empty,
    paginate,
    patch,
    post,
    segment,
    sort_by,
)
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.uploads import Uploader
from kfadapter_grpc.kfp.versions import HEAD_BYTES, VersionJson, Versions, no_version_yet, version_context, version_path
from kfadapter_grpc.kfp.writes import ensure_created, ensure_deleted
from kfadapter_grpc.spool import SpoolPlace

J = TypeVar("J", "PipelineJson", "VersionJson")

_SORT_KEYS = {"created_at": "created_at", "name": "name", "pipeline_id": "id", "pipeline_version_id": "id"}
_KNOWN_TEXTS = {0: "no version was known", 1: "the one version that was known is deleted"}
_FITS_INTO_PATH = re.compile(r"[\w .-]*[\w -][\w .-]*")


class PipelineJson(msgspec.Struct):
    """A pipeline. Before 2.17 there is no `name`: `display_name` is the unique one."""

    pipeline_id: str
    name: str = ""
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    namespace: str = ""
    tags: dict[str, str] = {}

    @property
    def has_name(self) -> bool:
        return bool(self.name)

    def record(self) -> Pipeline:
        return Pipeline(
            pipeline_id=self.pipeline_id,
            name=self.name or self.display_name,
            display_name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            namespace=self.namespace,
            tags=tags.visible(self.tags),
        )


class PipelineListJson(ListJson[PipelineJson]):
    items: list[PipelineJson] = msgspec.field(default_factory=list, name="pipelines")


class Pipelines:
    """The pipelines of one KFP. Safe to use from many threads.

    Attributes:
        upload: Stores a file as a new pipeline or a new version.
        download: Gets the file of a version, by default the latest; valid within the block.
    """

    def __init__(self, rest: Rest, place: SpoolPlace) -> None:
        self._rest = rest
        self.versions = Versions(rest)
        self._uploader = Uploader(self)
        self.upload = self._uploader.upload
        self.download = partial(download, self, place)

    def get(self, ref: PipelineRef, view: View, call: Call) -> Pipeline:
        """Gets one pipeline; FULL costs two further calls."""
        pipeline = self.find(ref, call).record()
        if view is View.BASIC:
            return pipeline
        latest, count = self.versions.get_latest(pipeline.pipeline_id, call)
        return replace(pipeline, latest_version=latest, version_count=count)

    def find(self, ref: PipelineRef, call: Call) -> PipelineJson:
        """Finds a pipeline by id, or by name in its namespace and then in the shared space."""
        if ref.pipeline_id:
            request = Request("GET", f"{V2}/pipelines/{segment(ref.pipeline_id)}")
            return self._rest.ask(Operation.GET_PIPELINE, request, PipelineJson, call, _context(ref))
        pipeline = self.find_by_name(ref.name, ref.namespace, call)
        if pipeline is None and ref.namespace:
            pipeline = self.find_by_name(ref.name, "", call)
        if pipeline is None:
            raise _context(ref).error(errors.PipelineNotFoundError, NO_SUCH_PIPELINE)
        return pipeline

    def find_by_name(self, name: str, namespace: str, call: Call) -> PipelineJson | None:
        """Finds a pipeline by name in exactly this namespace; the empty one is the shared space."""
        # Without a namespace a multi-user KFP returns a pipeline of that name from any namespace.
        if _FITS_INTO_PATH.fullmatch(name) and (namespace or call.limits is None):
            query = (("namespace", namespace),) if namespace else ()
            request = Request("GET", f"{V2}/pipelines/names/{segment(name)}", query)
            try:
                pipeline = self._rest.ask(
                    Operation.GET_BY_NAME, request, PipelineJson, call, Context(subject=f"'{name}'")
                )
            except errors.PipelineNotFoundError:
                return None
            if namespace or not pipeline.namespace:
                return pipeline
        listed = self._list(ListQuery(page_size=1, predicates=(equals("name", name),)), namespace, call).items
        return listed[0] if listed else None

    def id_of(self, ref: PipelineRef, call: Call) -> str:
        return ref.pipeline_id or self.find(ref, call).pipeline_id

    def name_with(self, suffix: str, max_bytes: int, ref: PipelineRef, pipeline_id: str, call: Call) -> str:
        name = ref.name or self.find(PipelineRef(pipeline_id), call).record().name
        return name.encode()[: max_bytes - len(suffix.encode())].decode(errors="ignore") + suffix

    def list(self, filter_: ListPipelinesRequest, page: PageRequest, call: Call) -> Page[Pipeline]:
        """Lists pipelines; the filters are KFP's, and the results of its LIKE are compared exactly afterwards."""
        text = filter_.name_contains
        return paginate(
            lambda query: self._list(query, filter_.namespace, call),
            lambda items: (one for one in (item.record() for item in items) if text in one.name),
            ListQuery(page.size, page.token, sort_by(page.order, _SORT_KEYS), tuple(_predicates(filter_))),
            is_exact=not text,
        )

    def _list(self, query: ListQuery, namespace: str, call: Call) -> PipelineListJson:
        request = Request("GET", f"{V2}/pipelines", query.pairs(namespace=namespace))
        return self._rest.ask(Operation.LIST_PIPELINES, request, PipelineListJson, call)

    def probe(self, pipeline_id: str, call: Call) -> None:
        """Reads a pipeline, then requests a new version of it, and raises KFP's failures as they are.

        KFP authorizes the latter before it rejects the address of the file, which is none: nothing is ever stored.
        """
        path = f"{V2}/pipelines/{segment(pipeline_id)}"
        self._rest.send_raw(Operation.GET_PIPELINE, Request("GET", path), call)
        version = {"name": "x", "display_name": "x", "package_url": {"pipeline_url": "x"}, "pipeline_id": pipeline_id}
        self._rest.send_raw(Operation.PROBE, post(f"{path}/versions", version), call)

    def write(self, operation: Operation, request: Request, call: Call, context: Context) -> PipelineJson:
        return self._rest.ask(operation, request, PipelineJson, call, context)

    def update(self, changes: UpdatePipelineRequest, call: Call) -> Pipeline:
        pipeline = self.find(changes.pipeline, call)
        ref, fields = PipelineRef(pipeline.pipeline_id), _changed_fields(changes, pipeline)
        request = patch(f"{V2}/pipelines/{segment(ref.pipeline_id)}", {"pipeline_id": ref.pipeline_id, **fields})
        return ensure_created(
            lambda: self.write(Operation.UPDATE_PIPELINE, request, call, Context.by_id("pipeline_id", ref.pipeline_id)),
            lambda spare: _if_updated(self.find(ref, spare), fields),
            call,
        ).record()

    def delete(self, ref: PipelineRef, call: Call, *, force: bool, allow_missing: bool) -> DeleteResult:
        try:
            pipeline = self.find(ref, call).record()
            count = self._delete_with_versions(pipeline, call, force=force)
        except errors.PipelineNotFoundError:
            if allow_missing:
                return DeleteResult()
            raise
        return DeleteResult(pipeline.pipeline_id, pipeline.name, count)

    def _delete_with_versions(self, pipeline: Pipeline, call: Call, *, force: bool) -> int:
        """Deletes a pipeline; returns how many versions were deleted with it."""
        newest, count = self.versions.newest(pipeline.pipeline_id, 1 if force else 2, call)
        total = max(count, len(newest))
        if not force:
            if total > 1:
                text = f"pipeline '{pipeline.name}' has {total} versions; set force to delete it with all of them"
                raise _has_versions(pipeline, total, text)
            return self._delete_known(pipeline, newest, call)
        try:
            self._delete(pipeline.pipeline_id, call, cascade=True)
        except errors.PipelineHasVersionsError:  # KFP before cascade: the versions first
            return self._delete_known(pipeline, tuple(self.versions.every(pipeline.pipeline_id, call)), call)
        return total

    def _delete_known(self, pipeline: Pipeline, versions: Sequence[PipelineVersion], call: Call) -> int:
        """Deletes exactly these versions, then the pipeline without KFP's cascade.

        KFP rejects that if another version was added meanwhile: only versions seen here are deleted.
        """
        for version in versions:
            with suppress(errors.VersionNotFoundError):  # another caller was faster
                self.versions.delete(pipeline.pipeline_id, version.pipeline_version_id, call)
        try:
            self._delete(pipeline.pipeline_id, call, cascade=False)
        except errors.PipelineHasVersionsError as error:
            _, count = self.versions.newest(pipeline.pipeline_id, 1, call)
            known = _KNOWN_TEXTS.get(len(versions), f"the {len(versions)} versions that were known are deleted")
            text = (
                f"{known}, but another one was added meanwhile: pipeline '{pipeline.name}' stays, and the number of "
                f"its versions is {count}; delete it again, with force if there are several"
            )
            raise _has_versions(pipeline, count, text) from error
        return len(versions)

    def _delete(self, pipeline_id: str, call: Call, *, cascade: bool) -> None:
        ensure_deleted(
            lambda: self.delete_by_id(pipeline_id, call, cascade=cascade),
            lambda: self.find(PipelineRef(pipeline_id), call),
            errors.PipelineNotFoundError,
        )

    def delete_by_id(self, pipeline_id: str, call: Call, *, cascade: bool) -> None:
        """Deletes a pipeline; without `cascade` KFP rejects the deletion of one that has versions."""
        query = (("cascade", "true"),) if cascade else ()
        request = Request("DELETE", f"{V2}/pipelines/{segment(pipeline_id)}", query)
        context = _context(PipelineRef(pipeline_id))
        self._rest.ask(Operation.DELETE_PIPELINE, request, dict[str, object], call, context)

    # --- the versions of a pipeline ------------------------------------------------------------------------------

    def get_version(self, ref: PipelineRef, version: VersionRef, call: Call) -> PipelineVersion:
        pipeline_id = self.id_of(ref, call)
        if version.pipeline_version_id or version.name:
            version_id = self.versions.find(pipeline_id, version, call).pipeline_version_id
            return self.versions.get(pipeline_id, version_id, call)
        latest, _ = self.versions.get_latest(pipeline_id, call)
        if latest is None:
            raise no_version_yet(pipeline_id, ref)
        return latest

    def list_versions(self, ref: PipelineRef, view: View, page: PageRequest, call: Call) -> Page[PipelineVersion]:
        pipeline_id, sort = self.id_of(ref, call), sort_by(page.order, _SORT_KEYS)
        return self.versions.list(pipeline_id, sort, page, call, with_specs=view is View.FULL)

    def update_version(self, changes: UpdatePipelineVersionRequest, call: Call) -> PipelineVersion:
        """Updates a version in the same way as a pipeline; its spec is not read."""
        current = self.versions.find(self.id_of(changes.pipeline, call), changes.version, call)
        pipeline_id, ref = current.pipeline_id, VersionRef(current.pipeline_version_id)
        fields = _changed_fields(changes, current)
        ids = {"pipeline_id": pipeline_id, "pipeline_version_id": ref.pipeline_version_id}
        request = patch(version_path(pipeline_id, ref.pipeline_version_id), {**ids, **fields}, keep=HEAD_BYTES)
        return ensure_created(
            lambda: self.versions.write(Operation.UPDATE_VERSION, request, call, version_context(pipeline_id, ref)),
            lambda spare: _if_updated(self.versions.find(pipeline_id, ref, spare), fields),
            call,
        ).record()

    def delete_version(
        self, ref: PipelineRef, version: VersionRef, call: Call, *, allow_missing: bool
    ) -> DeleteVersionResult:
        try:
            pipeline_id = self.id_of(ref, call)
            record = self.versions.find(pipeline_id, version, call).record()
            self.versions.delete(pipeline_id, record.pipeline_version_id, call)
        except (errors.PipelineNotFoundError, errors.VersionNotFoundError):
            if allow_missing:
                return DeleteVersionResult()
            raise
        return DeleteVersionResult(record.pipeline_version_id, record.name)


def _changed_fields(changes: Changes, current: PipelineJson | VersionJson) -> dict[str, object]:
    """What to send to KFP, from 2.17 on; an empty display name becomes the name, as for something new.

    KFP (storage/pipeline_store.go) replaces all tags by those of the request, also by none (`{}`), and leaves them if
    the request has no tags. So the adapter's own are read and sent again. KFP leaves an empty display name as it is,
    checks nothing of it, ignores other fields, and has neither a mask nor etags.
    """
    fields: dict[str, object] = {}
    if "display_name" in changes.paths:
        fields["display_name"] = changes.display_name or current.name
    if "tags" in changes.paths:
        fields["tags"] = tags.replaced(current.tags, changes.tags)
    return fields


def _if_updated(item: J, fields: Mapping[str, object]) -> J | None:
    return item if all(getattr(item, key) == value for key, value in fields.items()) else None


def _context(ref: PipelineRef) -> Context:
    values = {"pipeline_id": ref.pipeline_id} if ref.pipeline_id else {"name": ref.name}
    return Context(str(ref), ref.pipeline_id or ref.name, non_empty({**values, "namespace": ref.namespace}))


def _has_versions(pipeline: Pipeline, count: int, text: str) -> errors.PipelineHasVersionsError:
    return errors.PipelineHasVersionsError(
        text,
        metadata={"pipeline_id": pipeline.pipeline_id, "name": pipeline.name, "version_count": str(count)},
        resource_name=pipeline.pipeline_id,
    )


def _predicates(filter_: ListPipelinesRequest) -> list[Predicate]:
    predicates: list[Predicate] = [equals(f"tags.{key}", value) for key, value in sorted(filter_.tags.items())]
    if filter_.name_contains:
        predicates.append(contains("name", filter_.name_contains))
    if filter_.created_after is not None:
        predicates.append(after("created_at", filter_.created_after))
    return predicates
