"""`kfadapter upload` and `kfadapter payload`: upload a pipeline's file, or print the messages of the upload."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.check import print_findings
from kfadapter_grpc.cli.completion import pipeline_names
from kfadapter_grpc.cli.errors import UsageError
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.options import ClientOptions, Description, File, Format, Function, Tags
from kfadapter_grpc.cli.pipeline_file import PipelineFile, pipeline_files, several_pipelines_error
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.cli.values import tags
from kfadapter_grpc.contract.pipelines import IfExists, UploadPipelineMetadata
from kfadapter_grpc.printable import one_line

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client, UploadReceipt

CHUNK_BYTES = 64 * 1024
STDIN_DESCRIPTOR = 0
_OPTIONS = {
    "display_name": "--display-name",
    "description": "--description",
    "tags": "--tag",
    "code_source_url": "--code-source-url",
}
"""The options for fields that KFP may not store."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    name: Annotated[
        str | None,
        typer.Option(
            help="Pipeline name; defaults to the file name without suffix, for a .py to the pipeline's own name.",
            autocompletion=pipeline_names,
        ),
    ] = None
    version_name: Annotated[str, typer.Option(help="Version name; numbered if omitted.")] = ""
    description: Description = ""
    display_name: Annotated[str, typer.Option(help="Display name.")] = ""
    tag: Tags = None
    code_source_url: Annotated[str, typer.Option(metavar="URL", help="URL of the source code.")] = ""
    if_exists: Annotated[
        Literal["new-version", "fail", "skip-if-same"] | None,
        typer.Option(
            help="What to do if the pipeline exists; defaults to skip-if-same: the same bytes make no new version, "
            "unless --version-name names one."
        ),
    ] = None
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Store a new version in any case: --if-exists new-version.")
    ] = False
    request_id: Annotated[str, typer.Option(metavar="ID", help="Idempotency key of the upload.")] = ""
    function: Function = None

    def arguments(self, path: Path) -> dict[str, Any]:
        """Returns them as the client takes them; without a name unless it was set."""
        if self.new_version and self.if_exists not in {None, "new-version"}:
            raise typer.BadParameter(f"--new-version contradicts --if-exists {self.if_exists}; give one of them")
        is_new = self.new_version or self.version_name
        if self.name is None and path == STDIN:
            raise UsageError(
                "the pipeline has no name",
                why="standard input has no name, unlike a file",
                next_step=again("--name", "NAME", text="with a name of your choice"),
            )
        return {
            "version_name": self.version_name,
            "description": self.description,
            "display_name": self.display_name,
            "tags": tags(self.tag),
            "code_source_url": self.code_source_url,
            "if_exists": IfExists(self.if_exists or ("new-version" if is_new else "skip-if-same")),
            "request_id": self.request_id,
        }

    def name_for(self, file: PipelineFile) -> str:
        return file.name if self.name is None else self.name


def upload(
    options: ClientOptions,
    file: File,
    upload_options: UploadOptions,
    *,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Output format; 'name' prints the pipeline's name.")
    ] = "table",
) -> None:
    """Upload a pipeline as a new pipeline or a new version.

    If a version has the same bytes already, nothing is stored; --new-version stores them again.
    """
    arguments = upload_options.arguments(file)
    with pipeline_files(file, upload_options.function, options.timeout) as files:
        if upload_options.name is not None and len(files) > 1:
            raise several_pipelines_error(files, file, "--name is for one of them")
        receipts: list[UploadReceipt] = []
        for pipeline in files:
            print_findings(pipeline)
        try:
            with options.client() as client:
                receipts.extend(
                    _upload(client, pipeline, upload_options, {**arguments, "name": upload_options.name_for(pipeline)})
                    for pipeline in files
                )
        finally:  # the result is printed even if the next file is rejected
            if receipts:
                _print(receipts, output, as_list=len(files) > 1)


