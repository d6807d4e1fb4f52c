"""The commands about pipelines and their versions."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import DownloadFormat, Format, GraphFormat, IfExistsChoice
from kfadapter_grpc.cli.option_types import (
    AllowMissing,
    ById,
    Contains,
    CreatedAfter,
    Description,
    DisplayName,
    File,
    Function,
    IfExists,
    Limit,
    Name,
    OneVersion,
    OrderBy,
    Output,
    PipelineName,
    RequestId,
    Source,
    Tags,
    Version,
    VersionName,
    VersionOrderBy,
    Yes,
)
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.streams import native_path


def upload(
    options: ClientOptions,
    file: File,
    *,
    name: Name = None,
    version_name: VersionName = "",
    description: Description = "",
    display_name: DisplayName = "",
    tag: Tags = None,
    code_source_url: Source = "",
    if_exists: IfExists = IfExistsChoice.NEW_VERSION,
    request_id: RequestId = "",
    function: Function = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="How to print; 'name' is the pipeline's, for kfadapter get.")
    ] = Format.TABLE,
) -> None:
    """Upload a pipeline, as a new one or as a new version."""
    from kfadapter_grpc.cli.commands import upload as command
    from kfadapter_grpc.cli.upload_options import upload_request

    request = upload_request(
        file,
        name=name,
        version_name=version_name,
        description=description,
        display_name=display_name,
        namespace=options.namespace,
        tags=tag or [],
        code_source_url=code_source_url,
        if_exists=if_exists.value,
        request_id=request_id,
    )
    command.upload(options, file, request, output, named=name is not None, function=function)


def get(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: OneVersion = None,
    by_id: ById = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a pipeline: parameters, artifacts, tasks, versions."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    ref = references.reference(pipeline, by_id=by_id)
    if version is None:
        pipelines.get(options, ref, output)
    else:
        pipelines.get_version(options, ref, references.one_version(version), output)


def list_(
    options: ClientOptions,
    *,
    contains: Contains = "",
    created_after: CreatedAfter = "",
    tag: Tags = None,
    order_by: OrderBy = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
) -> None:
    """List pipelines, newest first."""
    from kfadapter_grpc.cli.commands import pipelines
    from kfadapter_grpc.cli.filters import optional_moment
    from kfadapter_grpc.cli.upload_options import parse_tags

    pipelines.list_pipelines(
        options,
        output,
        contains=contains,
        created_after=optional_moment(created_after),
        tags=parse_tags(tag or []),
        order_by=order_by,
        limit=limit,
    )


def versions(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    by_id: ById = None,
    order_by: VersionOrderBy = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
) -> None:
    """List the versions of a pipeline, newest first."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    ref = references.reference(pipeline, by_id=by_id)
    pipelines.list_versions(options, ref, output, order_by=order_by, limit=limit)


def delete(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: OneVersion = None,
    by_id: ById = None,
    force: Annotated[bool, typer.Option("--force", help="Even if it has more than one version.")] = False,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Delete a pipeline and its versions, or one version."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    ref = references.reference(pipeline, by_id=by_id)
    if version is None:
        pipelines.delete(options, ref, output, force=force, allow_missing=allow_missing, yes=yes)
    else:
        one = references.one_version(version)
        pipelines.delete_version(options, ref, one, output, allow_missing=allow_missing, yes=yes)


def download(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: Version = "",
    by_id: ById = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", parser=native_path, help="Write to a file, not to stdout.")
    ] = None,
    output: Annotated[
        DownloadFormat,
        typer.Option(
            "--output", "-o", help="How to write it; json is what KFP holds, byte by byte; yaml takes a second per MB."
        ),
    ] = DownloadFormat.YAML,
) -> None:
    """Download a pipeline's file: the latest version, or another."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import download as command

    command.download(
        options, references.reference(pipeline, by_id=by_id), references.version_reference(version), to, output
    )


def graph(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: Version = "",
    by_id: ById = None,
    output: Annotated[GraphFormat, typer.Option("--output", "-o", help="How to draw it.")] = GraphFormat.TEXT,
    width: Annotated[
        int | None,
        typer.Option("--width", min=20, metavar="N", help="Columns of the text; the terminal's, or 80 in a pipe."),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw the text with ASCII characters only.")] = False,
) -> None:
    """Draw the tasks of a pipeline, here or for a document."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import graph as command

    ref, version_ref = references.reference(pipeline, by_id=by_id), references.version_reference(version)
    command.graph(options, ref, version_ref, output, width=width, ascii_only=ascii_only)


def payload(
    options: Annotated[ClientOptions, "namespace"],
    file: File,
    *,
    name: Name = None,
    version_name: VersionName = "",
    description: Description = "",
    display_name: DisplayName = "",
    tag: Tags = None,
    code_source_url: Source = "",
    if_exists: IfExists = IfExistsChoice.NEW_VERSION,
    request_id: RequestId = "",
    function: Function = None,
) -> None:
    """Print an upload as JSON messages, for grpcurl -d @."""
    from kfadapter_grpc.cli.commands import payload as command
    from kfadapter_grpc.cli.upload_options import upload_request

    request = upload_request(
        file,
        name=name,
        version_name=version_name,
        description=description,
        display_name=display_name,
        namespace=options.namespace,
        tags=tag or [],
        code_source_url=code_source_url,
        if_exists=if_exists.value,
        request_id=request_id,
    )
    command.payload(file, request, named=name is not None, function=function, seconds=options.timeout)
