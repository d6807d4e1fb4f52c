"""What KFP's failures mean to a caller, as data.

KFP blurs many cases: an unknown pipeline, a missing permission and a bad file may give the same status and text. So a
row may name a look: a question that is asked after the failure, and the answer that the row is for. The happy path pays
nothing for it. The first row that fits is taken. `proof` names what shows the row to be true: a step of a recorded
transcript (`pipelines: get unknown id`), or a test with a KFP that misbehaves on purpose (`fault: ...`).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kfadapter_grpc.domain import errors
from kfadapter_grpc.kfp_backend.api import KfpFailureError, NotAnApiError, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kfadapter_grpc.domain.errors import AdapterError

KFP_FILE_LIMIT = 33_554_432
"""Bytes that KFP takes in a file (32 MiB)."""
KFP_PACKET_LIMIT = 16_777_216
"""Bytes that KFP's MySQL takes in one statement unless configured otherwise (16 MiB)."""


class Look(enum.Enum):
    """What is asked after a failure."""

    TARGET = "is the target there, and may we see it?"
    SIZE = "how large was the file?"


class Seen(enum.Enum):
    """What a look may show."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN_USER = "KFP does not know us (401)"
    FORBIDDEN = "KFP does not let us (403)"
    OVER_LIMIT = "over KFP's limit"
    OVER_PACKET = "over MySQL's default packet"
    SMALL = "within all limits"


@dataclass(frozen=True, slots=True)
class Row:
    """One case.

    Attributes:
        operations: What was asked of KFP; empty for whatever it was.
        statuses: The HTTP statuses.
        pattern: A regular expression found in KFP's chain of messages.
        error: What the caller gets.
        message: The text; `{said}` is KFP's innermost message, and `{subject}`, `{size}`, `{limit}` stand for what the
            call was about.
        proof: What shows it.
        seen: What the look must show; None: nothing is asked.
        field: The request's field that is wrong.
    """

    operations: tuple[Operation, ...]
    statuses: tuple[int, ...]
    pattern: str
    error: type[AdapterError]
    message: str
    proof: tuple[str, ...]
    seen: Seen | None = None
    field: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the call that failed.

    Attributes:
        subject: What the call was about, in words (`pipeline named 'x'`).
        resource: The name or id of it.
        values: More values for the error's metadata.
        look: Asks after the failure.
    """

    subject: str = ""
    resource: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    look: Callable[[Look], Seen] | None = None


_LOOK_OF = {
    Seen.THERE: Look.TARGET,
    Seen.MISSING: Look.TARGET,
    Seen.UNKNOWN_USER: Look.TARGET,
    Seen.FORBIDDEN: Look.TARGET,
    Seen.OVER_LIMIT: Look.SIZE,
    Seen.OVER_PACKET: Look.SIZE,
}

_O = Operation
_UPLOADS = (_O.UPLOAD, _O.UPLOAD_VERSION)
_WITH_PIPELINE = (_O.GET_PIPELINE, _O.GET_BY_NAME, _O.DELETE_PIPELINE, _O.LIST_VERSIONS, _O.CHEAP_VERSIONS)
_BLURRED_UPLOAD = r"^Failed to create a pipeline( version)?$"

_NOT_KNOWN = (
    "Kubeflow Pipelines does not accept the credentials of the adapter (401): its operator must configure valid ones"
)
_NOT_ALLOWED = (
    "Kubeflow Pipelines does not let the adapter do this (403) {subject}: "
    "the adapter's operator must grant it the permission, or the namespace is the wrong one"
)
_COUNTS_BYTES = (
    "Kubeflow Pipelines counts bytes of UTF-8, not characters, and a Korean character is 3 bytes, so that 42 of them "
    "fit; shorten it. Kubeflow Pipelines says: {said}"
)
NO_SUCH_PIPELINE = "there is no pipeline {subject}; check the spelling and the namespace, or list the pipelines"
NO_SUCH_VERSION = "there is no version {subject} of the pipeline; ListVersions tells which there are"
_BAD_FILE = "Kubeflow Pipelines does not take the file as a pipeline: {said}"

