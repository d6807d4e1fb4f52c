"""Cases that do not depend on the operation."""

from __future__ import annotations

import re

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.connections import EXPECTS_HTTPS
from kfadapter_grpc.kfp.error_table.row import Row

NOT_KNOWN = (
    "Kubeflow Pipelines does not know the adapter (401): its operator must configure credentials that are accepted "
    "(KFADAPTER_KFP_CREDENTIALS)"
)
NOT_ALLOWED = (
    "Kubeflow Pipelines does not let the adapter do this {subject} (403): "
    "the adapter's operator must grant it the permission, or the namespace is the wrong one"
)
CALLER_NOT_KNOWN = (
    "Kubeflow Pipelines does not accept the credentials that came with the call (401); send valid ones, "
    "which this adapter hands on as they are"
)
CALLER_NOT_ALLOWED = (
    "Kubeflow Pipelines does not let the user of the call do this {subject} (403): "
    "ask its operator for the permission, or name another namespace"
)
COUNTS_BYTES = (
    "Kubeflow Pipelines counts bytes of UTF-8, not characters, and a Korean character is 3 bytes, so that 42 of them "
    "fit; shorten it. Kubeflow Pipelines says: {said}"
)

TLS_EXPECTED = re.compile(rb"HTTP request (was sent )?to (an )?HTTPS (server|port)")
"""The response of Go's servers and nginx to plain HTTP where they expect TLS."""

FIRST: tuple[Row, ...] = (
    Row(
        (),
        (400,),
        TLS_EXPECTED.pattern.decode(),
        errors.KfpUnavailableError,
        EXPECTS_HTTPS,
        ("fault: 400 of a TLS port",),
    ),
    Row(
        (),
        (401, 500),
        r"Failed to (review the token provided|create SubjectAccessReview)",
        errors.KfpUnavailableError,
        "Kubeflow Pipelines cannot ask Kubernetes who the user is and what it may do; try again later",
        (
            "multi_user_roles: list team-a with a token, Kubernetes unreachable",
            "multi_user_roles: list team-a as alice, Kubernetes unreachable",
        ),
    ),
    Row(
        (),
        (401,),
        "",
        errors.KfpRejectedCredentialsError,
        NOT_KNOWN,
        ("multi_user: list team-a as nobody", "fault: 401"),
        as_caller=False,
    ),
    Row(
        (),
        (401,),
        "",
        errors.UnauthenticatedError,
        CALLER_NOT_KNOWN,
        ("multi_user: list team-a as a bad token", "fault: 401"),
        as_caller=True,
    ),
    Row(
        (),
        (403,),
        "",
        errors.KfpRejectedCredentialsError,
        NOT_ALLOWED,
        ("multi_user: list team-a as bob", "fault: 403"),
        as_caller=False,
    ),
    Row(
        (),
        (403,),
        "",
        errors.PermissionDeniedError,
        CALLER_NOT_ALLOWED,
        ("multi_user: delete the pipeline as bob", "multi_user: run as bob", "fault: 403"),
        as_caller=True,
    ),
    Row(
        (),
        (429,),
        r"ResourceExhaustedError: ",
        errors.StorageFullError,
        "Kubeflow Pipelines has no room for it: {said}",
        ("fault: 429 of a full disk",),
    ),
    Row(
        (),
        (429, 502, 503, 504),
        "",
        errors.KfpUnavailableError,
        "Kubeflow Pipelines, or a proxy before it, cannot serve now (HTTP {status}); try again later",
        ("fault: 429", "fault: 503"),
    ),
    Row(
        (),
        (414, 431),
        "",
        errors.InvalidFieldError,
        "the names, texts and tags together are too long for a URL of Kubeflow Pipelines or a proxy before it; "
        "shorten them",
        ("fault: 414", "fault: 431"),
    ),
    Row(
        (),
        (400,),
        r"Experiment id can not be empty in multi-user mode",
        errors.InvalidFieldError,
        "not found: experiment 'Default' in the namespace, and this Kubeflow Pipelines, which serves several "
        "users, has none to fall back on; say which experiment is meant",
        ("multi_user: run without an experiment",),
        field="experiment",
    ),
    Row(
        (),
        (400,),
        r"empty namespace in multi-user mode",
        errors.InvalidFieldError,
        "this Kubeflow Pipelines serves several users: say which namespace is meant, or have the adapter's operator "
        "configure one (KFADAPTER_NAMESPACE)",
        (
            "multi_user: experiment without a namespace",
            "multi_user: list runs without a namespace",
        ),
        field="namespace",
    ),
    Row(
        (),
        (400,),
        r"[Ii]nvalid (page|package) token|page token does not match",
        errors.InvalidPageTokenError,
        "the page token is not one of this listing; start again without a token",
        ("pipelines: bad token", "pipelines: token with another sort"),
        field="page_token",
    ),
)
"""Those that precede all others."""

LAST: tuple[Row, ...] = (
    Row(
        (),
        (404, 405),
        "",
        errors.KfpError,
        "Kubeflow Pipelines does not know the address that it was asked for (HTTP {status}); "
        "the adapter's operator should check KFADAPTER_KFP_URL",
        ("fault: 404 of another server",),
    ),
)
"""Those that follow all others."""
