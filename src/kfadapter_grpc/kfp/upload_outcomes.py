"""The outcome of an upload: the name of the version, the fields that KFP did not keep, and how it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.versions import version_number

if TYPE_CHECKING:
    from collections.abc import Collection

    from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion, UploadPipelineMetadata, UploadResult
    from kfadapter_grpc.kfp.pipelines import PipelineJson


def next_name(name: str, pipeline: PipelineJson, names: Collection[str]) -> str:
    """The name of the next version: `name` for the first one, then the highest number so far plus 1.

    The first version, which has the pipeline's name, counts as 1.
    """
    if not names:
        return name
    number = 1 + max([1, *(version_number(each) for each in names if each != pipeline.record().name)])
    while str(number) in names:  # the pipeline's own name may be a number, or a number be too long to count
        number += 1
    return str(number)


def not_kept(request: UploadPipelineMetadata, result: UploadResult) -> tuple[str, ...]:
    """The fields that were sent and that KFP dropped: they are neither in the version nor in the pipeline."""
    if not result.version_created:
        return ()
    made: tuple[Pipeline | PipelineVersion, ...] = (result.version, result.pipeline)
    kept = {
        "display_name": any(each.display_name == request.display_name for each in made),
        "description": any(each.description == request.description for each in made),
        "tags": any(request.tags.items() <= each.tags.items() for each in made),
        "code_source_url": result.version.code_source_url == request.code_source_url,
    }
    return tuple(name for name, is_kept in kept.items() if getattr(request, name) and not is_kept)


def exists(pipeline: Pipeline) -> errors.PipelineExistsError:
    return errors.PipelineExistsError(
        f"there is a pipeline named '{pipeline.name}' already (id {pipeline.pipeline_id}); "
        "choose another name, or upload a new version of it",
        metadata={"name": pipeline.name, "pipeline_id": pipeline.pipeline_id},
        resource_name=pipeline.pipeline_id,
    )


def request_id_reused(request_id: str) -> errors.RequestIdReusedError:
    return errors.RequestIdReusedError(
        f"request_id '{request_id}' came with another file before; use a new id for a new upload",
        metadata={"request_id": request_id},
        resource_name=request_id,
    )


def contested(name: str, losses: int) -> errors.NameContestedError:
    return errors.NameContestedError(
        f"other uploads of '{name}' were faster {losses} times; try again, or give a version_name",
        metadata={"name": name, "losses": str(losses)},
        resource_name=name,
    )


def of_unknown_outcome(error: errors.AdapterError, advice: str) -> errors.AdapterError:
    """Adds to an error that the version may be stored, and what to do about it."""
    text = f"{error.message}. Whether the version is stored is not known: {advice}"
    return type(error)(text, metadata=error.metadata, retry_after=error.retry_after)
