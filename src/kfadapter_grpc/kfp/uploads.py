"""Stores an upload in KFP: which steps, under which names, and what happens when one of them fails.

A pipeline is made in two steps, because KFP's one-step upload can neither name nor tag the version. Between
them the pipeline is empty; an empty pipeline is treated as missing and adopted, so a kill in between does no harm.
After a write of unknown outcome we check before we respond, and undo only what is ours.

A pipeline that is probably new is created without searching for it first: if it exists, KFP's unique key rejects it,
and we search then.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import (
    IfExists,
    Pipeline,
    PipelineFile,
    PipelineVersion,
    UploadPipelineMetadata,
    UploadResult,
)
from kfadapter_grpc.kfp import tags
from kfadapter_grpc.kfp.error_table import KFP_FILE_LIMIT, KFP_PACKET_LIMIT, Context
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.rest import V2, equals, non_empty, post, post_file
from kfadapter_grpc.kfp.transport import NotSentError
from kfadapter_grpc.kfp.versions import HEAD_BYTES, VersionJson, version_number
from kfadapter_grpc.kfp.writes import KeyLocks, followup_call, of_unknown_outcome

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.pipelines import PipelineJson, Pipelines

_MAX_LOSSES = 5
"""How often the next version number, or the race to create a pipeline, may be lost before we give up."""
_GRACE_SECONDS = 0.1
"""How long KFP may continue to create a pipeline after the client cancelled the call."""
_UNKNOWN_OUTCOME = (errors.KfpUnavailableError, errors.KfpTimeoutError, errors.CallCancelledError)
"""A write that fails like this may have had its effect."""
_REPEAT = "repeat the call with the same request_id"
_CHECK_FIRST = (
    "this Kubeflow Pipelines does not keep tags to find it, so check with ListVersions before you repeat the call"
)


@dataclass(frozen=True, slots=True)
class _Job:
    """One upload."""

    request: UploadPipelineMetadata
    file: PipelineFile
    call: Call
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def tags(self) -> dict[str, str]:
        """The caller's tags, and the adapter's of the pipeline and of the version."""
        request_id = self.request.request_id
        return {**self.request.tags, **({tags.REQUEST: request_id} if request_id else {})}

    def context(self, version: str = "", **values: str) -> Context:
        known = {"name": self.request.name, "version": version, "size": str(self.file.size), **values}
        return Context(f"'{self.request.name}'", version or self.request.name, non_empty(known))


class _LostRaceError(Exception):
    """The pipeline exists, or another upload stored a version meanwhile: check again."""

    def __init__(self, found: PipelineJson | None = None) -> None:
        super().__init__()
        self.found = found


class Uploader:
    """Stores uploads. Safe to use from many threads."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._versions = pipelines.versions
        self._has_names = True
        self._locks = KeyLocks()

    def upload(self, request: UploadPipelineMetadata, file: PipelineFile, call: Call) -> UploadResult:
        job = _Job(request, file, call)
        with ExitStack() as locks:
            # Uploads of one name under FAIL, and of one request id, must not overlap in this process.
            if request.if_exists is IfExists.FAIL:
                locks.enter_context(self._locks.held((request.namespace, request.name), call))
            if request.request_id:
                key = request.namespace, request.name, request.request_id
                locks.enter_context(self._locks.held(key, call))
            # Under FAIL and SKIP_IF_SAME it matters what exists; KFP before 2.17 uses the display name as the name.
            may_be_new = request.if_exists is IfExists.NEW_VERSION and not request.display_name
            pipeline = None if may_be_new else self._find(job)
            for _ in range(_MAX_LOSSES + may_be_new):
                try:
                    result = self._store_into(job, pipeline) if pipeline else self._store_new(job)
                except _LostRaceError as lost:
                    pipeline = lost.found or self._find(job)
                except errors.PipelineNotFoundError:  # it existed, and was deleted since
                    pipeline = self._find(job)
                else:
                    return replace(result, not_kept=_not_kept(request, result))
        raise errors.NameContestedError(
            f"other uploads of '{request.name}' were faster {_MAX_LOSSES} times; try again, or give a version_name",
            metadata={"name": request.name, "losses": str(_MAX_LOSSES)},
            resource_name=request.name,
        )

    def _find(self, job: _Job) -> PipelineJson | None:
        return self._pipelines.find_by_name(job.request.name, job.request.namespace, job.call)

    # --- an earlier upload ---------------------------------------------------------------------------------------

    def _find_earlier(self, job: _Job, pipeline: PipelineJson) -> tuple[UploadResult | None, bool]:
        """Finds the version of an earlier upload of the same request or content; also whether the search failed."""
        request, digest = job.request, tags.encode_digest(job.file.sha256)
        content = equals(f"tags.{tags.SHA256}", digest)
        try:
            if request.request_id:
                by_request = equals(f"tags.{tags.REQUEST}", request.request_id)
                version = self._find_version(job, pipeline, by_request)
                if version is not None:
                    # Several adapters may have stored different content at once: the newest is not the only one.
                    if version.tags.get(tags.SHA256) != digest:
                        version = self._find_version(job, pipeline, by_request, content)
                    if version is None:
                        raise errors.RequestIdReusedError(
                            f"request_id '{request.request_id}' came with another file before; use a new id for a new "
                            "upload",
                            metadata={"request_id": request.request_id},
                            resource_name=request.request_id,
                        )
                    pipeline_created = _is_created_by(request, pipeline)
                    return _result(pipeline, version, pipeline_created=pipeline_created, version_created=True), False
            if request.if_exists is IfExists.SKIP_IF_SAME:
                version = self._find_version(job, pipeline, content)
                if version is not None:
                    return _result(pipeline, version, pipeline_created=False, version_created=False), False
        except errors.UnsupportedByKfpError:
            return None, True
        return None, False

    def _find_version(self, job: _Job, pipeline: PipelineJson, *predicates: dict[str, str]) -> VersionJson | None:
        return self._versions.find_where(pipeline.pipeline_id, predicates, job.call, job.context())

    # --- a new pipeline ------------------------------------------------------------------------------------------

    def _store_new(self, job: _Job) -> UploadResult:
        pipeline = self._create(job)
        try:
            version = self._store_version(job, pipeline, job.request.version_name or job.request.name)
        except errors.VersionExistsError as error:
            # Two uploads of a new name at the same moment: the other one's version exists.
            return self._after_name_conflict(job, pipeline, error)
        except errors.PipelineNotFoundError:
            raise  # there is nothing to undo
        except BaseException:
            self._undo(pipeline, job.call)
            raise
        return _result(pipeline, version, pipeline_created=True, version_created=True)

    def _create(self, job: _Job) -> PipelineJson:
        """Creates the empty pipeline.

        KFP before 2.17 has one name and uses the display name for it, which its response shows.
        """
        display_name = self._display_name(job.request)
        pipeline = self._try_create(job, display_name)
        self._has_names = pipeline.has_name
        expected = self._display_name(job.request)
        if display_name != expected:
            self._undo(pipeline, job.call)
            pipeline = self._try_create(job, expected)
        return pipeline

    def _display_name(self, request: UploadPipelineMetadata) -> str:
        return (request.display_name if self._has_names else "") or request.name

    def _try_create(self, job: _Job, display_name: str) -> PipelineJson:
        request = job.request
        body = {
            "name": request.name,
            "display_name": display_name,
            "description": request.description,
            "namespace": request.namespace,
            "tags": {**job.tags, tags.ATTEMPT: job.attempt},
        }
        http_request = post(f"{V2}/pipelines", {key: value for key, value in body.items() if value})
        try:
            # It is short, and its response shows what must be undone when the client disconnects.
            with job.call.with_grace(_GRACE_SECONDS) as call:
                pipeline = self._pipelines.write(Operation.CREATE_PIPELINE, http_request, call, job.context())
        except errors.PipelineExistsError as error:
            raise self._exists_error(job) from error
        except NotSentError:
            raise
        except errors.CallCancelledError:
            raise  # KFP is slow: if it makes the pipeline, it stays empty, and the next upload of the name adopts it
        except _UNKNOWN_OUTCOME as error:
            pipeline = self._find_created(job, error)
            if isinstance(error, errors.KfpTimeoutError):
                self._undo(pipeline, job.call)
                raise
        if job.call.cancelled:
            self._undo(pipeline, job.call)
            raise errors.CallCancelledError("the client cancelled the call")
        return pipeline

    def _find_created(self, job: _Job, broken: errors.AdapterError) -> PipelineJson:
        """Searches for a pipeline that was created although the response broke; raises the failure if not ours."""
        followup = followup_call(job.call)
        try:
            pipeline = self._pipelines.find_by_name(job.request.name, job.request.namespace, followup)
        except errors.AdapterError:
            raise broken from None
        if pipeline is None or pipeline.tags.get(tags.ATTEMPT) != job.attempt:
            raise broken
        return pipeline

    def _exists_error(self, job: _Job) -> Exception:
        """The pipeline exists: an error under FAIL, otherwise a reason to store a version in it."""
        pipeline = self._find(job)
        if pipeline is None:
            self._has_names = False  # then the display name is taken; creating the pipeline corrects a mistake
        elif job.request.if_exists is IfExists.FAIL:
            return _exists(pipeline.record())
        return _LostRaceError(pipeline)

    def _undo(self, pipeline: PipelineJson, call: Call) -> None:
        """Deletes our pipeline, unless another caller has added a version: without cascade KFP rejects that."""
        try:
            self._pipelines.delete_by_id(pipeline.pipeline_id, followup_call(call), cascade=False)
        except errors.AdapterError:
            return  # it has a version, or stays empty, and the next upload of the name adopts it

    # --- a pipeline that exists ----------------------------------------------------------------------------------

    def _store_into(self, job: _Job, pipeline: PipelineJson) -> UploadResult:
        """Stores the first version of an empty pipeline, or a further one.

        A further one is not stored if an earlier upload of the same request or content exists. The numbers are read
        before that search. So a concurrent copy of the same upload, in this adapter or another, is either found by the
        search or takes the number first; then KFP's unique key leads back to the search.
        """
        request = job.request
        names, skipped = None, False
        if not request.version_name or request.if_exists is IfExists.FAIL:
            names = {version.name for version in self._versions.every(pipeline.pipeline_id, job.call)}
        if names is None or names:
            earlier, skipped = self._find_earlier(job, pipeline)
            if earlier is not None:
                return earlier
            if request.if_exists is IfExists.FAIL:
                raise _exists(pipeline.record())
        try:
            version = self._store_version(
                job, pipeline, request.version_name or _next_name(request.name, pipeline, names or ())
            )
        except errors.VersionExistsError as error:
            return self._after_name_conflict(job, pipeline, error)
        created = _is_created_by(request, pipeline)
        result = _result(pipeline, version, pipeline_created=created, version_created=True)
        return replace(result, duplicate_check_skipped=skipped)

    def _after_name_conflict(self, job: _Job, pipeline: PipelineJson, error: errors.VersionExistsError) -> UploadResult:
        """The version's name is taken: perhaps by a copy of this very upload; another number can be chosen."""
        earlier, _ = self._find_earlier(job, pipeline)
        if earlier is not None:
            return earlier
        if job.request.if_exists is IfExists.FAIL:
            raise _exists(pipeline.record()) from error
        raise (error if job.request.version_name else _LostRaceError()) from error

    # --- storing a version ---------------------------------------------------------------------------------------

    def _store_version(self, job: _Job, pipeline: PipelineJson, name: str) -> VersionJson:
        pipeline_id = pipeline.pipeline_id
        request, digest = job.request, tags.encode_digest(job.file.sha256)
        query = {
            "name": name,
            "display_name": request.display_name,
            "description": request.description,
            "code_source_url": request.code_source_url,
            "pipelineid": pipeline_id,
            "tags": json.dumps({**job.tags, tags.SHA256: digest}, ensure_ascii=False),
        }
        limit = KFP_FILE_LIMIT if job.file.size > KFP_FILE_LIMIT else KFP_PACKET_LIMIT
        probe = partial(self._probe, pipeline_id, job)
        context = replace(job.context(name, pipeline_id=pipeline_id, limit=str(limit)), probe=probe)
        try:
            http_request = post_file(f"{V2}/pipelines/upload_version", query, job.file, HEAD_BYTES)
            return self._versions.write(Operation.UPLOAD_VERSION, http_request, job.call, context)
        except NotSentError:
            raise
        except _UNKNOWN_OUTCOME as error:
            return self._find_stored(error, job, pipeline_id, name)

    def _find_stored(self, broken: errors.AdapterError, job: _Job, pipeline_id: str, name: str) -> VersionJson:
        """Searches for a version that may have been stored; if it does not exist, raises the failure, with advice.

        Another upload of the same content may have taken the name, so a request id tells more than that.
        """
        request_id = job.request.request_id
        identity = equals(f"tags.{tags.REQUEST}", request_id) if request_id else equals("name", name)
        predicates = (identity, equals(f"tags.{tags.SHA256}", tags.encode_digest(job.file.sha256)))
        try:
            version = self._versions.find_where(pipeline_id, predicates, followup_call(job.call))
        except errors.UnsupportedByKfpError:
            raise of_unknown_outcome(broken, "the version is stored", _CHECK_FIRST) from broken
        except errors.AdapterError:
            version = None
        if version is None:
            raise of_unknown_outcome(broken, "the version is stored", _REPEAT) from broken
        return version

    def _probe(self, pipeline_id: str, job: _Job) -> KfpFailureError | None:
        """Returns why KFP rejects other requests about the pipeline; None if it does not."""
        try:
            self._pipelines.probe(pipeline_id, followup_call(job.call))
        except KfpFailureError as error:
            return error
        except errors.AdapterError:
            return None
        return None


