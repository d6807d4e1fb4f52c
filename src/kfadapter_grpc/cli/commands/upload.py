"""What upload does: compiles a `.py`, streams the file up with a progress bar, says what was made."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.pipeline_file import STDIN, PipelineFile, check_one_for_name, pipeline_files
from kfadapter_grpc.cli.pipeline_view import print_receipt
from kfadapter_grpc.cli.records import record
from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.contract.pipelines import IfExists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import UploadReceipt
    from kfadapter_grpc.contract.pipelines import UploadPipelineMetadata

_OPTIONS = {
    "display_name": "--display-name",
    "description": "--description",
    "tags": "--tag",
    "code_source_url": "--code-source-url",
}
"""The options that set what KFP may not keep."""

STDIN_DESCRIPTOR = 0
"""The file descriptor of the standard input."""


def upload(
    options: ClientOptions,
    path: Path,
    request: UploadPipelineMetadata,
    style: Format,
    *,
    named: bool,
    function: str | None,
) -> None:
    """Uploads a file; of a `.py` every pipeline in it, one after the other, unless `function` names one.

    Args:
        options: Where to.
        path: The file.
        request: How it is to be stored.
        style: How to print what was made.
        named: Whether the request's name was given; otherwise a `.py` is stored under its pipelines' own.
        function: Which pipeline of a `.py` to take.

    Raises:
        CommandError: The file cannot be read or compiled.
    """
    with pipeline_files(path, function, options.timeout) as files:
        if named:
            check_one_for_name(files, path)
        requests = [request if named else replace(request, name=file.name) for file in files]
        receipts: list[UploadReceipt] = []
        try:
            receipts.extend(_upload(options, *each) for each in zip(files, requests, strict=True))
        finally:  # what was stored is told, also when the next one is refused
            if receipts:
                _print(receipts, style, several=len(files) > 1)


def _upload(options: ClientOptions, file: PipelineFile, request: UploadPipelineMetadata) -> UploadReceipt:
    if file.path == STDIN:
        # Unbuffered: a thread that still waits for input must not hold a lock that Python's exit needs.
        with open(STDIN_DESCRIPTOR, "rb", buffering=0, closefd=False) as stream:
            receipt = send(options, stream, request)
    else:
        receipt = send(options, file.path, request)
    if receipt.duplicate_check_skipped and (request.if_exists is IfExists.SKIP_IF_SAME or request.request_id):
        output.note(
            "warning: this Kubeflow Pipelines keeps no tags, so an earlier upload of the file was not looked for"
        )
    if receipt.not_kept:
        given = ", ".join(_OPTIONS.get(name, name) for name in receipt.not_kept)
        output.note(f"warning: this Kubeflow Pipelines did not keep what was given with {given}")
    return receipt


def send(options: ClientOptions, source: Path | BinaryIO, request: UploadPipelineMetadata) -> UploadReceipt:
    """Sends a file, with a progress bar on a terminal."""
    with options.client() as client, _progress(request.name) as told:
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
            progress=told,
        )


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Shows a bar on stderr while it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = one_line(name)
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as bars:
        task = bars.add_task(f"uploading {shown}", total=None)

        def told(sent: int, total: int | None) -> None:
            done = sent == total
            bars.update(task, completed=sent, total=total, description=f"{'storing' if done else 'uploading'} {shown}")

        yield told


def _print(receipts: list[UploadReceipt], style: Format, *, several: bool) -> None:
    if style is Format.TABLE:
        for number, receipt in enumerate(receipts):
            if number:
                output.print_line("")
            print_receipt(receipt)
    elif style is Format.NAME:
        output.print_names(receipt.pipeline.name for receipt in receipts)
    elif several:
        output.print_document([record(receipt) for receipt in receipts], style)
    else:
        output.print_document(record(receipts[0]), style)
