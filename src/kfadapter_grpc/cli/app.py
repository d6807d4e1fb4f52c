"""The commands of `kfadapter` with their options; what they do is in `commands`.

Typer reads the annotations when the program starts, so they stand here as they are, and what a command needs is
imported when it runs: `kfadapter --help` loads neither gRPC nor Rich.
"""
# ruff: noqa: PLC0415

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import DownloadFormat, Format, GraphFormat, IfExistsChoice, LogFormat, LogLevel
from kfadapter_grpc.cli.client_options import ClientOptions
from kfadapter_grpc.cli.completion import join_bash_words, pipeline_names, version_names
from kfadapter_grpc.cli.exit_codes import epilog
from kfadapter_grpc.cli.guard import guarded, run_program
from kfadapter_grpc.cli.program import Program
from kfadapter_grpc.cli.streams import native_path, prepare_streams, utf8_arguments

DISTRIBUTION = "kfadapter-grpc"
"""What the package is installed as."""

app = typer.Typer(
    name="kfadapter",
    cls=Program,
    help="Uploads, finds, shows and deletes pipelines of Kubeflow Pipelines through a kfadapter server.",
    epilog=epilog(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Target = Annotated[
    str | None,
    typer.Option("--target", "-t", metavar="HOST:PORT", help="The adapter [env KFADAPTER_TARGET; 127.0.0.1:50051]."),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long each call may take.")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; the adapter's own if not given.")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID", help="The pipeline; what looks like a UUID is an id.", autocompletion=pipeline_names
    ),
]
Version = Annotated[
    str,
    typer.Option(
        "--version",
        metavar="NAME|ID",
        help="Which version; what looks like a UUID is an id.",
        autocompletion=version_names,
    ),
]
OneVersion = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="NAME|ID",
        help="Only this version; what looks like a UUID is an id.",
        autocompletion=version_names,
    ),
]
ById = Annotated[bool | None, typer.Option("--id/--name", help="Take it for an id, or for a name, in any case.")]
OrderBy = Annotated[
    str,
    typer.Option(
        "--order-by",
        metavar="FIELD",
        help="created_at, name or pipeline_id; desc behind it turns it round: 'name desc'.",
    ),
]
VersionOrderBy = Annotated[
    str,
    typer.Option(
        "--order-by",
        metavar="FIELD",
        help="created_at, name or pipeline_version_id; desc behind it turns it round: 'name desc'.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most so many; 0 for all.")]
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", parser=native_path, help="YAML, JSON, zip or tar.gz; a .py is compiled first; - is stdin."
    ),
]
Function = Annotated[
    str | None, typer.Option("--function", metavar="NAME", help="Which pipeline of a .py to take; all by default.")
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="The pipeline's name; by default the file's without ending, of a .py the pipeline's own.",
        autocompletion=pipeline_names,
    ),
]
VersionName = Annotated[str, typer.Option("--version-name", help="The version's name; numbered if not given.")]
Description = Annotated[str, typer.Option("--description", help="What it is for.")]
DisplayName = Annotated[str, typer.Option("--display-name", help="What people see.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated.")]
Source = Annotated[str, typer.Option("--code-source-url", metavar="URL", help="Where the source code lives.")]
IfExists = Annotated[IfExistsChoice, typer.Option("--if-exists", help="What to do if the pipeline exists.")]
RequestId = Annotated[str, typer.Option("--request-id", metavar="ID", help="Makes the upload safe to repeat.")]


def main() -> None:
    """Runs the command line."""
    sys.exit(run_program(_program))


def _program() -> None:
    prepare_streams()
    join_bash_words(os.environ)
    app(utf8_arguments(sys.argv[1:]), prog_name="kfadapter")


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        sys.stdout.write(f"kfadapter {importlib.metadata.version(DISTRIBUTION)}\n")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    context.obj = ClientOptions(target, timeout, namespace or "")


