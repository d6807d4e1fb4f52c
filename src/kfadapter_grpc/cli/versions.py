"""`kfadapter versions`: the versions of a pipeline."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import version_names
from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.invocation import PIPELINE, other
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.option_types import (
    ById,
    CreatedAfter,
    CreatedBefore,
    Limit,
    PipelineName,
    order_by_fields,
)
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import find_version, pipeline_reference
from kfadapter_grpc.cli.values import Period

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.pipelines import PipelineRef, PipelineVersion


def list_(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    by_id: ById = None,
    created_after: CreatedAfter = "",
    created_before: CreatedBefore = "",
    order_by: Annotated[str, order_by_fields("created_at, name or pipeline_version_id", "name")] = "",
    limit: Limit = 0,
    listed: ListOptions,
) -> None:
    """List the versions of a pipeline, newest first."""
    from kfadapter_grpc.cli.pipeline_view import VERSIONS

    created, order = Period(created_after, created_before), listed.order_by(VERSIONS, order_by)
    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        found = client.pipelines.list_versions(
            ref.name, pipeline_id=ref.pipeline_id, order_by=order, page_size=created.page_size(limit)
        )
        listed.print(created.select(found, newest_first=not order), VERSIONS, limit=limit)


def diff(
    options: ClientOptions,
    pipeline: PipelineName,
    before: Annotated[
        str,
        typer.Argument(
            metavar="BEFORE",
            help="A version; defaults to the newest besides the latest.",
            autocompletion=version_names,
        ),
    ] = "",
    after: Annotated[
        str,
        typer.Argument(metavar="AFTER", help="A version; defaults to the latest.", autocompletion=version_names),
    ] = "",
    *,
    by_id: ById = None,
    output: Annotated[
        Literal["table", "csv", "json", "diff"],
        typer.Option("--output", "-o", help="Output format; diff compares the files line by line, code included."),
    ] = "table",
) -> None:
    """Compare two versions of a pipeline: parameters, artifacts and tasks."""
    from kfadapter_grpc.cli.comparison_view import print_changed_lines, print_changes

    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        new = find_version(client, ref, after or None)
        old = find_version(client, ref, before) if before else _before(client, ref, new)
        if output == "diff":
            print_changed_lines(client, old, new)
        else:
            print_changes(old, new, output)


versions = group("List the versions of a pipeline, newest first; compare two.", list_, diff, lists_of=True)


def _before(client: "Client", ref: "PipelineRef", latest: "PipelineVersion") -> "PipelineVersion":
    """Gets the newest version besides the latest."""
    every = client.pipelines.list_versions(ref.name, pipeline_id=ref.pipeline_id)
    ids = (one.pipeline_version_id for one in every)
    older = next((which for which in ids if which != latest.pipeline_version_id), None)
    if older is None:
        raise CommandError(
            f"pipeline {ref} has no other version",
            why=f"{latest.name} is its only version",
            next_step=other("versions", PIPELINE, words="shows the versions there are"),
            exit_code=ExitCode.NOT_FOUND,
        )
    return find_version(client, ref, older)
