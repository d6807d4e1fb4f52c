"""Cases of recurring runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfadapter_grpc.kfp_backend.error_table.row import Row

ROWS: tuple[Row, ...] = ()
"""The cases, in the order in which they are tried."""
