"""Reads requests about pipelines: checks every field and makes of them what the repository is asked.

All fields that are wrong are told at once. Limits are KFP's, checked here because KFP answers some of them with a
bare 500.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.contract.errors import InvalidUploadError
from kfadapter_grpc.contract.pipelines import (
    MAX_CALLER_TAGS,
    MAX_PIPELINE_NAME,
    MAX_TAG_LENGTH,
    MAX_VERSION_NAME,
    RESERVED_TAG_PREFIX,
    IfExists,
    PipelineFilter,
    PipelineRef,
    UploadRequest,
    VersionRef,
)
from kfadapter_grpc.services.requests.checks import Checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def pipeline_ref(request: NamesPipeline, default_namespace: str) -> PipelineRef:
    """Reads which pipeline is meant.

    Raises:
        InvalidFieldError: None is named, or not in a way that can be right.
    """
    checks = Checks()
    if request.pipeline_id:
        checks.id("pipeline_id", request.pipeline_id)
    elif request.name:
        checks.text("name", request.name, MAX_PIPELINE_NAME)
    else:
        checks.add("pipeline", "set pipeline_id or name, not empty, to say which pipeline")
    checks.namespace("namespace", request.namespace)
    checks.raise_any()
    return PipelineRef(request.pipeline_id, request.name, request.namespace or default_namespace)


def version_ref(request: NamesVersion, *, required: bool) -> VersionRef:
    """Reads which version is meant; with none named, the latest, unless one is `required`.

    Raises:
        InvalidFieldError: None is named where one must be, or not in a way that can be right.
    """
    checks = Checks()
    if request.pipeline_version_id:
        checks.id("pipeline_version_id", request.pipeline_version_id)
    elif request.version_name:
        checks.text("version_name", request.version_name, MAX_VERSION_NAME)
    elif required or request.WhichOneof("version"):
        checks.add("version", "set pipeline_version_id or version_name, not empty, to say which version")
    checks.raise_any()
    return VersionRef(request.pipeline_version_id, request.version_name)


def pipeline_filter(request: pb.ListPipelinesRequest, default_namespace: str) -> PipelineFilter:
    """Reads which pipelines are wanted.

    Raises:
        InvalidFieldError: A filter is wrong.
    """
    checks = Checks()
    checks.text("name_contains", request.name_contains, MAX_PIPELINE_NAME)
    checks.namespace("namespace", request.namespace)
    if len(request.tags) > MAX_FILTER_TAGS:
        checks.add("tags", f"has {len(request.tags)} tags; a pipeline has at most {MAX_FILTER_TAGS}")
    for key, value in request.tags.items():
        _check_tag(checks, "tags", key, value)
    created_after = checks.time(request, "created_after")
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
    checks = Checks()
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


def _check_upload_names(checks: Checks, metadata: pb.UploadPipelineMetadata) -> None:
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
    checks.namespace("metadata.namespace", metadata.namespace)


def _check_tags(checks: Checks, tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_CALLER_TAGS:
        checks.add("metadata.tags", f"has {len(tags)} tags; at most {MAX_CALLER_TAGS} are allowed")
    for key, value in tags.items():
        _check_tag(checks, "metadata.tags", key, value)
        if key.startswith(RESERVED_TAG_PREFIX):
            checks.add(
                "metadata.tags", f"the key '{key[:80]}' begins with {RESERVED_TAG_PREFIX}, which is the adapter's own"
            )


def _check_tag(checks: Checks, name: str, key: str, value: str) -> None:
    if not key or "." in key:
        checks.add(name, f"the key '{key[:80]}' is empty or holds a dot, which Kubeflow Pipelines does not allow")
    checks.text(name, key, MAX_TAG_LENGTH, f"the key '{key[:20]!s}…' " if len(key) > MAX_TAG_LENGTH else "a key ")
    checks.text(name, value, MAX_TAG_LENGTH, f"the value of '{key[:80]}' ")
