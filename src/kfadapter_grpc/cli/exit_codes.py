"""What the exit codes of `kfadapter` mean: a fixed table that scripts may depend on."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended."""

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
"""Every exit code in words."""


def epilog() -> str:
    """Makes the table that ends the help."""
    rows = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return f"\b\nExit codes:\n{rows}"
