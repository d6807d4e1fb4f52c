"""`kfadapter upload` and `kfadapter payload`: send a pipeline's file, or print the messages that would send it."""
# ruff: noqa: PLC0415  help loads no more than it needs

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.option_types import (
    Description,
    DisplayName,
    File,
    Format,
    Function,
    IfExists,
    IfExistsChoice,
    Name,
    RequestId,
    Source,
    Tags,
    VersionName,
)
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.pipeline_file import default_name, pipeline_files, several
from kfadapter_grpc.cli.python_file import PipelineFile
from kfadapter_grpc.cli.streams import STDIN, utf8
from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.cli.values import tags

if TYPE_CHECKING:
    from kfadapter_grpc.client import UploadReceipt
    from kfadapter_grpc.contract.pipelines import UploadPipelineMetadata

CHUNK_BYTES = 64 * 1024
"""How many bytes of the file go into one message of `payload`."""
STDIN_DESCRIPTOR = 0
"""The file descriptor of the standard input."""
_OPTIONS = {
    "display_name": "--display-name",
    "description": "--description",
    "tags": "--tag",
    "code_source_url": "--code-source-url",
}
"""The options that set what KFP may not keep."""


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
        Format, typer.Option("--output", "-o", help="Output format; 'name' prints the pipeline's name.")
    ] = Format.TABLE,
) -> None:
    """Upload a pipeline as a new pipeline or a new version."""
    request = _request(
        file,
        name,
        if_exists,
        tag,
        version_name=version_name,
        description=description,
        display_name=display_name,
        code_source_url=code_source_url,
        request_id=request_id,
    )
    with pipeline_files(file, function, options.timeout) as files:
        if name is not None and len(files) > 1:
            raise several(files, file, "--name is for one of them")
        receipts: list[UploadReceipt] = []
        try:
            receipts.extend(
                _upload(options, one, request if name is not None else replace(request, name=one.name)) for one in files
            )
        finally:  # what was stored is printed, also when the next one is refused
            if receipts:
                _print(receipts, output, several=len(files) > 1)


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
    request = _request(
        file,
        name,
        if_exists,
        tag,
        version_name=version_name,
        description=description,
        display_name=display_name,
        code_source_url=code_source_url,
        request_id=request_id,
        namespace=options.namespace,
    )
    with pipeline_files(file, function, options.timeout) as files:
        if len(files) > 1:
            raise several(files, file, "one upload stores one pipeline")
        _print_messages(files[0].path, request if name is not None else replace(request, name=files[0].name))


def _request(
    path: Path, name: str | None, if_exists: IfExistsChoice, tag: Sequence[str] | None, **rest: str
) -> "UploadPipelineMetadata":
    """Says how a file is to be stored, under the file's name unless one is given.

    Raises:
        CommandError: The standard input has no name, and none was given.
    """
    from kfadapter_grpc.contract.pipelines import IfExists, UploadPipelineMetadata

    if name is None:
        if path == STDIN:
            raise CommandError(
                "the pipeline has no name",
                why="the standard input has none of its own, as a file has",
                next_step=again("--name", "NAME", words="with a name of your choice"),
                exit_code=ExitCode.USAGE,
            )
        name = utf8(default_name(path))
    return UploadPipelineMetadata(name=name, if_exists=IfExists(if_exists.value), tags=tags(tag), **rest)  # type: ignore[arg-type]


def _upload(options: ClientOptions, file: PipelineFile, request: "UploadPipelineMetadata") -> "UploadReceipt":
    from kfadapter_grpc.contract.pipelines import IfExists

    if file.path == STDIN:
        # Unbuffered: a thread that still waits for input must not hold a lock that Python's exit needs.
        with open(STDIN_DESCRIPTOR, "rb", buffering=0, closefd=False) as stream:
            receipt = send(options, stream, request)
    else:
        receipt = send(options, file.path, request)
    if receipt.duplicate_check_skipped and (request.if_exists is IfExists.SKIP_IF_SAME or request.request_id):
        out.note("warning: this Kubeflow Pipelines keeps no tags, so an earlier upload of the file was not looked for")
    if receipt.not_kept:
        given = ", ".join(_OPTIONS.get(name, name) for name in receipt.not_kept)
        out.note(f"warning: this Kubeflow Pipelines did not keep what was given with {given}")
    return receipt


def send(options: ClientOptions, source: Path | BinaryIO, request: "UploadPipelineMetadata") -> "UploadReceipt":
    """Sends a file, with a progress bar on a terminal."""
    with options.client() as client, _progress(request.name) as progress:
        return client.pipelines.upload(
            source,
            name=request.name,
            version_name=request.version_name,
            description=request.description,
            display_name=request.display_name,
            tags=request.tags,
            code_source_url=request.code_source_url,
            if_exists=request.if_exists,
            request_id=request.request_id,
            progress=progress,
        )


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Shows a bar on stderr while it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = one_line(name)
    with Progress(*columns, console=out.console(sys.stderr), transient=True) as bars:
        task = bars.add_task(f"uploading {shown}", total=None)

        def update(sent: int, total: int | None) -> None:
            done = sent == total
            bars.update(task, completed=sent, total=total, description=f"{'storing' if done else 'uploading'} {shown}")

        yield update


def _print(receipts: Sequence["UploadReceipt"], style: Format, *, several: bool) -> None:
    from kfadapter_grpc.cli.pipeline_view import print_receipt
    from kfadapter_grpc.codec import to_json

    if style is Format.TABLE:
        for number, receipt in enumerate(receipts):
            if number:
                out.print_line("")
            print_receipt(receipt)
    elif style is Format.NAME:
        out.print_names(receipt.pipeline.name for receipt in receipts)
    else:
        out.print_document([to_json(receipt) for receipt in receipts] if several else to_json(receipts[0]), style)


def _print_messages(path: Path, request: "UploadPipelineMetadata") -> None:
    """Prints an upload as the JSON of its messages, one on each line."""
    import base64
    import json

    from google.protobuf import json_format

    from kfadapter.v1 import pipeline_pb2
    from kfadapter_grpc.client.upload import measure
    from kfadapter_grpc.codec import to_message

    def print_message(message: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")

    metadata = to_message(request, pipeline_pb2.UploadPipelineMetadata)
    if path != STDIN:
        metadata.total_bytes, metadata.sha256 = measure(path)
    print_message({"metadata": json_format.MessageToDict(metadata, preserving_proto_field_name=True)})
    with nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            print_message({"chunk": base64.b64encode(chunk).decode("ascii")})
