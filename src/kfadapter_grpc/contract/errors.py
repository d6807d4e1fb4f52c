"""One class per fault, each with a gRPC code and a stable reason.

The reasons are those of `ErrorReason` in `errors.proto`, without the prefix. The error interceptor puts them on the
wire and the client library restores the same classes from it, so that both ends report the same faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """An invalid field of a request, by its path in the proto (`metadata.name`)."""

    field: str
    description: str


class AdapterError(Exception):
    """A fault that is reported to the caller.

    Attributes:
        resource_type: The kind of the missing or conflicting resource (`pipeline`); empty if there is none.
        retry_after: Seconds after which the same call may be repeated, if that can help.
        request_id: The id of the failed call; set by the client library.
    """

    code: ClassVar[StatusCode]
    reason: ClassVar[str]
    resource_type: ClassVar[str] = ""
    retry_after: float | None = None

    def __init_subclass__(
        cls,
        *,
        reason: str = "",
        code: StatusCode = StatusCode.UNKNOWN,
        resource: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Sets the attributes of a class of errors; without a reason they are inherited."""
        super().__init_subclass__()
        if reason:
            cls.reason, cls.code, cls.resource_type, cls.retry_after = reason, code, resource, retry_after

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        resource_name: str = "",
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.resource_name = resource_name
        self.request_id = request_id
        if retry_after is not None:
            self.retry_after = retry_after


