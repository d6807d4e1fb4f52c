"""The client library: calls an adapter from Python, with typed results and errors.

from kfadapter_grpc.client import Client

with Client("127.0.0.1:50051") as client:
    client.upload("train.yaml", name="train")
    print(client.get("train").latest_version)
"""

from kfadapter_grpc.client.client import DEFAULT_TARGET, TARGET_VARIABLE, Client
from kfadapter_grpc.client.download import DownloadReceipt
from kfadapter_grpc.client.errors import CallFailedError, CannotConnectError, DeadlineError
from kfadapter_grpc.client.health import HealthStatus
from kfadapter_grpc.client.upload import UploadReceipt
from kfadapter_grpc.domain.errors import (
    AdapterError,
    CallCancelledError,
    ChecksumMismatchError,
    DrainingError,
    FieldViolation,
    InternalError,
    InvalidFieldError,
    InvalidPageTokenError,
    InvalidPipelineFileError,
    InvalidUploadError,
    KfpError,
    KfpRejectedCredentialsError,
    KfpTimeoutError,
    KfpUnavailableError,
    NameContestedError,
    OverloadedError,
    PermissionDeniedError,
    PipelineExistsError,
    PipelineHasVersionsError,
    PipelineNotFoundError,
    RequestIdReusedError,
    UnsupportedByKfpError,
    UploadTooLargeError,
    VersionExistsError,
    VersionNotFoundError,
)
from kfadapter_grpc.domain.models import (
    DeleteResult,
    DeleteVersionResult,
    IfExists,
    Page,
    Pipeline,
    PipelineVersion,
    View,
)
from kfadapter_grpc.domain.spec import (
    Artifact,
    KubernetesExtra,
    Parameter,
    ParameterType,
    PipelineFormat,
    SpecSummary,
    Task,
    TaskKind,
    TaskResources,
)

__all__ = [
    "DEFAULT_TARGET",
    "TARGET_VARIABLE",
    "AdapterError",
    "Artifact",
    "CallCancelledError",
    "CallFailedError",
    "CannotConnectError",
    "ChecksumMismatchError",
    "Client",
    "DeadlineError",
    "DeleteResult",
    "DeleteVersionResult",
    "DownloadReceipt",
    "DrainingError",
    "FieldViolation",
    "HealthStatus",
    "IfExists",
    "InternalError",
    "InvalidFieldError",
    "InvalidPageTokenError",
    "InvalidPipelineFileError",
    "InvalidUploadError",
    "KfpError",
    "KfpRejectedCredentialsError",
    "KfpTimeoutError",
    "KfpUnavailableError",
    "KubernetesExtra",
    "NameContestedError",
    "OverloadedError",
    "Page",
    "Parameter",
    "ParameterType",
    "PermissionDeniedError",
    "Pipeline",
    "PipelineExistsError",
    "PipelineFormat",
    "PipelineHasVersionsError",
    "PipelineNotFoundError",
    "PipelineVersion",
    "RequestIdReusedError",
    "SpecSummary",
    "Task",
    "TaskKind",
    "TaskResources",
    "UnsupportedByKfpError",
    "UploadReceipt",
    "UploadTooLargeError",
    "VersionExistsError",
    "VersionNotFoundError",
    "View",
]
