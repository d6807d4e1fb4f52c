"""Reads requests: checks every field and makes of them what the repository is asked.

All fields that are wrong are told at once. Limits are KFP's, checked here because KFP answers some of them with a
bare 500.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from datetime import timezone
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kfadapter.v1 import common_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.domain import page_token
from kfadapter_grpc.domain.errors import FieldViolation, InvalidFieldError, InvalidUploadError
from kfadapter_grpc.domain.models import (
    MAX_CALLER_TAGS,
    MAX_PIPELINE_NAME,
    MAX_TAG_LENGTH,
    MAX_VERSION_NAME,
    RESERVED_TAG_PREFIX,
    IfExists,
    Order,
    PageRequest,
    PipelineFilter,
    PipelineRef,
    UploadRequest,
    VersionRef,
    View,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ListRequest: TypeAlias = pb.ListPipelinesRequest | pb.ListPipelineVersionsRequest

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_DISPLAY_NAME = 255
"""Characters in a display name (KFP's column)."""
MAX_DESCRIPTION = 4096
"""Characters in a description: it travels in a URL, of which servers take 64 KiB, and Korean needs 9 bytes each."""
MAX_FILTER_TAGS = 20
"""Tags that a pipeline may have (KFP's limit); more in a filter can fit none, and make the URL long."""
MAX_URL = 2048
"""Characters in a code source URL."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,63}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_ORDER_BY = re.compile(r"\s*(\w+)(?:\s+(asc|desc))?\s*")
_VIEWS = {
    common_pb2.VIEW_UNSPECIFIED: View.BASIC,
    common_pb2.VIEW_BASIC: View.BASIC,
    common_pb2.VIEW_FULL: View.FULL,
}
_IF_EXISTS = {
    pb.IF_EXISTS_UNSPECIFIED: IfExists.NEW_VERSION,
    pb.IF_EXISTS_NEW_VERSION: IfExists.NEW_VERSION,
    pb.IF_EXISTS_FAIL: IfExists.FAIL,
    pb.IF_EXISTS_SKIP_IF_SAME: IfExists.SKIP_IF_SAME,
}


NamesVersion: TypeAlias = pb.GetPipelineVersionRequest | pb.DeletePipelineVersionRequest | pb.DownloadPipelineRequest


class NamesPipeline(Protocol):
    """A request that names a pipeline."""

    pipeline_id: str
    name: str
    namespace: str


@dataclass(slots=True)
class _Checks:
    """Collects what is wrong with a request."""

    violations: list[FieldViolation] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        self.violations.append(FieldViolation(name, text))

    def text(self, name: str, value: str, limit: int, what: str = "") -> None:
        """Checks a text's length and that it can be shown; `what` says which text of the field is meant."""
        if len(value) > limit:
            self.add(name, f"{what}has {len(value)} characters; at most {limit} are allowed")
        if any(unicodedata.category(character) == "Cc" for character in value):
            self.add(name, f"{what}holds a control character (such as a line break or NUL); remove it")

    def raise_any(self) -> None:
        if self.violations:
            raise InvalidFieldError.of_all(self.violations)


def pipeline_ref(request: NamesPipeline, default_namespace: str) -> PipelineRef:
    """Reads which pipeline is meant.

    Raises:
        InvalidFieldError: None is named, or not in a way that can be right.
    """
    checks = _Checks()
    if request.pipeline_id:
        _check_id(checks, "pipeline_id", request.pipeline_id)
    elif request.name:
        checks.text("name", request.name, MAX_PIPELINE_NAME)
    else:
        checks.add("pipeline", "set pipeline_id or name, not empty, to say which pipeline")
    _check_namespace(checks, "namespace", request.namespace)
    checks.raise_any()
    return PipelineRef(request.pipeline_id, request.name, request.namespace or default_namespace)


def version_ref(request: NamesVersion, *, required: bool) -> VersionRef:
    """Reads which version is meant; with none named, the latest, unless one is `required`.

    Raises:
        InvalidFieldError: None is named where one must be, or not in a way that can be right.
    """
    checks = _Checks()
    if request.pipeline_version_id:
        _check_id(checks, "pipeline_version_id", request.pipeline_version_id)
    elif request.version_name:
        checks.text("version_name", request.version_name, MAX_VERSION_NAME)
    elif required or request.WhichOneof("version"):
        checks.add("version", "set pipeline_version_id or version_name, not empty, to say which version")
    checks.raise_any()
    return VersionRef(request.pipeline_version_id, request.version_name)


def view(value: common_pb2.View.ValueType) -> View:
    """Reads a view.

    Raises:
        InvalidFieldError: There is no such view.
    """
    if value not in _VIEWS:
        raise InvalidFieldError.of("view", f"{value} is not a view; use VIEW_BASIC or VIEW_FULL")
    return _VIEWS[value]


def page(request: ListRequest, id_field: str) -> PageRequest:
    """Reads which page is asked for; `id_field` is the key of `order_by` that stands for the id.

    Raises:
        InvalidFieldError: Size or order is wrong.
        InvalidPageTokenError: The token is not one of this listing.
    """
    checks = _Checks()
    if request.page_size < 0:
        checks.add("page_size", f"is {request.page_size}; use 0 for the default of 100, or up to 1000")
    order = _order(checks, request.order_by, ("created_at", "name", id_field))
    checks.raise_any()
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    return PageRequest(size, page_token.decode(request.page_token, _listing(request)), order)


def next_page_token(token: str, request: ListRequest) -> str:
    """Makes the token for the next page of the request's listing."""
    return page_token.encode(token, _listing(request))


def _listing(request: ListRequest) -> bytes:
    """What makes a listing the same: everything but which page of it."""
    same = type(request)()
    same.CopyFrom(request)  # type: ignore[arg-type] # of the same type, which mypy cannot tell for a union
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.DESCRIPTOR.full_name.encode() + same.SerializeToString(deterministic=True)


def _order(checks: _Checks, order_by: str, fields: tuple[str, ...]) -> Order:
    if not order_by.strip():
        return Order()
    match = _ORDER_BY.fullmatch(order_by)
    if match is None or match.group(1) not in fields:
        checks.add(
            "order_by", f"'{order_by[:100]}' is not an order; use one of {', '.join(fields)}, with ' desc' or not"
        )
        return Order()
    return Order(match.group(1), match.group(2) == "desc")


def pipeline_filter(request: pb.ListPipelinesRequest, default_namespace: str) -> PipelineFilter:
    """Reads which pipelines are wanted.

    Raises:
        InvalidFieldError: A filter is wrong.
    """
    checks = _Checks()
    checks.text("name_contains", request.name_contains, MAX_PIPELINE_NAME)
    _check_namespace(checks, "namespace", request.namespace)
    if len(request.tags) > MAX_FILTER_TAGS:
        checks.add("tags", f"has {len(request.tags)} tags; a pipeline has at most {MAX_FILTER_TAGS}")
    for key, value in request.tags.items():
        _check_tag(checks, "tags", key, value)
    created_after = None
    if request.HasField("created_after"):
        try:
            created_after = request.created_after.ToDatetime(tzinfo=timezone.utc)
        except (ValueError, OverflowError):
            checks.add("created_after", "is not a time between the years 1 and 9999")
    checks.raise_any()
    return PipelineFilter(
        request.name_contains, created_after, dict(request.tags), request.namespace or default_namespace
    )


def upload_stream(messages: Iterator[pb.UploadPipelineRequest]) -> tuple[pb.UploadPipelineMetadata, Iterator[bytes]]:
    """Splits a stream into its metadata and the bytes that follow.

    Raises:
        InvalidUploadError: It does not begin with metadata; later also, while the bytes are read, if what
            follows is not a chunk.
    """
    first = next(messages, None)
    if first is None:
        raise InvalidUploadError("the stream is empty; send a message with metadata first, then chunks")
    if first.WhichOneof("payload") != "metadata":
        raise InvalidUploadError("the stream does not begin with metadata; send it in the first message, then chunks")
    return first.metadata, _chunks(messages)


def _chunks(messages: Iterator[pb.UploadPipelineRequest]) -> Iterator[bytes]:
    for message in messages:
        kind = message.WhichOneof("payload")
        if kind == "metadata":
            raise InvalidUploadError("there is metadata a second time; send it in the first message only")
        if kind is None:
            raise InvalidUploadError("there is a message with neither metadata nor chunk; every message needs one")
        yield message.chunk


def upload(metadata: pb.UploadPipelineMetadata, default_namespace: str) -> UploadRequest:
    """Reads how a file is to be stored.

    Raises:
        InvalidFieldError: Fields are wrong; all of them are named.
    """
    checks = _Checks()
    _check_upload_names(checks, metadata)
    _check_tags(checks, metadata.tags)
    if metadata.if_exists not in _IF_EXISTS:
        checks.add(
            "metadata.if_exists", f"{metadata.if_exists} is not one of IF_EXISTS_NEW_VERSION, _FAIL, _SKIP_IF_SAME"
        )
    if metadata.request_id and not _REQUEST_ID.fullmatch(metadata.request_id):
        checks.add("metadata.request_id", "must be 1 to 63 letters, digits, '-', '_', '.' or ':'; a UUID is best")
    if metadata.sha256 and not _SHA256.fullmatch(metadata.sha256):
        checks.add("metadata.sha256", "must be 64 hexadecimal digits, as sha256sum prints them")
    if metadata.total_bytes < 0:
        checks.add("metadata.total_bytes", f"is {metadata.total_bytes}; a size cannot be negative")
    checks.raise_any()
    return UploadRequest(
        name=metadata.name,
        version_name=metadata.version_name,
        display_name=metadata.display_name,
        description=metadata.description,
        namespace=metadata.namespace or default_namespace,
        tags=dict(metadata.tags),
        code_source_url=metadata.code_source_url,
        if_exists=_IF_EXISTS[metadata.if_exists],
        request_id=metadata.request_id,
    )


def _check_upload_names(checks: _Checks, metadata: pb.UploadPipelineMetadata) -> None:
    if not metadata.name.strip():
        checks.add("metadata.name", "is empty; give the pipeline a name")
    checks.text("metadata.name", metadata.name, MAX_PIPELINE_NAME)
    checks.text("metadata.version_name", metadata.version_name, MAX_VERSION_NAME)
    if len(metadata.name) == MAX_PIPELINE_NAME and metadata.name.isascii() and not metadata.version_name:
        text = f"has {MAX_PIPELINE_NAME} characters, and the first version gets the pipeline's name, of which at most "
        checks.add("metadata.name", f"{text}{MAX_VERSION_NAME} are allowed; shorten it, or give a version_name")
    checks.text("metadata.display_name", metadata.display_name, MAX_DISPLAY_NAME)
    checks.text("metadata.code_source_url", metadata.code_source_url, MAX_URL)
    if len(metadata.description) > MAX_DESCRIPTION:
        checks.add("metadata.description", f"has {len(metadata.description)} characters; at most {MAX_DESCRIPTION} fit")
    if "\0" in metadata.description:
        checks.add("metadata.description", "holds a NUL character; remove it")
    _check_namespace(checks, "metadata.namespace", metadata.namespace)


def _check_tags(checks: _Checks, tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_CALLER_TAGS:
        checks.add("metadata.tags", f"has {len(tags)} tags; at most {MAX_CALLER_TAGS} are allowed")
    for key, value in tags.items():
        _check_tag(checks, "metadata.tags", key, value)
        if key.startswith(RESERVED_TAG_PREFIX):
            checks.add(
                "metadata.tags", f"the key '{key[:80]}' begins with {RESERVED_TAG_PREFIX}, which is the adapter's own"
            )


def _check_tag(checks: _Checks, name: str, key: str, value: str) -> None:
    if not key or "." in key:
        checks.add(name, f"the key '{key[:80]}' is empty or holds a dot, which Kubeflow Pipelines does not allow")
    checks.text(name, key, MAX_TAG_LENGTH, f"the key '{key[:20]!s}…' " if len(key) > MAX_TAG_LENGTH else "a key ")
    checks.text(name, value, MAX_TAG_LENGTH, f"the value of '{key[:80]}' ")


def _check_id(checks: _Checks, name: str, value: str) -> None:
    try:
        known = str(uuid.UUID(value)) == value.lower()
    except ValueError:
        known = False
    if not known:
        checks.add(name, f"'{value[:80]}' is not an id (a UUID); to look something up by its name, set the name")


def _check_namespace(checks: _Checks, name: str, value: str) -> None:
    if value and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        checks.add(name, f"'{value[:80]}' is not the name of a Kubernetes namespace")
