"""Pipelines, their versions and their files."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.contract.spec import SpecSummary

MAX_PIPELINE_NAME = 128
"""Characters in a pipeline's name (KFP's limit)."""
MAX_VERSION_NAME = 127
"""Characters in a version's name (KFP's limit)."""
MAX_CALLER_TAGS = 18
"""Tags that a caller may set: KFP's 20 less the two of the adapter."""
MAX_TAG_LENGTH = 63
"""Characters in a tag's key and in its value (KFP's limit)."""
RESERVED_TAG_PREFIX = "kfadapter_"
"""Begins the keys of the adapter's own tags."""


class IfExists(enum.Enum):
    """What to do if a pipeline of the name exists."""

    NEW_VERSION = "new-version"
    FAIL = "fail"
    SKIP_IF_SAME = "skip-if-same"


@dataclass(frozen=True, slots=True)
class PipelineVersion:
    """One version of a pipeline. `created_at` is in UTC; `sha256` is lower-case hex or empty."""

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
    """A pipeline. `created_at` is in UTC; `latest_version` and `version_count` come with `View.FULL` only."""

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
    """Names a pipeline: by `pipeline_id`, or by `name` in `namespace`. One of the two is set."""

    pipeline_id: str = ""
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Says it as a message does."""
        return f"with id {self.pipeline_id}" if self.pipeline_id else f"named '{self.name}'"


@dataclass(frozen=True, slots=True)
class VersionRef:
    """Names a version of a pipeline: by id, by name, or, with neither, the latest."""

    pipeline_version_id: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Says it as a message does."""
        return f"with id {self.pipeline_version_id}" if self.pipeline_version_id else f"named '{self.name}'"


@dataclass(frozen=True, slots=True)
class PipelineFilter:
    """Which pipelines to list; all that are set must match."""

    name_contains: str = ""
    created_after: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""


class FileKind(enum.Enum):
    """What a pipeline file is, told by its content; the value is the file name that KFP is given."""

    YAML = "pipeline.yaml"
    JSON = "pipeline.json"
    ZIP = "pipeline.zip"
    TAR_GZ = "pipeline.tar.gz"


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A checked file, ready to be stored.

    Attributes:
        stream: The bytes, at position 0. It belongs to the one who made it.
        size: In bytes.
        sha256: The checksum of the bytes, 32 bytes.
        kind: What the file is.
    """

    stream: BinaryIO
    size: int
    sha256: bytes
    kind: FileKind


class ByteStream(Protocol):
    """Bytes that are read from the first to the last."""

    def read(self, size: int, /) -> bytes:
        """Reads the next `size` bytes; fewer at the end, none behind it."""
        ...


@dataclass(frozen=True, slots=True)
class PipelineDownload:
    """The file of a version as KFP holds it: JSON, of one document or two.

    Attributes:
        stream: The bytes, at the first one. They belong to the one who made the stream.
        size: In bytes.
        sha256: The checksum of the bytes, 32 bytes.
    """

    stream: ByteStream
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """How a file is to be stored. Names and tags are checked already."""

    name: str
    version_name: str = ""
    display_name: str = ""
    description: str = ""
    namespace: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    code_source_url: str = ""
    if_exists: IfExists = IfExists.NEW_VERSION
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What became of an upload.

    Attributes:
        not_kept: The fields of the request that were set and that KFP did not keep.
    """

    pipeline: Pipeline
    version: PipelineVersion
    pipeline_created: bool
    version_created: bool
    duplicate_check_skipped: bool = False
    not_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteVersionResult:
    """What a deletion removed; an empty id where there was nothing to delete."""

    pipeline_version_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What a deletion removed; an empty id where there was nothing to delete."""

    pipeline_id: str = ""
    name: str = ""
    versions_deleted: int = 0
