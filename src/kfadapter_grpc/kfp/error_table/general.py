"""The parts of a row of the error table, and the cases that do not depend on the operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.kfp.connections import EXPECTS_HTTPS
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation

KFP_FILE_LIMIT = 33_554_432
"""The largest file that KFP accepts (32 MiB)."""
KFP_PACKET_LIMIT = 16_777_216
"""The largest statement that KFP's MySQL accepts unless configured otherwise, in bytes (16 MiB)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case.

    Attributes:
        operations: The operation of KFP; empty for any.
        pattern: A regular expression found in KFP's chain of messages.
        message: The text; `{detail}` is KFP's innermost message, `{what}` the operation with its subject, and
            `{subject}`, `{size}`, `{limit}` stand for what the call was about.
        of_caller: The error and its text if the caller's own credentials were sent.
        sizes: The sizes of the file for which it applies; None: any.
    """

    statuses: tuple[int, ...]
    error: type[AdapterError]
    message: str
    proof: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    pattern: str = ""
    field: str = ""
    of_caller: tuple[type[AdapterError], str] | None = None
    sizes: range | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What is known about the failed call.

    Attributes:
        subject: What the call was about, as text (`'x'` in `pipeline 'x'`).
        values: Further values for the error's metadata; `size` is that of an uploaded file.
        probe: Sends other requests about the target of an upload, and returns their failure, if there is one.
    """

    subject: str = ""
    resource: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    probe: Callable[[], KfpFailureError | None] | None = None

    @classmethod
    def by_id(cls, field: str, value: str) -> Context:
        return cls(value, value, {field: value})

    def error(self, kind: type[AdapterError], text: str) -> AdapterError:
        """Makes the error; `{subject}` stands for the subject in `text`."""
        return kind(text.format(subject=self.subject), metadata=self.values, resource_name=self.resource)


COUNTS_BYTES = (
    "Kubeflow Pipelines counts bytes of UTF-8, not characters, and a Korean character is 3 bytes, so that 42 of them "
    "fit; shorten it. Kubeflow Pipelines reports: {detail}"
)

TLS_EXPECTED = re.compile(rb"HTTP request (was sent )?to (an )?HTTPS (server|port)")
"""The response of Go's servers and nginx to plain HTTP where they expect TLS."""

FIRST: tuple[Row, ...] = (
    Row(
        (400,),
        errors.KfpUnavailableError,
        EXPECTS_HTTPS,
        ("fault: 400 of a TLS port",),
        pattern=TLS_EXPECTED.pattern.decode(),
    ),
    Row(
        (401, 500),
        errors.KfpUnavailableError,
        "Kubeflow Pipelines cannot ask Kubernetes who the user is and what it may do; try again later",
        (
            "multi_user_roles: list team-a with a token, Kubernetes unreachable",
            "multi_user_roles: list team-a as alice, Kubernetes unreachable",
        ),
        pattern=r"Failed to (review the token provided|create SubjectAccessReview)",
    ),
    Row(
        (401,),
        errors.KfpRejectedCredentialsError,
        "Kubeflow Pipelines does not know the adapter (401): its operator must configure credentials that are accepted "
        "(KFADAPTER_KFP_CREDENTIALS)",
        (
            "multi_user: list team-a as nobody",
            "fault: 401",
            "multi_user: list team-a as a bad token",
            "multi_user_roles: version upload to team-a as a bad token",
        ),
        of_caller=(
            errors.UnauthenticatedError,
            (
                "Kubeflow Pipelines does not accept the credentials that came with the call (401); send valid ones, "
                "which this adapter forwards unchanged"
            ),
        ),
    ),
    Row(
        (403,),
        errors.KfpRejectedCredentialsError,
        "Kubeflow Pipelines does not let the adapter do this (403, {what}): "
        "the adapter's operator must grant it the permission, or the namespace is the wrong one",
        (
            "multi_user: list team-a as bob",
            "fault: 403",
            "multi_user: delete the pipeline as bob",
            "multi_user: run as bob",
            "multi_user_roles: version upload to team-a as vera",
        ),
        of_caller=(
            errors.PermissionDeniedError,
            (
                "Kubeflow Pipelines does not let the user of the call do this (403, {what}): "
                "ask its operator for the permission, or name another namespace"
            ),
        ),
    ),
    Row(
        (429,),
        errors.StorageFullError,
        "the storage of Kubeflow Pipelines is full: {detail}",
        ("fault: 429 of a full disk",),
        pattern=r"ResourceExhaustedError: ",
    ),
    Row(
        (429, 502, 503, 504),
        errors.KfpUnavailableError,
        "Kubeflow Pipelines, or a proxy before it, cannot serve now (HTTP {status}); try again later",
        ("fault: 429", "fault: 503"),
    ),
    Row(
        (414, 431),
        errors.InvalidFieldError,
        "the names, texts and tags together are too long for a URL of Kubeflow Pipelines or a proxy before it; "
        "shorten them",
        ("fault: 414", "fault: 431"),
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "not found: experiment 'Default' in the namespace, and this Kubeflow Pipelines, which serves several "
        "users, has none to fall back on; say which experiment is meant",
        ("multi_user: run without an experiment",),
        pattern=r"Experiment id can not be empty in multi-user mode",
        field="experiment",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "this Kubeflow Pipelines serves several users: say which namespace is meant, or have the adapter's operator "
        "configure one (KFADAPTER_NAMESPACE)",
        (
            "multi_user: experiment without a namespace",
            "multi_user: list runs without a namespace",
        ),
        pattern=r"empty namespace in multi-user mode",
        field="namespace",
    ),
    Row(
        (400,),
        errors.InvalidPageTokenError,
        "the page token is not one of this listing; start again without a token",
        ("pipelines: bad token", "pipelines: token with another sort"),
        pattern=r"[Ii]nvalid (page|package) token|page token does not match",
        field="page_token",
    ),
)

LAST: tuple[Row, ...] = (
    Row(
        (404, 405),
        errors.KfpError,
        "Kubeflow Pipelines does not serve the requested address (HTTP {status}); "
        "the adapter's operator should check KFADAPTER_KFP_URL",
        ("fault: 404 of another server",),
    ),
)
