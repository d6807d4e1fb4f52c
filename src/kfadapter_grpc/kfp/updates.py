"""Updates of pipelines and versions: display name and tags, which is all that KFP changes, from 2.17 on.

KFP (storage/pipeline_store.go) replaces all tags by those of the request, also by none (`{}`), and leaves them if the
request has no tags. So the adapter's own are read and sent again. KFP leaves an empty display name as it is, checks
nothing of it, ignores other fields, and has neither a mask nor etags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.kfp import tags
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, patch, segment
from kfadapter_grpc.kfp.versions import HEAD_BYTES, pipeline_context, version_context, version_path
from kfadapter_grpc.kfp.writes import ensure_created

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import (
        Changes,
        Pipeline,
        PipelineVersion,
        UpdatePipelineRequest,
        UpdatePipelineVersionRequest,
    )
    from kfadapter_grpc.kfp.pipelines import PipelineJson, Pipelines
    from kfadapter_grpc.kfp.versions import VersionJson

J = TypeVar("J", "PipelineJson", "VersionJson")


class Updater:
    """Updates pipelines and versions. Safe to use from many threads."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._versions = pipelines.versions

    def update(self, wanted: UpdatePipelineRequest, call: Call) -> Pipeline:
        """Updates a pipeline; after a broken response, checks whether it is updated."""
        found = self._pipelines.find(wanted.pipeline, call)
        ref, fields = PipelineRef(found.pipeline_id), _changed_fields(wanted, found)
        request = patch(f"{V2}/pipelines/{segment(ref.pipeline_id)}", {"pipeline_id": ref.pipeline_id, **fields})
        context = pipeline_context(ref.pipeline_id)
        return ensure_created(
            lambda: self._pipelines.write(Operation.UPDATE_PIPELINE, request, call, context),
            lambda spare: _with_fields(self._pipelines.find(ref, spare), fields),
            call,
        ).record()

    def update_version(self, wanted: UpdatePipelineVersionRequest, call: Call) -> PipelineVersion:
        """Updates a version in the same way; its spec is not read."""
        found = self._versions.find(self._pipelines.id_of(wanted.pipeline, call), wanted.version, call)
        pipeline_id, ref = found.pipeline_id, VersionRef(found.pipeline_version_id)
        fields = _changed_fields(wanted, found)
        ids = {"pipeline_id": pipeline_id, "pipeline_version_id": ref.pipeline_version_id}
        request = patch(version_path(pipeline_id, ref.pipeline_version_id), {**ids, **fields}, keep=HEAD_BYTES)
        context = version_context(pipeline_id, ref)
        return ensure_created(
            lambda: self._versions.write(Operation.UPDATE_VERSION, request, call, context),
            lambda spare: _with_fields(self._versions.find(pipeline_id, ref, spare), fields),
            call,
        ).record()


def _changed_fields(changes: Changes, found: PipelineJson | VersionJson) -> dict[str, object]:
    """What to send to KFP; an empty display name becomes the name, as for something new."""
    fields: dict[str, object] = {}
    if "display_name" in changes.paths:
        fields["display_name"] = changes.display_name or found.name
    if "tags" in changes.paths:
        fields["tags"] = tags.replaced(found.tags, changes.tags)
    return fields


def _with_fields(found: J, fields: Mapping[str, object]) -> J | None:
    """What was found, if it has these fields."""
    return found if all(getattr(found, key) == value for key, value in fields.items()) else None
