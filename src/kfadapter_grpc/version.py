"""Which version this is."""

from __future__ import annotations

import importlib.metadata

DISTRIBUTION = "kfadapter-grpc"
"""What the package is installed as."""


def installed_version() -> str:
    """Tells the version that is installed; empty where the source was not installed at all."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""
