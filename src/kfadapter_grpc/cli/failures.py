"""Errors as a person reads them, on stderr: what is wrong, why, and what to type next."""

from __future__ import annotations

import errno
import os
import traceback

from grpc import StatusCode

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.hints import HINTS
from kfadapter_grpc.cli.invocation import Invocation, Step, again, do
from kfadapter_grpc.cli.report import print_parts
from kfadapter_grpc.client import CallFailedError, CannotConnectError, CredentialsError
from kfadapter_grpc.contract.errors import AdapterError

DEBUG_VARIABLE = "KFADAPTER_DEBUG"
"""Set to anything, it shows where an error comes from."""

_ANOTHER_SERVER = do(
    "check HOST:PORT of --target: what is there, if anything, does not answer as an adapter does; if it speaks TLS: "
    "kfadapter --ca FILE ..., and with --client-certificate and --client-key if it asks for them"
)
_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": do("without --tls, --ca and their variables: what is there speaks no TLS"),
    "Hostname Verification": do("kfadapter --server-name NAME ... with the name in the adapter's certificate"),
    "Tls handshake failed": do("kfadapter --ca FILE ... with the certificate of the CA that the adapter's is from"),
}
"""What to do where TLS fails, by what gRPC says of it; the first that fits counts."""
_EXIT_CODES = {
    StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    StatusCode.UNAVAILABLE: ExitCode.CANNOT_CONNECT,
    StatusCode.PERMISSION_DENIED: ExitCode.NOT_ALLOWED,
    StatusCode.UNAUTHENTICATED: ExitCode.NOT_ALLOWED,
    StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMED_OUT,
    StatusCode.CANCELLED: ExitCode.CANCELLED,
}


def exit_code(error: AdapterError) -> ExitCode:
    """Tells what a command that failed with this error exits with."""
    status = error.status if isinstance(error, CallFailedError) else error.code
    return _EXIT_CODES.get(status, ExitCode.REFUSED)


def report(error: Exception, invocation: Invocation | None = None) -> ExitCode:
    """Prints an error, with its traceback where KFADAPTER_DEBUG is set, and tells the exit code.

    Args:
        error: What a command raised.
        invocation: The command, for the next step; None where there was none yet.
    """
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    invocation = invocation or Invocation()
    if isinstance(error, AdapterError):
        print_parts(error.message, reason_and_cause(error), invocation.spell(next_step(error)))
        return exit_code(error)
    if not isinstance(error, CommandError):
        error = _in_words(error)
    step = error.next_step
    print_parts(error.what, error.why, invocation.spell(step) if isinstance(step, Step) else step)
    return error.exit_code


def _in_words(error: Exception) -> CommandError:
    """Tells what an error means that no command expected."""
    if isinstance(error, CredentialsError):
        return CommandError(
            str(error),
            why="credentials come from options (--ca, --token-file, ...) and the environment (KFADAPTER_CA, ...)",
            next_step="kfadapter --help",
            exit_code=ExitCode.USAGE,
        )
    if isinstance(error, OSError):
        what = f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror or str(error)
        why = errno.errorcode.get(error.errno or 0, type(error).__name__)
        return CommandError(what, why=why, next_step=again(words="once that is seen to"))
    if isinstance(error, UnicodeEncodeError):
        return CommandError(
            "a text is not UTF-8",
            why=ascii(error.object),
            next_step="the same command in a UTF-8 terminal: LC_ALL=C.UTF-8",
            exit_code=ExitCode.USAGE,
        )
    return CommandError(
        "kfadapter itself failed",
        why=f"{type(error).__name__}: {error}",
        next_step=f"{DEBUG_VARIABLE}=1 before the same command shows where; please report that",
    )


def next_step(error: AdapterError) -> Step:
    """Tells what to do after an error."""
    cause = error.metadata.get("cause", "refused")
    for said, step in _HANDSHAKES.items():
        if said in cause:
            return step
    taken = error.reason == CannotConnectError.reason and "refused" not in cause
    return _ANOTHER_SERVER if taken else HINTS[error.reason]


def reason_and_cause(error: AdapterError) -> str:
    """Tells what is known of the cause of an error: its reason, what lies below it, and the request id."""
    cause = error.metadata.get("cause", "")
    told = f" ({cause})" if cause and cause not in error.message else ""
    request = f", request {error.request_id}" if error.request_id else ""
    return f"{error.reason}{told}{request}"
