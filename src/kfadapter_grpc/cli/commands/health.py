"""The health command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfadapter_grpc.cli.client_options import ClientOptions


def health(options: ClientOptions, service: str) -> None:
    """Asks an adapter whether it serves."""
    raise NotImplementedError
