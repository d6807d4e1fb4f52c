"""Characters of 4 bytes of UTF-8 (emoji), which KFP's connection to MySQL cannot carry: it answers 500."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.failures import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.kfp.failures import KfpFailureError

_UPLOADS = (Operation.CREATE_PIPELINE, Operation.UPLOAD, Operation.UPLOAD_VERSION)
_FIELDS = {
    (Operation.UPLOAD_VERSION, "name"): "version_name",
    (Operation.CREATE_EXPERIMENT, "display_name"): "name",
    (Operation.CREATE_RUN, "runtime_config"): "parameters",
    (Operation.CREATE_RUN, "pipeline_spec"): "pipeline",
    (Operation.CREATE_RECURRING_RUN, "runtime_config"): "parameters",
}
"""The fields of our requests that KFP knows under another name."""


def try_four_bytes(error: KfpFailureError, values: dict[str, str]) -> errors.InvalidFieldError | None:
    """Explains a failure by the first character of 4 bytes in what was sent; None if there is none."""
    for key, text in _sent(error):
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


def _sent(error: KfpFailureError) -> Iterator[tuple[str, str]]:
    """The keys and texts of a write's query and of its body, if that is JSON."""
    request = error.request
    if request is None or request.method != "POST":
        return
    yield from request.query
    if isinstance(request.body, bytes):
        for key, value in json.loads(request.body).items():
            yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
