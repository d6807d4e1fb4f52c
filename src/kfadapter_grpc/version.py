"""The running versions: of this program, and of its dependencies."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

DISTRIBUTION = "kfadapter-grpc"
BESIDE = ("grpcio", "protobuf", "kfp-server-api", "kfp")
"""Packages that a fault may come from, too; the last two are not always installed."""
_MISSING = "not installed"
_GIT_SECONDS = 2.0


def installed_version() -> str:
    """Returns the installed version; empty if the source was not installed."""
    return _try_version(DISTRIBUTION) or ""


def running() -> Mapping[str, str]:
    """Returns the versions of this program, of Python, and of the packages whose versions matter, by name.

    A version between two releases contains its commit (`0.2.0.dev5+g0123abc`); one that runs from a checkout contains
    that checkout's commit as well, as it may have changed since the installation.
    """
    beside = {name: _try_version(name) or _MISSING for name in BESIDE}
    return {"kfadapter": _own(), "python": platform.python_version(), **beside}


def _own() -> str:
    commit = _checkout(Path(__file__).resolve().parents[2])
    return (installed_version() or _MISSING) + (f" (checkout at {commit})" if commit else "")


def _try_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _checkout(root: Path) -> str:
    """The commit of a checkout, with `-dirty` if files differ from it; empty without a checkout, or without git."""
    if not (root / ".git").exists():
        return ""
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
