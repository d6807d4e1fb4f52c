"""What get, list, versions and delete do."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.confirmation import ask, can_answer
from kfadapter_grpc.cli.filters import page_size
from kfadapter_grpc.cli.invocation import PIPELINE, Invocation, other
from kfadapter_grpc.cli.pipeline_view import print_pipeline, print_pipelines, print_version, print_versions
from kfadapter_grpc.cli.records import listed_record, record
from kfadapter_grpc.contract.listing import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.pipelines import DeleteResult, Pipeline, PipelineRef, PipelineVersion, VersionRef

NEWEST = 5
"""How many versions are shown with a pipeline."""


def get(options: ClientOptions, ref: PipelineRef, style: Format) -> None:
    """Shows one pipeline with its latest version and the names of the newest ones."""
    with options.client() as client:
        pipeline = client.pipelines.get(ref.name, pipeline_id=ref.pipeline_id, view=View.FULL)
        newest = () if style is Format.NAME else _newest(client, pipeline)
    if style is Format.TABLE:
        every = Invocation(pipeline=pipeline.name, options=options).spell(other("versions", PIPELINE))
        print_pipeline(pipeline, newest, every)
    elif style is Format.NAME:
        output.print_names([pipeline.name])
    else:
        output.print_document(record(pipeline) | {"versions": [listed_record(version) for version in newest]}, style)


def get_version(options: ClientOptions, ref: PipelineRef, version: VersionRef, style: Format) -> None:
    """Shows one version of a pipeline."""
    with options.client() as client:
        found = client.pipelines.get_version(
            ref.name,
            pipeline_id=ref.pipeline_id,
            version_name=version.name,
            pipeline_version_id=version.pipeline_version_id,
        )
    if style is Format.TABLE:
        print_version(found, ref.name)
    elif style is Format.NAME:
        output.print_names([found.name])
    else:
        output.print_document(record(found), style)


def _newest(client: Client, pipeline: Pipeline) -> Sequence[PipelineVersion]:
    """Asks for the newest versions, unless the latest is all there is."""
    latest = pipeline.latest_version
    if latest is None or pipeline.version_count == 1:
        return () if latest is None else (latest,)
    return client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, page_size=NEWEST).page().items


def list_pipelines(
    options: ClientOptions,
    style: Format,
    *,
    contains: str,
    created_after: datetime | None,
    tags: Mapping[str, str],
    order_by: str,
    limit: int,
) -> None:
    """Lists pipelines."""
    with options.client() as client:
        found = client.pipelines.list(
            name_contains=contains,
            created_after=created_after,
            tags=tags,
            order_by=order_by,
            page_size=page_size(limit),
        )
        _print_pipelines(itertools.islice(found, limit or None), style)


def list_versions(options: ClientOptions, ref: PipelineRef, style: Format, *, order_by: str, limit: int) -> None:
    """Lists the versions of a pipeline."""
    with options.client() as client:
        found = client.pipelines.list_versions(
            ref.name, pipeline_id=ref.pipeline_id, order_by=order_by, page_size=page_size(limit)
        )
        _print_versions(itertools.islice(found, limit or None), style)


def delete(
    options: ClientOptions, ref: PipelineRef, style: Format, *, force: bool, allow_missing: bool, yes: bool
) -> None:
    """Deletes a pipeline, after asking where somebody can answer."""
    with options.client() as client:
        if not yes and can_answer():
            _confirm(client, ref, force=force, allow_missing=allow_missing)
        result = client.pipelines.delete(
            ref.name, pipeline_id=ref.pipeline_id, force=force, allow_missing=allow_missing
        )
    _print_deletion(result, ref, style)


def delete_version(
    options: ClientOptions, ref: PipelineRef, version: VersionRef, style: Format, *, allow_missing: bool, yes: bool
) -> None:
    """Deletes one version of a pipeline, after asking where somebody can answer."""
    if not yes and can_answer():
        ask(f"Delete the version {version} of the pipeline {ref}?")
    with options.client() as client:
        result = client.pipelines.delete_version(
            ref.name,
            pipeline_id=ref.pipeline_id,
            version_name=version.name,
            pipeline_version_id=version.pipeline_version_id,
            allow_missing=allow_missing,
        )
    if style in (Format.JSON, Format.YAML):
        output.print_document(record(result), style)
    elif not result.pipeline_version_id:
        output.note(f"there was no version {version} of a pipeline {ref}")
    elif style is Format.NAME:
        output.print_names([result.name])
    else:
        output.print_line(f"deleted version {result.name} of the pipeline {ref}")


def _confirm(client: Client, ref: PipelineRef, *, force: bool, allow_missing: bool) -> None:
    """Asks; what would fail or do nothing anyway is left to the adapter's own answer."""
    if allow_missing:
        question = f"Delete the pipeline {ref}?"
    else:
        pipeline = client.pipelines.get(ref.name, pipeline_id=ref.pipeline_id, view=View.FULL)
        count = pipeline.version_count or 0
        if count > 1 and not force:
            return
        question = f"Delete the pipeline '{pipeline.name}' with {_versions(count)}?"
    ask(question)


def _print_pipelines(pipelines: Iterable[Pipeline], style: Format) -> None:
    if style is Format.NAME:
        output.print_names(pipeline.name for pipeline in pipelines)
    elif style is not Format.TABLE:
        output.print_document([record(pipeline) for pipeline in pipelines], style)
    elif found := list(pipelines):
        print_pipelines(found)
    else:
        output.note("no pipelines")


def _print_versions(versions: Iterable[PipelineVersion], style: Format) -> None:
    if style is Format.NAME:
        output.print_names(version.name for version in versions)
    elif style is not Format.TABLE:
        output.print_document([listed_record(version) for version in versions], style)
    elif found := list(versions):
        print_versions(found)
    else:
        output.note("no versions")


def _print_deletion(result: DeleteResult, ref: PipelineRef, style: Format) -> None:
    if style in (Format.JSON, Format.YAML):
        output.print_document(record(result), style)
    elif not result.pipeline_id:
        output.note(f"there was no pipeline {ref}")
    elif style is Format.NAME:
        output.print_names([result.name])
    else:
        output.print_line(f"deleted {result.name} with {_versions(result.versions_deleted)}")


def _versions(count: int) -> str:
    return "1 version" if count == 1 else f"{count} versions"