@app.command()
@guarded
def dev(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The adapter's port; 0 for a free one.")
    ] = 50051,
    kfp_port: Annotated[int, typer.Option("--kfp-port", min=0, max=65535, help="Port of the embedded KFP.")] = 8888,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", parser=native_path, help="Where everything is kept [$XDG_STATE_HOME/kfadapter]."
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is logged.")] = LogLevel.WARNING,
) -> None:
    """Start an embedded KFP and an adapter on this machine."""
    from kfadapter_grpc.cli.commands import dev as command

    command.dev(port, kfp_port, data, log_level.value)


@app.command()
@guarded
def serve(
    *,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to listen [127.0.0.1:50051].")] = None,
    kfp_url: Annotated[str | None, typer.Option(metavar="URL", help="Where Kubeflow Pipelines is.")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="For calls that name no namespace.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Settings in TOML.")] = None,
    insecure_listen: Annotated[
        bool | None, typer.Option("--insecure-listen", help="Allow an address that others can reach.")
    ] = None,
    max_unary_calls: Annotated[int | None, typer.Option(metavar="N", help="Unary calls at once.")] = None,
    max_uploads: Annotated[int | None, typer.Option(metavar="N", help="Uploads at once.")] = None,
    max_streams: Annotated[int | None, typer.Option(metavar="N", help="Streaming answers at once.")] = None,
    max_upload_bytes: Annotated[int | None, typer.Option(metavar="N", help="The largest file taken.")] = None,
    upload_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", parser=native_path, help="Where uploads wait, on a real disk.")
    ] = None,
    grace_seconds: Annotated[float | None, typer.Option(metavar="S", help="Running calls get at the end.")] = None,
    drain_seconds: Annotated[float | None, typer.Option(metavar="S", help="Between NOT_SERVING and refusing.")] = None,
    ready_needs_kfp: Annotated[
        bool | None, typer.Option("--ready-needs-kfp", help="Health of the services follows KFP.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How the log looks.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="How much is logged.")] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection/--no-reflection", help="Let grpcurl ask for the services.")
    ] = None,
) -> None:
    """Start an adapter in front of a Kubeflow Pipelines.

    Every option can also be set as an environment variable (KFADAPTER_KFP_URL) or in a TOML file; options win.
    """
    from kfadapter_grpc.cli.commands import serve as command

    command.serve(
        config,
        listen=listen,
        kfp_url=kfp_url,
        namespace=namespace,
        insecure_listen=insecure_listen,
        max_unary_calls=max_unary_calls,
        max_uploads=max_uploads,
        max_streams=max_streams,
        max_upload_bytes=max_upload_bytes,
        upload_dir=upload_dir,
        grace_seconds=grace_seconds,
        drain_seconds=drain_seconds,
        ready_needs_kfp=ready_needs_kfp,
        log_format=log_format.value if log_format else None,
        log_level=log_level.value if log_level else None,
        reflection=reflection,
    )


