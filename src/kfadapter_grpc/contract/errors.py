"""One class per fault, each with a gRPC code and a stable reason.

The reasons are those of `ErrorReason` in `errors.proto`, without the prefix. The error interceptor puts them on the
wire and the client library restores the same classes from it, so that both ends report the same faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """An invalid field of a request.

    Attributes:
        field: The path of the field as in the proto (`metadata.name`).
    """

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


class PipelineNotFoundError(AdapterError):
    """No pipeline has this id or name."""

    code = StatusCode.NOT_FOUND
    reason = "PIPELINE_NOT_FOUND"
    resource_type = "pipeline"


class VersionNotFoundError(AdapterError):
    """The pipeline has no such version, or none at all."""

    code = StatusCode.NOT_FOUND
    reason = "VERSION_NOT_FOUND"
    resource_type = "pipeline version"


class RunNotFoundError(AdapterError):
    """No run has this id."""

    code = StatusCode.NOT_FOUND
    reason = "RUN_NOT_FOUND"
    resource_type = "run"


class TaskNotFoundError(AdapterError):
    """The run has no such task, or it has not started."""

    code = StatusCode.NOT_FOUND
    reason = "TASK_NOT_FOUND"
    resource_type = "task"


class ArtifactNotFoundError(AdapterError):
    """The run has no such artifact, or nothing is stored at its location."""

    code = StatusCode.NOT_FOUND
    reason = "ARTIFACT_NOT_FOUND"
    resource_type = "artifact"


class ArtifactNotReadableError(AdapterError):
    """The artifact has no bytes that the adapter can read."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "ARTIFACT_NOT_READABLE"
    resource_type = "artifact"


class ArtifactStoreUnavailableError(AdapterError):
    """The store of artifacts is unreachable or failed."""

    code = StatusCode.UNAVAILABLE
    reason = "ARTIFACT_STORE_UNAVAILABLE"


class ArtifactChangedError(AdapterError):
    """The artifact was changed while it was read."""

    code = StatusCode.ABORTED
    reason = "ARTIFACT_CHANGED"
    resource_type = "artifact"


class ExperimentNotFoundError(AdapterError):
    """No experiment has this id or name."""

    code = StatusCode.NOT_FOUND
    reason = "EXPERIMENT_NOT_FOUND"
    resource_type = "experiment"


class RecurringRunNotFoundError(AdapterError):
    """No recurring run has this id."""

    code = StatusCode.NOT_FOUND
    reason = "RECURRING_RUN_NOT_FOUND"
    resource_type = "recurring run"


class PipelineExistsError(AdapterError):
    """A pipeline of this name exists."""

    code = StatusCode.ALREADY_EXISTS
    reason = "PIPELINE_EXISTS"
    resource_type = "pipeline"


class VersionExistsError(AdapterError):
    """The pipeline has a version of this name; letter case does not count."""

    code = StatusCode.ALREADY_EXISTS
    reason = "VERSION_EXISTS"
    resource_type = "pipeline version"


class ExperimentExistsError(AdapterError):
    """An experiment of this name exists."""

    code = StatusCode.ALREADY_EXISTS
    reason = "EXPERIMENT_EXISTS"
    resource_type = "experiment"


class RequestIdReusedError(AdapterError):
    """The request id was used with other content before."""

    code = StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"
    resource_type = "request id"


class InvalidFieldError(AdapterError):
    """A field is missing or has an invalid value."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    @classmethod
    def of(cls, field: str, description: str) -> InvalidFieldError:
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])

    @classmethod
    def of_all(cls, violations: Sequence[FieldViolation]) -> InvalidFieldError:
        """Makes one error for several fields, so that a caller receives all violations at once."""
        return cls("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)


class InvalidUploadError(AdapterError):
    """The messages of an upload are not metadata first, then chunks."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_UPLOAD"


class InvalidPipelineFileError(AdapterError):
    """The file is not a pipeline."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_PIPELINE_FILE"


class ChecksumMismatchError(AdapterError):
    """The checksum of the received bytes is not the announced SHA-256."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "CHECKSUM_MISMATCH"