ROWS: tuple[Row, ...] = (
    Row(
        (),
        (401,),
        "",
        errors.KfpRejectedCredentialsError,
        _NOT_KNOWN,
        ("multi_user: list team-a as nobody", "fault: 401"),
    ),
    Row(
        (),
        (403,),
        "",
        errors.KfpRejectedCredentialsError,
        _NOT_ALLOWED,
        ("multi_user: list team-a as bob", "fault: 403"),
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
        _UPLOADS,
        (413,),
        "",
        errors.UploadTooLargeError,
        "a proxy before Kubeflow Pipelines takes no file of {size} bytes; make it smaller, "
        "or ask its operator to raise the limit",
        ("fault: 413 for an upload",),
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
        (_O.GET_VERSION, _O.DELETE_VERSION),
        (404,),
        r"PipelineVersion \S+ not found",
        errors.VersionNotFoundError,
        NO_SUCH_VERSION,
        ("versions: get unknown version", "versions: delete it again"),
    ),
    Row(
        _WITH_PIPELINE,
        (404,),
        r"Pipeline .+ not found",
        errors.PipelineNotFoundError,
        NO_SUCH_PIPELINE,
        (
            "pipelines: get unknown id",
            "pipelines: get unknown name",
            "pipelines: delete deleted",
            "versions: list of unknown pipeline",
            "seams: v1beta1 of an unknown pipeline",
        ),
    ),
    Row(
        (_O.UPLOAD, _O.CREATE_PIPELINE),
        (409,),
        "",
        errors.PipelineExistsError,
        "there is a pipeline {subject} already; choose another name, or upload a new version of it",
        ("pipelines: same name again", "seams: the same name again"),
    ),
    Row(
        (_O.UPLOAD_VERSION,),
        (409,),
        "",
        errors.VersionExistsError,
        "the pipeline has a version named '{version}' already (letter case does not count); "
        "choose another version name, or none to get the next number",
        ("versions: same version name again", "versions: same name, other case, again"),
    ),
    Row(
        (_O.DELETE_PIPELINE,),
        (400,),
        r"existing pipeline versions",
        errors.PipelineHasVersionsError,
        "the pipeline {subject} has versions; set force to delete them all",
        ("pipelines: delete with a version left",),
    ),
    Row(
        (_O.LIST_PIPELINES, _O.LIST_VERSIONS, _O.CHEAP_VERSIONS),
        (400,),
        r"[Ii]nvalid (page|package) token|page token does not match",
        errors.InvalidPageTokenError,
        "the page token is not one of this listing; start again without a token",
        ("pipelines: bad token", "pipelines: token with another sort"),
        field="page_token",
    ),
    Row(
        (_O.LIST_PIPELINES, _O.LIST_VERSIONS),
        (400,),
        r'unrecognized field \\?"tags\.',
        errors.UnsupportedByKfpError,
        "this Kubeflow Pipelines keeps no tags (they came with 2.17); leave the filter on tags out",
        ("kfp-2.5/seams: pipelines filtered by tag",),
    ),
    Row(
        _UPLOADS,
        (400,),
        r"^Failed to read a pipeline spec file",
        errors.UploadTooLargeError,
        "the file has {size} bytes, more than the {limit} that Kubeflow Pipelines takes; make it smaller",
        ("bad_uploads: 33 MiB",),
        seen=Seen.OVER_LIMIT,
    ),
    Row(
        _UPLOADS,
        (400,),
        r"^Failed to read a pipeline spec file",
        errors.InvalidPipelineFileError,
        "Kubeflow Pipelines cannot read the file; an archive must hold one pipeline file",
        ("bad_uploads: zip without members", "bad_uploads: broken zip"),
    ),
    Row(
        _UPLOADS,
        (400,),
        _BLURRED_UPLOAD,
        errors.KfpRejectedCredentialsError,
        _NOT_KNOWN,
        ("multi_user: upload to team-a as nobody", "multi_user: upload to team-a as a bad token"),
        seen=Seen.UNKNOWN_USER,
    ),
    Row(
        _UPLOADS,
        (400,),
        _BLURRED_UPLOAD,
        errors.KfpRejectedCredentialsError,
        _NOT_ALLOWED,
        ("multi_user: upload to team-a as bob", "multi_user: version upload as bob"),
        seen=Seen.FORBIDDEN,
    ),
    Row(
        (_O.UPLOAD_VERSION,),
        (400,),
        r"^Failed to create a pipeline version",
        errors.PipelineNotFoundError,
        "the pipeline {subject} is gone; somebody deleted it meanwhile",
        ("versions: version of unknown pipeline",),
        seen=Seen.MISSING,
    ),
    Row(
        (_O.UPLOAD, _O.CREATE_PIPELINE),
        (400,),
        r"\bPipeline\.Name length cannot exceed",
        errors.InvalidFieldError,
        "the pipeline's name is too long: " + _COUNTS_BYTES,
        ("bad_uploads: name of 300 characters",),
        field="metadata.name",
    ),
    Row(
        (_O.UPLOAD_VERSION,),
        (400,),
        r"\bPipelineVersion\.Name length cannot exceed",
        errors.InvalidFieldError,
        "the version's name (the pipeline's, if a first version was given none) is too long: " + _COUNTS_BYTES,
        ("fault: 400 for a version's name of 128 bytes",),
        field="metadata.version_name",
    ),
    Row(
        (_O.UPLOAD, _O.UPLOAD_VERSION, _O.CREATE_PIPELINE),
        (400, 500),
        r"length cannot exceed|Data too long",
        errors.InvalidFieldError,
        "a name or text is too long for Kubeflow Pipelines: {said}",
        ("kfp-2.5/bad_uploads: name of 300 characters",),
        field="metadata.name",
    ),
    Row(
        (_O.UPLOAD, _O.UPLOAD_VERSION, _O.CREATE_PIPELINE),
        (400,),
        r"tag (value|key) |number of tags",
        errors.InvalidFieldError,
        "Kubeflow Pipelines does not take the tags: {said}",
        ("seams: tag value of 64 characters", "seams: tag key with a dot", "seams: 21 tags"),
        field="metadata.tags",
    ),
    Row(
        _UPLOADS,
        (400, 500),
        r"unknown template format|pipeline spec|schema version|pipeline's name must|InvalidInputError|yaml:|json:",
        errors.InvalidPipelineFileError,
        _BAD_FILE,
        (
            "bad_uploads: YAML but not a pipeline",
            "bad_uploads: unknown schema version",
            "bad_uploads: capitals in the spec's name",
            "kfp-2.5/bad_uploads: YAML but not a pipeline",
        ),
    ),
    Row(
        _UPLOADS,
        (500,),
        "",
        errors.UploadTooLargeError,
        "Kubeflow Pipelines failed to store {size} bytes; its database takes less than {limit} in one statement unless "
        "max_allowed_packet is raised. Make the file smaller, or ask KFP's operator",
        ("fault: 500 for 17 MiB",),
        seen=Seen.OVER_PACKET,
    ),
    Row(
        _UPLOADS,
        (400,),
        r"^(?!Failed to create a pipeline( version)?$)",
        errors.InvalidPipelineFileError,
        _BAD_FILE,
        ("fault: 400 with words of its own",),
    ),
    Row(
        (_O.CREATE_PIPELINE,),
        (400,),
        "",
        errors.InvalidFieldError,
        "Kubeflow Pipelines does not take the name: {said}",
        ("kfp-2.5/seams: the same name again",),
        field="metadata.name",
    ),
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
"""All cases; whatever fits none of them is KFP_ERROR with KFP's own words."""


def explain(error: KfpFailureError, context: Context) -> AdapterError:
    """Tells what a failure of KFP means, looking after it where that is needed."""
    seen: dict[Look, Seen] = {}
    row = next((row for row in ROWS if _fits(row, error, context, seen)), None)
    failure = error.failure
    values = {"kfp_status": str(failure.status), **context.values}
    if row is None:
        said = failure.text or "no reason given"
        text = f"Kubeflow Pipelines failed ({error.operation.value}, HTTP {failure.status}): {said}"
        return errors.KfpError(text, metadata=values)
    text = row.message.format_map(
        _Words(said=failure.text, status=failure.status, subject=context.subject, **context.values)
    )
    violations = [errors.FieldViolation(row.field, text)] if row.field else []
    return row.error(
        " ".join(text.split()),
        metadata=values,
        violations=violations,
        resource_name=context.resource,
        retry_after=failure.retry_after,
    )


class _Words(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def _fits(row: Row, error: KfpFailureError, context: Context, seen: dict[Look, Seen]) -> bool:
    failure = error.failure
    if row.operations and error.operation not in row.operations:
        return False
    if failure.status not in row.statuses or not re.search(row.pattern, failure.full_text):
        return False
    if row.seen is None:
        return True
    look = _LOOK_OF[row.seen]
    if look not in seen and context.look is not None:
        seen[look] = context.look(look)
    return seen.get(look) is row.seen


_LOGIN = re.compile(rb"log.?in|sign.?in|oauth|openid|\bdex\b|password", re.IGNORECASE)


def explain_page(error: NotAnApiError) -> AdapterError:
    """Tells what a redirect or a page for people means: a login before KFP, or a wrong address."""
    answer = error.answer
    if _LOGIN.search(answer.location.encode()) or _LOGIN.search(answer.body[:65536]):
        return errors.KfpRejectedCredentialsError(
            "a login page stands before Kubeflow Pipelines: the adapter's operator must configure credentials, "
            "or an address inside the cluster",
            metadata={"kfp_status": str(answer.status)},
        )
    return errors.KfpError(
        f"not Kubeflow Pipelines' API answered but a {'redirect' if answer.location else 'web page'} "
        f"(HTTP {answer.status}); the adapter's operator should check KFADAPTER_KFP_URL",
        metadata={"kfp_status": str(answer.status)},
    )