def payload(options: Annotated[ClientOptions, "namespace"], file: File, upload_options: UploadOptions) -> None:
    """Print an upload as JSON messages, for grpcurl -d @."""
    from kfadapter_grpc.cli.contexts import in_use

    arguments = {**upload_options.arguments(file), "namespace": in_use(options)[1].namespace}
    with pipeline_files(file, upload_options.function, options.timeout) as files:
        if len(files) > 1:
            raise several_pipelines_error(files, file, "one upload stores one pipeline")
        _print_messages(files[0].path, UploadPipelineMetadata(name=upload_options.name_for(files[0]), **arguments))


def _upload(client: "Client", file: PipelineFile, options: UploadOptions, arguments: dict[str, Any]) -> "UploadReceipt":
    if file.path == STDIN:
        # Unbuffered: a thread that still waits for input must not hold a lock that Python's exit needs.
        with open(STDIN_DESCRIPTOR, "rb", buffering=0, closefd=False) as stream:
            receipt = send(client, stream, **arguments)
    else:
        receipt = send(client, file.path, **arguments)
    if receipt.duplicate_check_skipped and (options.if_exists == "skip-if-same" or options.request_id):
        out.note("warning: this Kubeflow Pipelines keeps no tags, so earlier uploads of the file could not be detected")
    if receipt.not_kept:
        ignored = ", ".join(_OPTIONS.get(name, name) for name in receipt.not_kept)
        out.note(f"warning: this Kubeflow Pipelines did not store {ignored}")
    if not receipt.version_created:
        out.note(f"{describe_existing(client, receipt)}; --new-version stores it again")
        if ignored := ", ".join(option for name, option in _OPTIONS.items() if arguments[name]):
            out.note(f"warning: {ignored} was not stored; kfadapter update sets name and tags")
    return receipt


def describe_existing(client: "Client", receipt: "UploadReceipt") -> str:
    """Formats which version has the bytes of an upload that stored nothing, and whether a later one exists."""
    pipeline, version = receipt.pipeline, receipt.version
    latest = client.pipelines.get(pipeline_id=pipeline.pipeline_id).latest_version
    later = f", though the latest version is {latest.name}" if latest and latest.sha256 != receipt.sha256 else ""
    return one_line(f"nothing was stored: version {version.name} of {pipeline.name} has the same bytes{later}")


def send(client: "Client", source: Path | BinaryIO, name: str, **arguments: Any) -> "UploadReceipt":  # noqa: ANN401
    """Uploads a file, with a progress bar on a terminal; `arguments` are the client's further ones."""
    title = one_line(name)
    with out.progress_bar(f"uploading {title}", f"storing {title}") as progress:
        return client.pipelines.upload(source, name=name, progress=progress, **arguments)


def _print(receipts: Sequence["UploadReceipt"], style: Format, *, as_list: bool) -> None:
    from kfadapter_grpc.cli.pipeline_view import print_receipt

    if style == "table":
        for number, receipt in enumerate(receipts):
            if number:
                out.print_line("")
            print_receipt(receipt)
    elif style == "name":
        out.print_names(receipt.pipeline.name for receipt in receipts)
    else:
        out.print_document(receipts if as_list else receipts[0], style)


def _print_messages(path: Path, request: UploadPipelineMetadata) -> None:
    """Prints an upload as the JSON of its messages, one per line."""
    import base64
    import json

    from google.protobuf import json_format

    from kfadapter.v1 import pipeline_pb2
    from kfadapter_grpc.client.upload import measure
    from kfadapter_grpc.codec import to_message

    def print_message(message: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")

    metadata = to_message(request, pipeline_pb2.UploadPipelineMetadata)
    with nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as stream:
        if path != STDIN:
            metadata.total_bytes, metadata.sha256 = measure(stream)
            stream.seek(0)
        print_message({"metadata": json_format.MessageToDict(metadata, preserving_proto_field_name=True)})
        while chunk := stream.read(CHUNK_BYTES):
            print_message({"chunk": base64.b64encode(chunk).decode("ascii")})