def _is_created_by(request: UploadPipelineMetadata, pipeline: PipelineJson) -> bool:
    return bool(request.request_id) and pipeline.tags.get(tags.REQUEST) == request.request_id


def _result(
    pipeline: PipelineJson, version: VersionJson, *, pipeline_created: bool, version_created: bool
) -> UploadResult:
    return UploadResult(pipeline.record(), version.record(), pipeline_created, version_created)


def _next_name(name: str, pipeline: PipelineJson, names: Collection[str]) -> str:
    """The name of the next version: `name` for the first one, then the highest number so far plus 1.

    The first version, which has the pipeline's name, counts as 1.
    """
    if not names:
        return name
    number = 1 + max([1, *(version_number(version) for version in names if version != pipeline.record().name)])
    while str(number) in names:  # the pipeline's own name may be a number, or a number be too long to count
        number += 1
    return str(number)


def _not_kept(request: UploadPipelineMetadata, result: UploadResult) -> tuple[str, ...]:
    """The fields that were sent and that KFP dropped: they are neither in the version nor in the pipeline."""
    if not result.version_created:
        return ()
    results: tuple[Pipeline | PipelineVersion, ...] = (result.version, result.pipeline)
    kept = {
        "display_name": any(item.display_name == request.display_name for item in results),
        "description": any(item.description == request.description for item in results),
        "tags": any(request.tags.items() <= item.tags.items() for item in results),
        "code_source_url": result.version.code_source_url == request.code_source_url,
    }
    return tuple(name for name, is_kept in kept.items() if getattr(request, name) and not is_kept)


def _exists(pipeline: Pipeline) -> errors.PipelineExistsError:
    return errors.PipelineExistsError(
        f"there is a pipeline named '{pipeline.name}' already (id {pipeline.pipeline_id}); "
        "choose another name, or upload a new version of it",
        metadata={"name": pipeline.name, "pipeline_id": pipeline.pipeline_id},
        resource_name=pipeline.pipeline_id,
    )
