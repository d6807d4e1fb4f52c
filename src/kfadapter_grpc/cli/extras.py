"""What can be installed besides the command line itself."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER = (
    "certifi",
    "cryptography",
    "grpc_reflection",
    "httptools",
    "msgspec",
    "pydantic_settings",
    "structlog",
)
"""What the extra `server` brings."""


def require(**extras: Sequence[str]) -> None:
    """Sees whether the modules are installed that a command needs, by the extras that bring them.

    Raises:
        CommandError: Something is missing.
    """
    missing = [module for modules in extras.values() for module in modules if find_spec(module) is None]
    if missing:
        raise CommandError(
            "this command needs more than the client's packages",
            why=f"not installed: {', '.join(missing)}",
            next_step=f"pip install 'kfadapter-grpc[{','.join(extras)}]'",
            exit_code=ExitCode.USAGE,
        )
