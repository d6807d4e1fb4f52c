"""What KFP's failures mean to a caller, as data.

The first matching row applies. `proof` names the evidence: a step of a recorded transcript (`pipelines: get unknown
id`), or a test with a KFP that misbehaves on purpose (`fault: ...`).

For an upload, KFP reports an unknown pipeline, a missing permission and some bad files with the same status and text.
Then other requests about the pipeline are sent, and the status of their failure counts. Successful calls pay nothing.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.kfp.connections import EXPECTS_HTTPS
from kfadapter_grpc.kfp.error_table import general, pipelines, runs
from kfadapter_grpc.kfp.error_table.general import KFP_FILE_LIMIT, KFP_PACKET_LIMIT, TLS_EXPECTED, Context, Row
from kfadapter_grpc.kfp.error_table.pipelines import NO_SUCH_PIPELINE, NO_SUCH_VERSION
from kfadapter_grpc.kfp.error_table.runs import NO_SUCH_EXPERIMENT, NO_SUCH_RUN
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.transport import Response

__all__ = [
    "KFP_FILE_LIMIT",
    "KFP_PACKET_LIMIT",
    "NO_SUCH_EXPERIMENT",
    "NO_SUCH_PIPELINE",
    "NO_SUCH_RUN",
    "NO_SUCH_VERSION",
    "ROWS",
    "Context",
    "Row",
    "explain",
    "explain_page",
]

ROWS: tuple[Row, ...] = (
    *runs.TOO_LARGE,
    *general.FIRST,
    *pipelines.ROWS,
    *runs.ROWS,
    *general.LAST,
)
"""All cases; a failure that matches none of them is KFP_ERROR with KFP's own message."""


_VAGUE = re.compile(r"Failed to create a pipeline version($| due to )")
_DENIED = (401, 403)


def explain(error: KfpFailureError, context: Context) -> AdapterError:
    if error.failure.page is not None:
        return explain_page(error.failure.page, as_caller=error.as_caller)
    values = {"kfp_status": str(error.failure.status), **context.values}
    if context.probe and _VAGUE.match(error.failure.full_text):
        cause = context.probe()
        if cause is not None and cause.failure.status == HTTPStatus.NOT_FOUND:
            error = cause
        elif cause is not None and cause.failure.status in _DENIED:
            error = KfpFailureError(error.operation, cause.failure, as_caller=cause.as_caller)
    row = next((row for row in ROWS if _fits(row, error, context)), None)
    failure = error.failure
    if row is None:
        reason = failure.text or "no reason given"
        text = f"Kubeflow Pipelines failed ({error.operation.value}, HTTP {failure.status}): {reason}"
        return _four_bytes(error, values) or errors.KfpError(text, metadata=values)
    kind, message = row.of_caller if row.of_caller and error.as_caller else (row.error, row.message)
    what = f"{error.operation.value} {context.subject}".rstrip()
    known = {"detail": failure.text, "status": failure.status, "what": what, "subject": context.subject}
    text = message.format_map(defaultdict(lambda: "?", known | dict(context.values)))
    violations = [errors.FieldViolation(row.field, text)] if row.field else []
    return kind(
        " ".join(text.split()),
        metadata=values,
        violations=violations,
        resource_name=context.resource,
        retry_after=failure.retry_after,
    )


def _fits(row: Row, error: KfpFailureError, context: Context) -> bool:
    failure = error.failure
    return (
        (not row.operations or error.operation in row.operations)
        and failure.status in row.statuses
        and re.search(row.pattern, failure.full_text) is not None
        and (row.sizes is None or int(context.values.get("size", 0)) in row.sizes)
    )


_TITLE = re.compile(rb"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_LOGIN = re.compile(rb"log.?in|sign.?in|oauth|openid|\bdex\b|password", re.IGNORECASE)


def explain_page(response: Response, *, as_caller: bool = False) -> AdapterError:
    is_login = _LOGIN.search(response.location.encode()) or _LOGIN.search(response.body[:65536])
    if is_login and as_caller:
        return errors.UnauthenticatedError(
            "a proxy in front of Kubeflow Pipelines responds to the call's credentials with a login page; "
            "send a token that it accepts, which a cookie or a password is not",
            metadata={"kfp_status": str(response.status)},
        )
    if is_login:
        return errors.KfpRejectedCredentialsError(
            "Kubeflow Pipelines is behind a login page: the adapter's operator must configure credentials "
            "(KFADAPTER_KFP_CREDENTIALS), or an address inside the cluster",
            metadata={"kfp_status": str(response.status)},
        )
    if TLS_EXPECTED.search(response.body[:65536]):
        return errors.KfpUnavailableError(EXPECTS_HTTPS, metadata={"kfp_status": str(response.status)})
    title = _TITLE.search(response.body[:65536])
    titled = f" titled '{' '.join(title[1].decode(errors='replace').split())[:80]}'" if title else ""
    return errors.KfpError(
        f"a {'redirect' if response.location else 'web page'}{titled} (HTTP {response.status}) was returned instead of "
        "Kubeflow Pipelines' API, perhaps by a proxy; the adapter's operator should check KFADAPTER_KFP_URL",
        metadata={"kfp_status": str(response.status)},
    )


_UPLOADS = (Operation.CREATE_PIPELINE, Operation.UPLOAD_VERSION)
_FIELDS = {
    (Operation.UPLOAD_VERSION, "name"): "version_name",
    (Operation.CREATE_EXPERIMENT, "display_name"): "name",
    (Operation.CREATE_RUN, "runtime_config"): "parameters",
    (Operation.CREATE_RUN, "pipeline_spec"): "pipeline",
    (Operation.CREATE_RECURRING_RUN, "runtime_config"): "parameters",
}
"""The fields of our requests that have another name in KFP."""


def _four_bytes(error: KfpFailureError, values: dict[str, str]) -> errors.InvalidFieldError | None:
    """Explains a failure by the first character of 4 bytes in the request; None if there is none.

    KFP's connection to MySQL cannot carry such characters (emoji): it responds with 500.
    """
    if error.failure.status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    for key, text in _texts_sent(error):
        wide = next((character for character in text if character > "\uffff"), None)
        if wide is None:
            continue
        field = _FIELDS.get((error.operation, key), key)
        field = f"metadata.{field}" if error.operation in _UPLOADS else field
        message = (
            f"Kubeflow Pipelines failed to store {field}, which has the character {wide} (U+{ord(wide):X}): its "
            "connection to MySQL takes at most 3 bytes of UTF-8 for each; leave such characters out"
        )
        return errors.InvalidFieldError(message, metadata=values, violations=[errors.FieldViolation(field, message)])
    return None


def _texts_sent(error: KfpFailureError) -> Iterator[tuple[str, str]]:
    """The keys and texts of a write's query and of its body, if that is JSON."""
    request = error.request
    if request is None or request.method not in {"POST", "PATCH"}:
        return
    yield from request.query
    if isinstance(request.body, bytes):
        for key, value in json.loads(request.body).items():
            yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
