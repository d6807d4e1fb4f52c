"""`kfadapter get`, `list`, `update`, `delete`, `versions` and `download`: pipelines and their versions."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, TypeAlias, cast

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import version_names
from kfadapter_grpc.cli.errors import NotFoundError
from kfadapter_grpc.cli.invocation import PIPELINE, Invocation, other
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import find_version, pipeline_reference, version_reference
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.cli.values import Period, tags
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import Pipeline, PipelineRef, PipelineVersion
from kfadapter_grpc.printable import counted

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

_MEMORY_BYTES = 1024 * 1024
_Get: TypeAlias = Callable[..., Pipeline | PipelineVersion]
NEWEST = 5


def get(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    *,
    version: opt.OneVersion = None,
    by_id: opt.ById = None,
    output: opt.Output = "table",
) -> None:
    """Show a pipeline: parameters, artifacts, tasks, versions."""
    from kfadapter_grpc.cli import pipeline_view as view
    from kfadapter_grpc.codec import to_json, to_listed_json

    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        if version is not None:
            found = find_version(client, ref, version)
            out.print_record(found, output, name=found.name, table=lambda: view.print_version(found, ref.name))
            return
        record = client.pipelines.get(ref.name, pipeline_id=ref.pipeline_id, view=View.FULL)
        newest = () if output == "name" else _newest(client, record)
    document = to_json(record) | {"versions": [to_listed_json(each) for each in newest]}
    every = Invocation(pipeline=record.name, options=options).format(other("versions", PIPELINE))
    out.print_record(document, output, name=record.name, table=lambda: view.print_pipeline(record, newest, every))


def _newest(client: "Client", pipeline: Pipeline) -> Sequence[PipelineVersion]:
    """Requests the newest versions, unless there is only the latest."""
    latest = pipeline.latest_version
    if latest is None or pipeline.version_count == 1:
        return () if latest is None else (latest,)
    return client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, page_size=NEWEST).page().items


def list_(
    options: ClientOptions,
    *,
    contains: opt.Contains = "",
    created_after: opt.CreatedAfter = "",
    created_before: opt.CreatedBefore = "",
    tag: opt.Tags = None,
    order_by: Annotated[str, opt.order_by_fields("created_at, name or pipeline_id", "name")] = "",
    limit: opt.Limit = 0,
    listed: ListOptions,
) -> None:
    """List pipelines, newest first."""
    from kfadapter_grpc.cli.pipeline_view import PIPELINES

    created, required_tags = Period(created_after, created_before), tags(tag)
    with options.client() as client:
        pipelines = client.pipelines.list(
            name_contains=contains,
            created_after=created.after,
            tags=required_tags,
            order_by=listed.order_by(PIPELINES, order_by),
            page_size=created.page_size(limit),
        )
        listed.print(created.select(pipelines), PIPELINES, limit=limit)


def update(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    *,
    version: opt.OneVersion = None,
    by_id: opt.ById = None,
    display_name: Annotated[str | None, typer.Option(help="Display name; '' resets it to the name.")] = None,
    tag: opt.Tags = None,
    remove_tag: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Remove a tag; may be repeated.")] = None,
    output: opt.Output = "table",
) -> None:
    """Change the display name or the tags of a pipeline, or of one version."""
    from kfadapter_grpc.cli.pipeline_view import format_tags

    added, removed = tags(tag), {*(remove_tag or ())}
    if display_name is None and not added and not removed:
        raise typer.BadParameter("nothing to change; give --display-name, --tag or --remove-tag")
    if in_both := added.keys() & removed:
        raise typer.BadParameter(f"the tag '{min(in_both)}' is in --tag and in --remove-tag")
    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        which = {"pipeline_id": ref.pipeline_id}
        if version is not None:
            version_ref = version_reference(client, ref, version)
            which |= {"version_name": version_ref.name, "pipeline_version_id": version_ref.pipeline_version_id}
        calls = client.pipelines
        get: _Get = partial(calls.get, view=View.BASIC) if version is None else calls.get_version
        change: _Get = calls.update if version is None else calls.update_version
        old_tags = get(ref.name, **which).tags if added or removed else {}
        new_tags = {key: value for key, value in old_tags.items() if key not in removed} | added
        changed = change(ref.name, **which, display_name=display_name, tags=new_tags if added or removed else None)
    fields = [
        ("Pipeline" if version is None else "Version", changed.name),
        ("Display name", changed.display_name),
        ("Tags", format_tags(changed.tags)),
    ]
    out.print_record(changed, output, name=changed.name, table=lambda: out.print_fields(fields))


def delete(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    *,
    version: opt.OneVersion = None,
    by_id: opt.ById = None,
    force: Annotated[bool, typer.Option("--force", help="Delete it even if it has more than one version.")] = False,
    allow_missing: opt.AllowMissing = False,
    yes: opt.Yes = False,
    output: opt.Output = "table",
) -> None:
    """Delete a pipeline and its versions, or one version."""
    asks = not yes and out.is_interactive()
    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        if version is not None:
            _delete_version(client, ref, version, output, allow_missing=allow_missing, asks=asks)
            return
        question = _question(client, ref, force=force, allow_missing=allow_missing) if asks else ""
        if question:
            out.confirm(question)
        result = client.pipelines.delete(
            ref.name, pipeline_id=ref.pipeline_id, force=force, allow_missing=allow_missing
        )
    out.print_deletion(
        result,
        output,
        name=result.name if result.pipeline_id else "",
        text=f"deleted {result.name} with {counted(result.versions_deleted, 'version')}",
        missing=f"not found: pipeline {ref}",
    )


def _delete_version(
    client: "Client", ref: PipelineRef, name: str, style: opt.Format, *, allow_missing: bool, asks: bool
) -> None:
    version = version_reference(client, ref, name)
    if asks:
        out.confirm(f"Delete version {version} of pipeline {ref}?")
    result = client.pipelines.delete_version(
        ref.name,
        pipeline_id=ref.pipeline_id,
        version_name=version.name,
        pipeline_version_id=version.pipeline_version_id,
        allow_missing=allow_missing,
    )
    out.print_deletion(
        result,
        style,
        name=result.name if result.pipeline_version_id else "",
        text=f"deleted version {result.name} of pipeline {ref}",
        missing=f"not found: version {version} of pipeline {ref}",
    )


def _question(client: "Client", ref: PipelineRef, *, force: bool, allow_missing: bool) -> str:
    """The confirmation prompt; none if the call would fail or do nothing anyway."""
    if allow_missing:
        return f"Delete pipeline {ref}?"
    pipeline = client.pipelines.get(ref.name, pipeline_id=ref.pipeline_id, view=View.FULL)
    count = pipeline.version_count or 0
    return "" if count > 1 and not force else f"Delete the pipeline '{pipeline.name}' with {counted(count, 'version')}?"


def list_versions(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    *,
    by_id: opt.ById = None,
    created_after: opt.CreatedAfter = "",
    created_before: opt.CreatedBefore = "",
    order_by: Annotated[str, opt.order_by_fields("created_at, name or pipeline_version_id", "name")] = "",
    limit: opt.Limit = 0,
    listed: ListOptions,
) -> None:
    """List the versions of a pipeline, newest first."""
    from kfadapter_grpc.cli.pipeline_view import VERSIONS

    created, order = Period(created_after, created_before), listed.order_by(VERSIONS, order_by)
    with options.client() as client:
        ref = pipeline_reference(client, pipeline, by_id=by_id)
        versions = client.pipelines.list_versions(
            ref.name, pipeline_id=ref.pipeline_id, order_by=order, page_size=created.page_size(limit)
        )
        listed.print(created.select(versions, newest_first=not order), VERSIONS, limit=limit)


def diff(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    before: Annotated[
        str, opt.argument("A version; defaults to the newest besides the latest.", version_names, "BEFORE")
    ] = "",
    after: Annotated[str, opt.argument("A version; defaults to the latest.", version_names, "AFTER")] = "",
    *,
    by_id: opt.ById = None,
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


versions = group("List the versions of a pipeline, newest first; compare two.", diff, list=list_versions, lists_of=True)


def _before(client: "Client", ref: PipelineRef, latest: PipelineVersion) -> PipelineVersion:
    """Gets the newest version besides the latest."""
    every = client.pipelines.list_versions(ref.name, pipeline_id=ref.pipeline_id)
    ids = (version.pipeline_version_id for version in every)
    older = next((which for which in ids if which != latest.pipeline_version_id), None)
    if older is None:
        raise NotFoundError(
            f"pipeline {ref} has no other version",
            why=f"{latest.name} is its only version",
            next_step=other("versions", PIPELINE, text="shows the versions there are"),
        )
    return find_version(client, ref, older)


def download(
    options: ClientOptions,
    pipeline: opt.PipelineName,
    *,
    version: opt.Version = "",
    by_id: opt.ById = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to a file, not to stdout.")] = None,
    output: Annotated[
        Literal["yaml", "json"],
        typer.Option(
            "--output", "-o", help="Output format; json is KFP's content, byte by byte; yaml takes a second per MB."
        ),
    ] = "yaml",
) -> None:
    """Download the file of a version, by default the latest."""
    from kfadapter_grpc.client.download import atomic_write
    from kfadapter_grpc.pipeline_yaml import write_yaml

    to = None if to == STDIN else to
    with (
        out.stdout() if to is None else atomic_write(to) as target,
        tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as spooled,
    ):
        file = target if output == "json" else cast("BinaryIO", spooled)
        with options.client() as client:
            ref = pipeline_reference(client, pipeline, by_id=by_id)
            which = version_reference(client, ref, version or None)
            receipt = client.pipelines.download(
                ref.name,
                pipeline_id=ref.pipeline_id,
                version_name=which.name,
                pipeline_version_id=which.pipeline_version_id,
                to=file,
            )
        written = f"{receipt.size} bytes, SHA-256 {receipt.sha256}"
        if output == "yaml":
            file.seek(0)
            write_yaml(file, target)
            written = "YAML"
    if to is not None:
        out.note(f"wrote {to} ({written})")
