"""The download command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_grpc.cli.choices import DownloadFormat
    from kfadapter_grpc.cli.client_options import ClientOptions
    from kfadapter_grpc.domain.models import PipelineRef, VersionRef


def download(
    options: ClientOptions, ref: PipelineRef, version: VersionRef, to: Path | None, style: DownloadFormat
) -> None:
    """Writes a pipeline's file to stdout or to a file."""
    raise NotImplementedError