class InvalidPageTokenError(AdapterError):
    """The page token does not belong to this listing."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_PAGE_TOKEN"


class ParameterMissingError(AdapterError):
    """A parameter without default has no value."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "PARAMETER_MISSING"


class ParameterUnknownError(AdapterError):
    """The pipeline declares no such parameter."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "PARAMETER_UNKNOWN"


class ParameterTypeError(AdapterError):
    """A parameter's value is not of the declared type."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "PARAMETER_TYPE"


class PipelineHasVersionsError(AdapterError):
    """The pipeline has more than one version, and `force` is not set."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "PIPELINE_HAS_VERSIONS"
    resource_type = "pipeline"


class RunNotRetryableError(AdapterError):
    """The run did not fail, or KFP no longer has the data that a retry needs."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "RUN_NOT_RETRYABLE"
    resource_type = "run"


class AmbiguousNameError(AdapterError):
    """Several resources have this name."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "AMBIGUOUS_NAME"


class KfpRejectedCredentialsError(AdapterError):
    """KFP rejects the adapter's own credentials: the operator's fault."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "KFP_REJECTED_CREDENTIALS"


class NameContestedError(AdapterError):
    """Other uploads took the next version number again and again."""

    code = StatusCode.ABORTED
    reason = "NAME_CONTESTED"
    retry_after = 1.0


class UploadTooLargeError(AdapterError):
    """The file is larger than the adapter or KFP accepts."""

    code = StatusCode.RESOURCE_EXHAUSTED
    reason = "UPLOAD_TOO_LARGE"


class StorageFullError(AdapterError):
    """KFP has no room left: its disk is full, or its limit is reached."""

    code = StatusCode.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


class OverloadedError(AdapterError):
    """The adapter has reached its concurrency limit."""

    code = StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    retry_after = 1.0


class UnauthenticatedError(AdapterError):
    """The caller is not authenticated: the call has no credentials, or no valid ones."""

    code = StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class IssuerUnavailableError(AdapterError):
    """The token cannot be verified at the moment: its issuer, or the Kubernetes API server, is unreachable."""

    code = StatusCode.UNAVAILABLE
    reason = "ISSUER_UNAVAILABLE"
    retry_after = 2.0


class PermissionDeniedError(AdapterError):
    """The caller lacks the permission."""

    code = StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class KfpUnavailableError(AdapterError):
    """KFP is unreachable."""

    code = StatusCode.UNAVAILABLE
    reason = "KFP_UNAVAILABLE"
    retry_after = 2.0


class DrainingError(AdapterError):
    """This adapter is shutting down."""

    code = StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retry_after = 0.5


class KfpTimeoutError(AdapterError):
    """KFP did not respond within the deadline."""

    code = StatusCode.DEADLINE_EXCEEDED
    reason = "KFP_TIMEOUT"


class UnsupportedByKfpError(AdapterError):
    """This KFP is too old for the request, or does not support it at all."""

    code = StatusCode.UNIMPLEMENTED
    reason = "UNSUPPORTED_BY_KFP"


class KfpError(AdapterError):
    """KFP failed, or sent an invalid response."""

    code = StatusCode.INTERNAL
    reason = "KFP_ERROR"


class InternalError(AdapterError):
    """A fault of the adapter itself."""

    code = StatusCode.INTERNAL
    reason = "INTERNAL"

    @classmethod
    def of(cls, request_id: str) -> InternalError:
        """Makes the error for an unexpected exception; the log has the details under the request id."""
        return cls(f"the adapter failed; report it with the request id {request_id}")


class CallCancelledError(AdapterError):
    """The client cancelled or disconnected."""

    code = StatusCode.CANCELLED
    reason = "CANCELLED"


def all_error_classes() -> Iterator[type[AdapterError]]:
    """Yields every class of this module that has a reason on the wire."""
    yield from _BY_REASON.values()


def try_error_class(reason: str) -> type[AdapterError] | None:
    """Returns the class of a reason; None for a reason that this version does not know."""
    return _BY_REASON.get(reason)


_BY_REASON = {cls.reason: cls for cls in AdapterError.__subclasses__()}
