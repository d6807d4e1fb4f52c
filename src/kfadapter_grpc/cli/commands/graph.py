"""The graph command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfadapter_grpc.cli.choices import GraphFormat
    from kfadapter_grpc.cli.client_options import ClientOptions
    from kfadapter_grpc.domain.models import PipelineRef, VersionRef


def graph(
    options: ClientOptions,
    ref: PipelineRef,
    version: VersionRef,
    style: GraphFormat,
    *,
    width: int | None,
    ascii_only: bool,
) -> None:
    """Draws the tasks of a pipeline."""
    raise NotImplementedError
