"""How commands end: the exit codes, a fixed table that scripts may rely on, and errors of the command line itself."""

from __future__ import annotations

import enum
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.cli.invocation import Step

SERVER = ("certifi", "cryptography", "grpc_channelz", "grpc_reflection", "httptools", "joserfc", "msgspec", "structlog")


class ExitCode(enum.IntEnum):
    """The exit codes of commands."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    CANNOT_CONNECT = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    TIMED_OUT = 6
    CANCELLED = 7
    REFUSED = 8
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "ok",
    ExitCode.RUN_FAILED: "the run failed",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.CANNOT_CONNECT: "cannot connect: to the adapter, or the adapter to KFP",
    ExitCode.NOT_ALLOWED: "not allowed",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.TIMED_OUT: "timed out",
    ExitCode.CANCELLED: "cancelled",
    ExitCode.REFUSED: "refused, or failed in any other way",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}


def epilog() -> str:
    rows = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return f"\b\nExit codes:\n{rows}"


class CommandError(Exception):
    """An error of the command line itself: what failed, why, and the next step."""

    exit_code = ExitCode.REFUSED

    def __init__(self, what: str, *, why: str, next_step: str | Step, exit_code: ExitCode | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step
        self.exit_code = exit_code or self.exit_code


class UsageError(CommandError):
    exit_code = ExitCode.USAGE


class NotFoundError(CommandError):
    exit_code = ExitCode.NOT_FOUND


def require(**extras: Sequence[str]) -> None:
    """Checks that the modules that a command needs are installed, by the extras that install them."""
    missing = [module for modules in extras.values() for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(
            "this command needs more than the client's packages",
            why=f"not installed: {', '.join(missing)}",
            next_step=f"pip install 'kfadapter-grpc[{','.join(extras)}]'",
        )
