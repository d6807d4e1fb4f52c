"""Error messages on stderr: what is wrong, why, and what to type next."""

from __future__ import annotations

import errno
import os
import shlex
import traceback
from contextlib import suppress
from dataclasses import replace

from grpc import StatusCode

from kfadapter_grpc.cli.contexts import in_use, name_in_use
from kfadapter_grpc.cli.errors import CommandError, ExitCode, UsageError
from kfadapter_grpc.cli.invocation import PIPELINE, RUN, Invocation, Step, again, manual, other, start
from kfadapter_grpc.cli.references import similar_name
from kfadapter_grpc.cli.text import print_error
from kfadapter_grpc.client import CallFailedError, CannotConnectError, CredentialsError
from kfadapter_grpc.client.login import Login
from kfadapter_grpc.contract.errors import AdapterError, UnauthenticatedError
from kfadapter_grpc.daemon.listening import ServerStartError
from kfadapter_grpc.setting_sources import SettingsError

DEBUG_VARIABLE = "KFADAPTER_DEBUG"
"""If set, errors are printed with their traceback."""

_ANOTHER_SERVER = (
    "check HOST:PORT of --target: no adapter responds there; if it uses TLS: kfadapter --ca FILE ..., and with "
    "--client-certificate and --client-key if it requires them"
)
_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": "omit --tls, --ca and their variables: the server does not use TLS",
    "Hostname Verification": "kfadapter --server-name NAME ... with the name in the adapter's certificate",
    "Tls handshake failed": "kfadapter --ca FILE ... with the certificate of the CA that the adapter's is from",
}
"""The next step after a TLS error, by gRPC's error text; the first match applies."""
_EXIT_CODES = {
    StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    StatusCode.UNAVAILABLE: ExitCode.CANNOT_CONNECT,
    StatusCode.PERMISSION_DENIED: ExitCode.NOT_ALLOWED,
    StatusCode.UNAUTHENTICATED: ExitCode.NOT_ALLOWED,
    StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMED_OUT,
    StatusCode.CANCELLED: ExitCode.CANCELLED,
}
_SIMILAR_SECONDS = 3.0
PATIENT_SECONDS = "120"
"""The deadline of a second attempt."""

HINTS: dict[str, str | Step] = {
    "PIPELINE_NOT_FOUND": other("list", text="shows all pipelines; --namespace selects another namespace"),
    "VERSION_NOT_FOUND": other("versions", PIPELINE, text="shows all versions"),
    "RUN_NOT_FOUND": other("runs", text="shows the newest runs; a deleted run cannot be found again"),
    "TASK_NOT_FOUND": other("runs", "show", RUN, text="shows the tasks that have started, with their names"),
    "ARTIFACT_NOT_FOUND": other("runs", "show", RUN, text="shows the outputs of its tasks"),
    "ARTIFACT_NOT_READABLE": other("runs", "show", RUN, text="shows metadata, metrics and location"),
    "ARTIFACT_STORE_UNAVAILABLE": again(text="retries; kfadapter doctor shows which part is unreachable"),
    "ISSUER_UNAVAILABLE": again(text="retries; the adapter's log has the reason why the token cannot be verified"),
    "ARTIFACT_CHANGED": again(text="reads it from the start"),
    "EXPERIMENT_NOT_FOUND": other(
        "experiments", text="shows all experiments; kfadapter run --create-experiment creates one"
    ),
    "RECURRING_RUN_NOT_FOUND": other("recurring", text="shows all recurring runs"),
    "PIPELINE_EXISTS": again("--if-exists", "new-version", text="adds a version; --name creates another pipeline"),
    "VERSION_EXISTS": again(without="--version-name", text="names it by the next number"),
    "EXPERIMENT_EXISTS": again("--allow-existing", text="returns the existing experiment"),
    "REQUEST_ID_REUSED": again(
        without="--request-id", text="makes a new request; a request id cannot be reused for other content"
    ),
    "INVALID_FIELD": manual("describes the options"),
    "INVALID_UPLOAD": "check that the file is not empty; kfadapter payload FILE prints valid messages",
    "INVALID_PIPELINE_FILE": "correct the file, or compile it again with the kfp SDK, then repeat the command",
    "CHECKSUM_MISMATCH": again(text="the file changed while it was read, or in transit"),
    "INVALID_PAGE_TOKEN": again(text="starts the listing again"),
    "PARAMETER_MISSING": other("get", PIPELINE, text="shows the parameters and which of them are required"),
    "PARAMETER_UNKNOWN": other("get", PIPELINE, text="shows its parameters"),
    "PARAMETER_TYPE": other("get", PIPELINE, text="shows the type of each parameter"),
    "PIPELINE_HAS_VERSIONS": again("--force", text="deletes all versions with it"),
    "RUN_NOT_RETRYABLE": other("runs", "show", RUN, text="shows its state: only failed runs can be retried"),
    "AMBIGUOUS_NAME": other("experiments", text="shows the ids; an id is never ambiguous"),
    "KFP_REJECTED_CREDENTIALS": "contact the adapter's operator: Kubeflow Pipelines rejects its credentials",
    "NAME_CONTESTED": again(text="or choose the name: --version-name NAME"),
    "UPLOAD_TOO_LARGE": "reduce the file: large data belongs in artifacts, not in the pipeline",
    "STORAGE_FULL": other("runs", "delete", RUN, text="deletes a run and its files; or free space on KFP's disk"),
    "OVERLOADED": again(text="in a few seconds"),
    "UNAUTHENTICATED": (
        "send a valid token: kfadapter --token-file FILE ..., or KFADAPTER_TOKEN; the adapter's operator "
        "issues one, or names the issuer for kfadapter login"
    ),
    "PERMISSION_DENIED": "request access from the adapter's operator, or use another --namespace",
    "KFP_UNAVAILABLE": again(
        text="in a moment; if it persists, kfadapter doctor --server, where the adapter runs, shows the cause"
    ),
    "DRAINING": again(text="in a moment; the adapter is being restarted"),
    "KFP_TIMEOUT": again("--timeout", PATIENT_SECONDS, text="allows more time"),
    "UNSUPPORTED_BY_KFP": (
        "follow the message; kfadapter doctor --server, where the adapter runs, shows what this KFP does not support"
    ),
    "KFP_ERROR": "search the adapter's log for the request id, then the log of Kubeflow Pipelines",
    "INTERNAL": "report it with the request id; the adapter's log has the details",
    "CANCELLED": again(text="if the cancellation was unintended"),
    "CANNOT_CONNECT": start("starts an adapter on this machine; --target HOST:PORT names another one"),
    "DEADLINE": again("--timeout", PATIENT_SECONDS, text="allows more time"),
    "CALL_FAILED": "check that --target is a kfadapter; a newer one may need a newer client, too",
}


