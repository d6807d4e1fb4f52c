from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.contract.running import Scripted, failure

from kfadapter.v1 import errors_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.errors import AdapterError, FieldViolation
from kfadapter_grpc.interceptors.errors import wire_status

if TYPE_CHECKING:
    from tests.contract.conftest import Serve

Send: TypeAlias = Callable[..., object]
CANARY = "canary-4711"


@dataclass(frozen=True)
class Row:
    """How one error class appears on the wire."""

    code: grpc.StatusCode
    reason: str
    resource_type: str = ""
    retry_after: float | None = None


ROWS: dict[type[AdapterError], Row] = {
    errors.PipelineNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "PIPELINE_NOT_FOUND", "pipeline"),
    errors.VersionNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "pipeline version"),
    errors.RunNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", "run"),
    errors.TaskNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND", "task"),
    errors.ArtifactNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND", "artifact"),
    errors.ArtifactNotReadableError: Row(grpc.StatusCode.FAILED_PRECONDITION, "ARTIFACT_NOT_READABLE", "artifact"),
    errors.ArtifactStoreUnavailableError: Row(grpc.StatusCode.UNAVAILABLE, "ARTIFACT_STORE_UNAVAILABLE"),
    errors.IssuerUnavailableError: Row(grpc.StatusCode.UNAVAILABLE, "ISSUER_UNAVAILABLE", retry_after=2.0),
    errors.ArtifactChangedError: Row(grpc.StatusCode.ABORTED, "ARTIFACT_CHANGED", "artifact"),
    errors.ExperimentNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND", "experiment"),
    errors.RecurringRunNotFoundError: Row(grpc.StatusCode.NOT_FOUND, "RECURRING_RUN_NOT_FOUND", "recurring run"),
    errors.PipelineExistsError: Row(grpc.StatusCode.ALREADY_EXISTS, "PIPELINE_EXISTS", "pipeline"),
    errors.VersionExistsError: Row(grpc.StatusCode.ALREADY_EXISTS, "VERSION_EXISTS", "pipeline version"),
    errors.ExperimentExistsError: Row(grpc.StatusCode.ALREADY_EXISTS, "EXPERIMENT_EXISTS", "experiment"),
    errors.RequestIdReusedError: Row(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "request id"),
    errors.InvalidFieldError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    errors.InvalidUploadError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_UPLOAD"),
    errors.InvalidPipelineFileError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PIPELINE_FILE"),
    errors.ChecksumMismatchError: Row(grpc.StatusCode.INVALID_ARGUMENT, "CHECKSUM_MISMATCH"),
    errors.InvalidPageTokenError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    errors.ParameterMissingError: Row(grpc.StatusCode.INVALID_ARGUMENT, "PARAMETER_MISSING"),
    errors.ParameterUnknownError: Row(grpc.StatusCode.INVALID_ARGUMENT, "PARAMETER_UNKNOWN"),
    errors.ParameterTypeError: Row(grpc.StatusCode.INVALID_ARGUMENT, "PARAMETER_TYPE"),
    errors.PipelineHasVersionsError: Row(grpc.StatusCode.FAILED_PRECONDITION, "PIPELINE_HAS_VERSIONS", "pipeline"),
    errors.RunNotRetryableError: Row(grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_RETRYABLE", "run"),
    errors.AmbiguousNameError: Row(grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_NAME"),
    errors.KfpRejectedCredentialsError: Row(grpc.StatusCode.FAILED_PRECONDITION, "KFP_REJECTED_CREDENTIALS"),
    errors.NameContestedError: Row(grpc.StatusCode.ABORTED, "NAME_CONTESTED", retry_after=1.0),
    errors.UploadTooLargeError: Row(grpc.StatusCode.RESOURCE_EXHAUSTED, "UPLOAD_TOO_LARGE"),
    errors.StorageFullError: Row(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
    errors.OverloadedError: Row(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=1.0),
    errors.UnauthenticatedError: Row(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.PermissionDeniedError: Row(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    errors.KfpUnavailableError: Row(grpc.StatusCode.UNAVAILABLE, "KFP_UNAVAILABLE", retry_after=2.0),
    errors.DrainingError: Row(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after=0.5),
    errors.KfpTimeoutError: Row(grpc.StatusCode.DEADLINE_EXCEEDED, "KFP_TIMEOUT"),
    errors.UnsupportedByKfpError: Row(grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_KFP"),
    errors.KfpError: Row(grpc.StatusCode.INTERNAL, "KFP_ERROR"),
    errors.InternalError: Row(grpc.StatusCode.INTERNAL, "INTERNAL"),
    errors.CallCancelledError: Row(grpc.StatusCode.CANCELLED, "CANCELLED"),
}


def raising(error: BaseException) -> Scripted:
    """Makes a servicer whose Get fails."""

    def get(_: grpc.ServicerContext) -> NoReturn:
        raise error

    return Scripted(get=get)


def test_every_error_class_has_a_row() -> None:
    """Every error class has a row here."""
    assert set(ROWS) == set(errors.all_error_classes())


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.reason)
def test_error_on_the_wire(serve: Serve, kind: type[AdapterError]) -> None:
    """Every error arrives with its code, its reason and all of its details."""
    row = ROWS[kind]
    error = kind(
        "what and what to do",
        metadata={"name": "hello"},
        violations=[FieldViolation("metadata.name", "is empty")],
        resource_name="hello",
    )
    it = failure(lambda: serve(raising(error)).stub.Get(pb.GetPipelineRequest()))
    assert (it.code, it.reason, it.message) == (row.code, row.reason, "what and what to do")
    assert it.metadata == {"name": "hello"}
    assert it.violations == (("metadata.name", "is empty"),)
    assert it.resource == ((row.resource_type, "hello") if row.resource_type else None)
    assert it.retry_after == row.retry_after


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.reason)
def test_reason_is_of_the_contract(kind: type[AdapterError]) -> None:
    """Every reason is a value of the contract's enum."""
    assert f"ERROR_REASON_{kind.reason}" in dict(errors_pb2.ErrorReason.items())


def test_retry_after_of_one_error(serve: Serve) -> None:
    """An error may set its own retry delay."""
    error = errors.KfpUnavailableError("away", retry_after=7.25)
    assert failure(lambda: serve(raising(error)).stub.Get(pb.GetPipelineRequest())).retry_after == 7.25


@pytest.mark.parametrize("fault", [RuntimeError(CANARY), SystemExit(CANARY), StopIteration(CANARY)])
def test_unknown_exception_leaks_nothing(serve: Serve, fault: BaseException) -> None:
    """For an unknown exception a caller gets only the request id; the log has the exception with its traceback."""
    with capture_logs() as lines:
        it = failure(lambda: serve(raising(fault)).stub.Get(pb.GetPipelineRequest()))
    assert (it.code, it.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert it.request_id
    assert it.request_id in it.message
    assert CANARY not in repr(it)
    (line,) = [line for line in lines if line["event"] == "call"]
    assert (line["log_level"], line["request_id"], line["exc_info"]) == ("error", it.request_id, fault)


def test_exception_with_a_cause_leaks_nothing(serve: Serve) -> None:
    """The cause of an error is not disclosed."""
    error = errors.KfpError("KFP failed")
    error.__cause__ = RuntimeError(CANARY)
    assert CANARY not in repr(failure(lambda: serve(raising(error)).stub.Get(pb.GetPipelineRequest())))


@pytest.mark.parametrize("text", ["x", "한", "\n", "\udc80", "🙂"])
def test_long_error_arrives(serve: Serve, text: str) -> None:
    """An error of any length and in any script arrives, truncated so that clients accept its trailers."""
    error = errors.InvalidFieldError(
        text * 5000,
        metadata={f"key{number}": text * 5000 for number in range(100)},
        violations=[FieldViolation(text * 5000, text * 5000)] * 200,
    )
    it = failure(lambda: serve(raising(error)).stub.Get(pb.GetPipelineRequest()))
    assert it.reason == "INVALID_FIELD"
    assert it.violations
    assert it.message.endswith("…")


def test_error_of_common_length_is_not_cut() -> None:
    """A message of 1,000 characters and 50 violations arrive untruncated."""
    violations = [FieldViolation("f", str(number)) for number in range(51)]
    error = errors.InvalidFieldError("m" * 1000, violations=violations)
    status = wire_status(error, "id")
    assert status.details == "m" * 1000
    assert len(status.trailing_metadata[1][1]) > 50 * len("f12")


long_texts = st.builds(lambda character, length: character * length, st.characters(), st.integers(0, 5000))


@given(
    message=long_texts,
    metadata=st.dictionaries(long_texts, long_texts, max_size=60),
    violations=st.lists(st.tuples(long_texts, long_texts), max_size=60),
    name=long_texts,
)
def test_status_fits_into_trailers(
    message: str, metadata: dict[str, str], violations: list[tuple[str, str]], name: str
) -> None:
    """Whatever an error contains, its status takes less than 8 KiB on the wire."""
    error = errors.PipelineNotFoundError(
        message,
        metadata=metadata,
        violations=[FieldViolation(*violation) for violation in violations],
        resource_name=name,
    )
    status = wire_status(error, "i" * 128)
    percent_encoded = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in status.details.encode())
    base64 = len(status.trailing_metadata[1][1]) * 4 / 3
    assert percent_encoded + base64 + 128 < 8 * 1024


def test_garbled_request(serve: Serve) -> None:
    """Bytes that are no message are rejected as the caller's error."""
    channel = serve(Scripted()).channel
    get: Send = channel.unary_unary("/kfadapter.v1.PipelineService/Get", request_serializer=bytes)
    it = failure(lambda: get(b"\xff\xff\xff", timeout=10))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_garbled_request_in_a_stream(serve: Serve) -> None:
    """The same holds for the messages of a stream."""
    channel = serve(Scripted()).channel
    upload: Send = channel.stream_unary("/kfadapter.v1.PipelineService/Upload", request_serializer=bytes)
    it = failure(lambda: upload(iter([b"\xff\xff\xff"]), timeout=10))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
