"""Pipelines, their versions and their files."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, BinaryIO, ClassVar, Protocol, TypeAlias

from kfadapter_grpc.contract.checks import Faults, Id, Namespace, RequestId, pattern, tags, text, within
from kfadapter_grpc.contract.listing import ListRequest, View
from kfadapter_grpc.contract.spec import SpecSummary

MAX_PIPELINE_NAME = 128
"""Maximum number of characters in a pipeline's name (KFP's limit)."""
MAX_VERSION_NAME = 127
"""Maximum number of characters in a version's name (KFP's limit)."""
MAX_TAGS = 20
MAX_CALLER_TAGS = MAX_TAGS - 2
"""Maximum number of tags that a caller may set: the adapter has two of its own."""
RESERVED_TAG_PREFIX = "kfadapter_"
MAX_DISPLAY_NAME = 255
"""Maximum number of characters in a display name (KFP's column)."""
MAX_DESCRIPTION = 4096
"""Maximum number of characters in a description: it is sent in a URL, of which servers accept 64 KiB, and Korean needs
9 bytes for each."""
MAX_URL = 2048
_MAX_INT64 = 2**63 - 1


class IfExists(enum.Enum):
    """What to do if a pipeline with the name exists."""

    NEW_VERSION = "new-version"
    FAIL = "fail"
    SKIP_IF_SAME = "skip-if-same"


@dataclass(frozen=True, slots=True)
class PipelineVersion:
    """One version of a pipeline. `created_at` is in UTC; `sha256` is lower-case hex or empty."""

    NOT_LISTED: ClassVar[tuple[str, ...]] = ("display_name", "tags", "sha256", "spec")

    pipeline_version_id: str
    pipeline_id: str
    name: str
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    code_source_url: str = ""
    spec: SpecSummary | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline. `created_at` is in UTC; `latest_version` and `version_count` are set with `View.FULL` only."""

    pipeline_id: str
    name: str
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    namespace: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    latest_version: PipelineVersion | None = None
    version_count: int | None = None


@dataclass(frozen=True, slots=True)
class PipelineRef:
    """Identifies a pipeline: by `pipeline_id`, or by `name` in `namespace`. One of the two is set."""

    pipeline_id: Id = ""
    name: Annotated[str, text(MAX_PIPELINE_NAME)] = ""
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.pipeline_id}" if self.pipeline_id else f"'{self.name}'"


@dataclass(frozen=True, slots=True)
class VersionRef:
    """Identifies a version of a pipeline: by id or by name; the latest if neither is set."""

    pipeline_version_id: Id = ""
    name: Annotated[str, text(MAX_VERSION_NAME)] = ""

    def __str__(self) -> str:
        return f"{self.pipeline_version_id}" if self.pipeline_version_id else f"'{self.name}'"


@dataclass(frozen=True, slots=True)
class GetPipelineRequest:
    pipeline: PipelineRef
    view: View = View.BASIC
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class ListPipelinesRequest(ListRequest):
    """Lists pipelines; all filters that are set must match. More tags than a pipeline has would make KFP's URL long."""

    ORDERS: ClassVar[tuple[str, ...]] = ("created_at", "name", "pipeline_id")

    name_contains: Annotated[str, text(MAX_PIPELINE_NAME)] = ""
    created_after: datetime | None = None
    tags: Annotated[Mapping[str, str], tags(MAX_TAGS, f"a pipeline has at most {MAX_TAGS}")] = field(
        default_factory=dict
    )
    namespace: Namespace = ""


def _description(value: str) -> Iterator[str]:
    if len(value) > MAX_DESCRIPTION:
        yield f"has {len(value)} characters; at most {MAX_DESCRIPTION} fit"
    if "\0" in value:
        yield "holds a NUL character; remove it"


CallerTags: TypeAlias = Annotated[
    Mapping[str, str], tags(MAX_CALLER_TAGS, f"at most {MAX_CALLER_TAGS} are allowed", reserved=RESERVED_TAG_PREFIX)
]


@dataclass(frozen=True, slots=True)
class UploadPipelineMetadata:
    """How to store a file."""

    name: Annotated[str, text(MAX_PIPELINE_NAME, required="give the pipeline a name")]
    version_name: Annotated[str, text(MAX_VERSION_NAME)] = ""
    display_name: Annotated[str, text(MAX_DISPLAY_NAME)] = ""
    description: Annotated[str, _description] = ""
    namespace: Namespace = ""
    tags: CallerTags = field(default_factory=dict)
    code_source_url: Annotated[str, text(MAX_URL)] = ""
    if_exists: IfExists = IfExists.NEW_VERSION
    request_id: RequestId = ""
    sha256: Annotated[str, pattern("[0-9A-Fa-f]{64}", "must be 64 hexadecimal digits, as sha256sum prints them")] = ""
    total_bytes: Annotated[int | None, within(0, _MAX_INT64, "is {}; a size cannot be negative")] = None

    def check(self) -> Faults:
        """Checks that the first version can have the pipeline's name."""
        if len(self.name) == MAX_PIPELINE_NAME and self.name.isascii() and not self.version_name:
            first = f"the first version gets the pipeline's name, of which at most {MAX_VERSION_NAME} are allowed"
            yield "name", f"has {MAX_PIPELINE_NAME} characters, and {first}; shorten it, or give a version_name"


_UPDATABLE = ("display_name", "tags")


def _update_mask(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path not in (*_UPDATABLE, "*"):
            yield f"'{path[:100]}' cannot be updated; allowed are {' and '.join(_UPDATABLE)}, or * for both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What KFP can change of a pipeline and of a version."""

    display_name: Annotated[str, text(MAX_DISPLAY_NAME)] = ""
    tags: CallerTags = field(default_factory=dict)
    update_mask: Annotated[Sequence[str], _update_mask] = ()

    @property
    def paths(self) -> frozenset[str]:
        """The fields to update: those of the mask, or those that are not empty."""
        paths = self.update_mask or [name for name in _UPDATABLE if getattr(self, name)]
        return frozenset(_UPDATABLE if "*" in paths else paths)

    def check(self) -> Faults:
        """Checks that there is something to update."""
        if not self.paths:
            yield (
                "update_mask",
                f"is empty, as {' and '.join(_UPDATABLE)} are; set one, or name in the mask what to clear",
            )


@dataclass(frozen=True, slots=True)
class UpdatePipelineRequest(Changes):
    pipeline: PipelineRef
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class UpdatePipelineVersionRequest(Changes):
    pipeline: PipelineRef
    version: VersionRef
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class DeletePipelineRequest:
    """Deletes a pipeline and its versions."""

    pipeline: PipelineRef
    force: bool = False
    allow_missing: bool = False
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class ListPipelineVersionsRequest(ListRequest):
    ORDERS: ClassVar[tuple[str, ...]] = ("created_at", "name", "pipeline_version_id")

    pipeline: PipelineRef
    view: View = View.BASIC
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class GetPipelineVersionRequest:
    """Gets a version of a pipeline, by default the latest."""

    pipeline: PipelineRef
    version: VersionRef = field(default_factory=VersionRef)
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class DeletePipelineVersionRequest:
    pipeline: PipelineRef
    version: VersionRef
    allow_missing: bool = False
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class DownloadPipelineRequest:
    """Downloads the file of a version, by default the latest."""

    pipeline: PipelineRef
    version: VersionRef = field(default_factory=VersionRef)
    namespace: Namespace = ""


class FileKind(enum.Enum):
    """The kind of a pipeline file, by its content; the value is the file name that is sent to KFP."""

    YAML = "pipeline.yaml"
    JSON = "pipeline.json"
    ZIP = "pipeline.zip"
    TAR_GZ = "pipeline.tar.gz"


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A checked file, ready to be stored; the creator of the stream, which is at position 0, closes it."""

    stream: BinaryIO
    size: int
    sha256: bytes
    kind: FileKind


class ByteStream(Protocol):
    """A stream of bytes that can be read once."""

    def read(self, size: int, /) -> bytes:
        """Reads the next `size` bytes; fewer at the end, none after it."""
        ...


@dataclass(frozen=True, slots=True)
class PipelineDownload:
    """The file of a version as KFP stores it: JSON, of one document or two. The creator of the stream closes it."""

    stream: ByteStream
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class UploadResult:
    pipeline: Pipeline
    version: PipelineVersion
    pipeline_created: bool
    version_created: bool
    duplicate_check_skipped: bool = False
    not_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteVersionResult:
    """What was deleted; an empty id if there was nothing to delete."""

    pipeline_version_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What was deleted; an empty id if there was nothing to delete."""

    pipeline_id: str = ""
    name: str = ""
    versions_deleted: int = 0