def exit_code(error: AdapterError) -> ExitCode:
    status = error.status if isinstance(error, CallFailedError) else error.code
    return _EXIT_CODES.get(status, ExitCode.REFUSED)


def report(error: Exception, invocation: Invocation | None = None) -> ExitCode:
    """Prints an error, with its traceback if KFADAPTER_DEBUG is set, and returns the exit code."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    invocation = invocation or Invocation()
    context = name_in_use(invocation.options)
    if isinstance(error, AdapterError):
        message = f"{error.message}\n{_similar_name(error, invocation)}"
        where = f", context {context}" if context else ""
        advice = _token_step(error, invocation) or next_step(error)
        print_error(message, reason_and_cause(error) + where, invocation.format(advice))
        return exit_code(error)
    if not isinstance(error, CommandError):
        error = _as_command_error(error, context)
    print_error(error.what, error.why, invocation.format(error.next_step))
    return error.exit_code


def _token_step(error: AdapterError, invocation: Invocation) -> str | Step | None:
    """Returns how to get a valid token, if the context has a source of tokens."""
    if error.reason == UnauthenticatedError.reason:
        with suppress(CommandError):
            source = in_use(invocation.options)[1].source
            if isinstance(source, Login):
                return other("login")
            if source is not None:
                return f"try what makes the token by itself: {shlex.join([source.command, *source.args])}"
    return None


def _similar_name(error: AdapterError, invocation: Invocation) -> str:
    """Returns a suggestion of a similar name; empty if the adapter does not respond in time."""
    if exit_code(error) is not ExitCode.NOT_FOUND:
        return ""
    try:
        with replace(invocation.options, timeout=_SIMILAR_SECONDS).client() as client:
            return similar_name(client, error, invocation.pipeline).strip()
    except Exception:  # noqa: BLE001  it is only a hint
        return ""


def _as_command_error(error: Exception, context: str) -> CommandError:
    if isinstance(error, CredentialsError):
        sources = "options (--ca, --token-file, ...) and the environment (KFADAPTER_CA, ...)"
        return UsageError(
            str(error),
            why=f"credentials come from {sources}{f', and from the context {context}' if context else ''}",
            next_step=other("config", "show", context) if context else "kfadapter --help",
        )
    if isinstance(error, SettingsError):
        return UsageError(
            str(error),
            why="settings come from options, the file of serve --config, and the environment (KFADAPTER_...), in this"
            " order",
            next_step=manual("lists the options"),
        )
    if isinstance(error, ServerStartError):
        return CommandError(
            error.why,
            why=f"its address is {error.listen}",
            next_step=f"the same command with another {error.option} HOST:PORT",
        )
    if isinstance(error, OSError):
        message = f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror or str(error)
        why = errno.errorcode.get(error.errno or 0, type(error).__name__)
        return CommandError(message, why=why, next_step=again(text="once that is fixed"))
    if isinstance(error, UnicodeEncodeError):
        return UsageError(
            "a text is not UTF-8",
            why=ascii(error.object),
            next_step="the same command in a UTF-8 terminal: LC_ALL=C.UTF-8",
        )
    return CommandError(
        "kfadapter itself failed",
        why=f"{type(error).__name__}: {error}",
        next_step=f"{DEBUG_VARIABLE}=1 before the same command shows where; please report that",
    )


def next_step(error: AdapterError) -> str | Step:
    cause = error.metadata.get("cause", "refused")
    if step := next((step for text, step in _HANDSHAKES.items() if text in cause), None):
        return step
    is_other_server = error.reason == CannotConnectError.reason and "refused" not in cause
    return _ANOTHER_SERVER if is_other_server else HINTS[error.reason]


def reason_and_cause(error: AdapterError) -> str:
    """Returns the known cause of an error: its reason, the underlying errors, and the request id."""
    cause = error.metadata.get("cause", "")
    details = f" ({cause})" if cause and cause not in error.message else ""
    request = f", request {error.request_id}" if error.request_id else ""
    return f"{error.reason}{details}{request}"
