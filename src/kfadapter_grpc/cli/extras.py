"""What can be installed besides the command line itself."""

from __future__ import annotations

from importlib.util import find_spec

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode

_MODULES = {
    "server": (
        "cryptography",
        "kfp_server_api",
        "urllib3",
        "grpc_reflection",
        "httptools",
        "msgspec",
        "pydantic_settings",
        "structlog",
    ),
    "notify": ("prometheus_client", "structlog"),
    "embedded": ("starlette", "uvicorn", "python_multipart"),
}


def require(*extras: str) -> None:
    """Sees whether what a command needs is installed.

    Raises:
        CommandError: Something is missing.
    """
    missing = [module for extra in extras for module in _MODULES[extra] if find_spec(module) is None]
    if missing:
        raise CommandError(
            "this command needs more than the client's packages",
            why=f"not installed: {', '.join(missing)}",
            next_step=f"pip install 'kfadapter-grpc[{','.join(extras)}]'",
            exit_code=ExitCode.USAGE,
        )