class PipelineNotFoundError(AdapterError, reason="PIPELINE_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="pipeline"):
    """No pipeline has this id or name."""


class VersionNotFoundError(
    AdapterError, reason="VERSION_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="pipeline version"
):
    """The pipeline has no such version, or none at all."""


class RunNotFoundError(AdapterError, reason="RUN_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="run"):
    """No run has this id."""


class TaskNotFoundError(AdapterError, reason="TASK_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="task"):
    """The run has no such task, or it has not started."""


class ArtifactNotFoundError(AdapterError, reason="ARTIFACT_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="artifact"):
    """The run has no such artifact, or nothing is stored at its location."""


class ArtifactNotReadableError(
    AdapterError, reason="ARTIFACT_NOT_READABLE", code=StatusCode.FAILED_PRECONDITION, resource="artifact"
):
    """The artifact has no bytes that the adapter can read."""


class ArtifactStoreUnavailableError(AdapterError, reason="ARTIFACT_STORE_UNAVAILABLE", code=StatusCode.UNAVAILABLE):
    """The store of artifacts is unreachable or failed."""


class ArtifactChangedError(AdapterError, reason="ARTIFACT_CHANGED", code=StatusCode.ABORTED, resource="artifact"):
    """The artifact was changed while it was read."""


class ExperimentNotFoundError(
    AdapterError, reason="EXPERIMENT_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="experiment"
):
    """No experiment has this id or name."""


class RecurringRunNotFoundError(
    AdapterError, reason="RECURRING_RUN_NOT_FOUND", code=StatusCode.NOT_FOUND, resource="recurring run"
):
    """No recurring run has this id."""


class PipelineExistsError(AdapterError, reason="PIPELINE_EXISTS", code=StatusCode.ALREADY_EXISTS, resource="pipeline"):
    """A pipeline of this name exists."""


class VersionExistsError(
    AdapterError, reason="VERSION_EXISTS", code=StatusCode.ALREADY_EXISTS, resource="pipeline version"
):
    """The pipeline has a version of this name; letter case does not count."""


class ExperimentExistsError(
    AdapterError, reason="EXPERIMENT_EXISTS", code=StatusCode.ALREADY_EXISTS, resource="experiment"
):
    """An experiment of this name exists."""


class RequestIdReusedError(
    AdapterError, reason="REQUEST_ID_REUSED", code=StatusCode.ALREADY_EXISTS, resource="request id"
):
    """The request id was used with other content before."""


class InvalidFieldError(AdapterError, reason="INVALID_FIELD", code=StatusCode.INVALID_ARGUMENT):
    """A field is missing or has an invalid value."""

    @classmethod
    def of(cls, field: str, description: str) -> InvalidFieldError:
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])

    @classmethod
    def of_all(cls, violations: Sequence[FieldViolation]) -> InvalidFieldError:
        """Makes one error for several fields, so that a caller receives all violations at once."""
        return cls("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)


class InvalidUploadError(AdapterError, reason="INVALID_UPLOAD", code=StatusCode.INVALID_ARGUMENT):
    """The messages of an upload are not metadata first, then chunks."""


class InvalidPipelineFileError(AdapterError, reason="INVALID_PIPELINE_FILE", code=StatusCode.INVALID_ARGUMENT):
    """The file is not a pipeline."""


class ChecksumMismatchError(AdapterError, reason="CHECKSUM_MISMATCH", code=StatusCode.INVALID_ARGUMENT):
    """The checksum of the received bytes is not the announced SHA-256."""


class InvalidPageTokenError(AdapterError, reason="INVALID_PAGE_TOKEN", code=StatusCode.INVALID_ARGUMENT):
    """The page token does not belong to this listing."""


class ParameterMissingError(AdapterError, reason="PARAMETER_MISSING", code=StatusCode.INVALID_ARGUMENT):
    """A parameter without default has no value."""


class ParameterUnknownError(AdapterError, reason="PARAMETER_UNKNOWN", code=StatusCode.INVALID_ARGUMENT):
    """The pipeline declares no such parameter."""


class ParameterTypeError(AdapterError, reason="PARAMETER_TYPE", code=StatusCode.INVALID_ARGUMENT):
    """A parameter's value is not of the declared type."""


class PipelineHasVersionsError(
    AdapterError, reason="PIPELINE_HAS_VERSIONS", code=StatusCode.FAILED_PRECONDITION, resource="pipeline"
):
    """The pipeline has more than one version, and `force` is not set."""


class RunNotRetryableError(
    AdapterError, reason="RUN_NOT_RETRYABLE", code=StatusCode.FAILED_PRECONDITION, resource="run"
):
    """The run did not fail, or KFP no longer has the data that a retry needs."""


class AmbiguousNameError(AdapterError, reason="AMBIGUOUS_NAME", code=StatusCode.FAILED_PRECONDITION):
    """Several resources have this name."""


class KfpRejectedCredentialsError(AdapterError, reason="KFP_REJECTED_CREDENTIALS", code=StatusCode.FAILED_PRECONDITION):
    """KFP rejects the adapter's own credentials: the operator's fault."""


class NameContestedError(AdapterError, reason="NAME_CONTESTED", code=StatusCode.ABORTED, retry_after=1.0):
    """Other uploads took the next version number again and again."""


class UploadTooLargeError(AdapterError, reason="UPLOAD_TOO_LARGE", code=StatusCode.RESOURCE_EXHAUSTED):
    """The file is larger than the adapter or KFP accepts."""


class StorageFullError(AdapterError, reason="STORAGE_FULL", code=StatusCode.RESOURCE_EXHAUSTED):
    """KFP has no room left: its disk is full, or its limit is reached."""


class OverloadedError(AdapterError, reason="OVERLOADED", code=StatusCode.RESOURCE_EXHAUSTED, retry_after=1.0):
    """The adapter has reached its concurrency limit."""


class UnauthenticatedError(AdapterError, reason="UNAUTHENTICATED", code=StatusCode.UNAUTHENTICATED):
    """The caller is not authenticated: the call has no credentials, or no valid ones."""


class IssuerUnavailableError(AdapterError, reason="ISSUER_UNAVAILABLE", code=StatusCode.UNAVAILABLE, retry_after=2.0):
    """The token cannot be verified at the moment: its issuer, or the Kubernetes API server, is unreachable."""


class PermissionDeniedError(AdapterError, reason="PERMISSION_DENIED", code=StatusCode.PERMISSION_DENIED):
    """The caller lacks the permission."""


class KfpUnavailableError(AdapterError, reason="KFP_UNAVAILABLE", code=StatusCode.UNAVAILABLE, retry_after=2.0):
    """KFP is unreachable."""


class DrainingError(AdapterError, reason="DRAINING", code=StatusCode.UNAVAILABLE, retry_after=0.5):
    """This adapter is shutting down."""


class KfpTimeoutError(AdapterError, reason="KFP_TIMEOUT", code=StatusCode.DEADLINE_EXCEEDED):
    """KFP did not respond within the deadline."""


class UnsupportedByKfpError(AdapterError, reason="UNSUPPORTED_BY_KFP", code=StatusCode.UNIMPLEMENTED):
    """This KFP is too old for the request, or does not support it at all."""


class KfpError(AdapterError, reason="KFP_ERROR", code=StatusCode.INTERNAL):
    """KFP failed, or sent an invalid response."""


class InternalError(AdapterError, reason="INTERNAL", code=StatusCode.INTERNAL):
    """A fault of the adapter itself."""

    @classmethod
    def of(cls, request_id: str) -> InternalError:
        """Makes the error for an unexpected exception; the log has the details under the request id."""
        return cls(f"the adapter failed; report it with the request id {request_id}")


class CallCancelledError(AdapterError, reason="CANCELLED", code=StatusCode.CANCELLED):
    """The client cancelled or disconnected."""


def listed(texts: Sequence[str], limit: int, separator: str = ", ") -> str:
    """Joins the first texts, and counts the others: `a, b and 3 more`, or `a; b; and 3 more`."""
    more = len(texts) - limit
    return separator.join(texts[:limit]) + (f"{separator.strip(', ')} and {more} more" if more > 0 else "")


def all_error_classes() -> Iterator[type[AdapterError]]:
    """Yields every class of this module that has a reason on the wire."""
    yield from _BY_REASON.values()


def try_error_class(reason: str) -> type[AdapterError] | None:
    """Returns the class of a reason; None for a reason that this version does not know."""
    return _BY_REASON.get(reason)


_BY_REASON = {cls.reason: cls for cls in AdapterError.__subclasses__()}