@app.command()
@guarded
def upload(
    context: typer.Context,
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
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Upload a pipeline, as a new one or as a new version."""
    from kfadapter_grpc.cli.commands import upload as command
    from kfadapter_grpc.cli.upload_options import upload_request

    options = _options(context).override(target, timeout, namespace)
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


@app.command()
@guarded
def get(
    context: typer.Context,
    pipeline: PipelineName,
    *,
    version: OneVersion = None,
    by_id: ById = None,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Show a pipeline: parameters, artifacts, tasks, versions."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    options = _options(context).override(target, timeout, namespace)
    ref = references.reference(pipeline, by_id=by_id)
    if version is None:
        pipelines.get(options, ref, output)
    else:
        pipelines.get_version(options, ref, references.one_version(version), output)


@app.command("list")
@guarded
def list_(
    context: typer.Context,
    *,
    contains: Annotated[str, typer.Option("--contains", metavar="TEXT", help="Only names that hold this.")] = "",
    created_after: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only newer ones: 2026-01-31, 2026-01-31T08:00:00+09:00; no zone means UTC."),
    ] = "",
    tag: Tags = None,
    order_by: OrderBy = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """List pipelines, newest first."""
    from kfadapter_grpc.cli.commands import pipelines
    from kfadapter_grpc.cli.upload_options import parse_tags

    pipelines.list_pipelines(
        _options(context).override(target, timeout, namespace),
        output,
        contains=contains,
        created_after=pipelines.moment(created_after) if created_after else None,
        tags=parse_tags(tag or []),
        order_by=order_by,
        limit=limit,
    )


@app.command()
@guarded
def versions(
    context: typer.Context,
    pipeline: PipelineName,
    *,
    by_id: ById = None,
    order_by: VersionOrderBy = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """List the versions of a pipeline, newest first."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    options = _options(context).override(target, timeout, namespace)
    ref = references.reference(pipeline, by_id=by_id)
    pipelines.list_versions(options, ref, output, order_by=order_by, limit=limit)


@app.command()
@guarded
def delete(
    context: typer.Context,
    pipeline: PipelineName,
    *,
    version: OneVersion = None,
    by_id: ById = None,
    force: Annotated[bool, typer.Option("--force", help="Even if it has more than one version.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Succeed if there is none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked anyway.")] = False,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Delete a pipeline and its versions, or one version."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import pipelines

    options = _options(context).override(target, timeout, namespace)
    ref = references.reference(pipeline, by_id=by_id)
    if version is None:
        pipelines.delete(options, ref, output, force=force, allow_missing=allow_missing, yes=yes)
    else:
        one = references.one_version(version)
        pipelines.delete_version(options, ref, one, output, allow_missing=allow_missing, yes=yes)


@app.command()
@guarded
def download(
    context: typer.Context,
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
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Download a pipeline's file: the latest version, or another."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import download as command

    options = _options(context).override(target, timeout, namespace)
    command.download(
        options, references.reference(pipeline, by_id=by_id), references.version_reference(version), to, output
    )


@app.command()
@guarded
def graph(
    context: typer.Context,
    pipeline: PipelineName,
    *,
    version: Version = "",
    by_id: ById = None,
    output: Annotated[GraphFormat, typer.Option("--output", "-o", help="How to draw it.")] = GraphFormat.TEXT,
    width: Annotated[
        int | None,
        typer.Option("--width", min=20, metavar="N", help="Columns of the text; the terminal's if not given."),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw the text with ASCII characters only.")] = False,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Draw the tasks of a pipeline, in the terminal or for a document."""
    from kfadapter_grpc.cli import references
    from kfadapter_grpc.cli.commands import graph as command

    options = _options(context).override(target, timeout, namespace)
    ref, version_ref = references.reference(pipeline, by_id=by_id), references.version_reference(version)
    command.graph(options, ref, version_ref, output, width=width, ascii_only=ascii_only)


@app.command()
@guarded
def health(
    context: typer.Context,
    service: Annotated[
        str,
        typer.Argument(metavar="SERVICE", help="A service's full name, or 'kfp'; the server itself if not given."),
    ] = "",
    *,
    target: Target = None,
    timeout: Timeout = None,
) -> None:
    """Ask an adapter whether it serves; for containers and scripts."""
    from kfadapter_grpc.cli.commands import health as command

    command.health(_options(context).override(target, timeout, None), service)


@app.command()
@guarded
def payload(
    context: typer.Context,
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
    namespace: Namespace = None,
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
        namespace=namespace or _options(context).namespace,
        tags=tag or [],
        code_source_url=code_source_url,
        if_exists=if_exists.value,
        request_id=request_id,
    )
    command.payload(file, request, named=name is not None, function=function, seconds=_options(context).timeout)


def _options(context: typer.Context) -> ClientOptions:
    options = context.obj
    return options if isinstance(options, ClientOptions) else ClientOptions()
