"""What download does: writes a pipeline's file to stdout or to a file, as YAML or as the bytes that come."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import DownloadFormat
from kfadapter_grpc.cli.pipeline_file import STDIN as DASH
from kfadapter_grpc.cli.pipeline_yaml import write_yaml
from kfadapter_grpc.client.download import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import DownloadReceipt
    from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef

_MEMORY_BYTES = 1024 * 1024


def download(
    options: ClientOptions, ref: PipelineRef, version: VersionRef, to: Path | None, style: DownloadFormat
) -> None:
    """Writes a pipeline's file; what is downloaded appears under its name only once it is complete."""
    to = None if to == DASH else to
    with _stdout() if to is None else replaced(to) as target:
        if style is DownloadFormat.JSON:
            receipt = _receive(options, ref, version, target)
            told = f"{receipt.size} bytes, SHA-256 {receipt.sha256}"
        else:
            with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as file:
                _receive(options, ref, version, file)  # type: ignore[arg-type] # it has all that a BinaryIO has
                file.seek(0)
                write_yaml(file, target)  # type: ignore[arg-type]
            told = "YAML"
    if to is not None:
        output.note(f"wrote {to} ({told})")


def _receive(options: ClientOptions, ref: PipelineRef, version: VersionRef, target: BinaryIO) -> DownloadReceipt:
    with options.client() as client:
        return client.pipelines.download(
            ref.name,
            pipeline_id=ref.pipeline_id,
            version_name=version.name,
            pipeline_version_id=version.pipeline_version_id,
            to=target,
        )


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    """The standard output, for bytes; on a terminal the next prompt begins a line."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
    if sys.stdout.isatty():
        sys.stdout.write("\n")
