"""Downloads: from the answer that holds a version, in pieces, to the file that is handed on.

KFP answers with the version as JSON, in which `pipeline_spec` is a pipeline spec, a Workflow, or a wrapper around a
pipeline spec and a platform spec. The file is made of the very bytes of these values: one JSON document, or two of
them with a line `---` between. Only what YAML cannot hold is written as an escape.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.pipelines import PipelineDownload, PipelineRef, VersionRef
from kfadapter_grpc.kfp.json_ranges import JsonReader, Range
from kfadapter_grpc.kfp.splice import Splice
from kfadapter_grpc.kfp.versions import LATEST_ATTEMPTS, no_such_version, no_version_yet, version_context
from kfadapter_grpc.kfp.yaml_safe import YamlSafe
from kfadapter_grpc.spool import Spool, disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.pipelines import Pipelines
    from kfadapter_grpc.spool import SpoolPlace

SEPARATOR = b"\n---\n"
"""Stands between the pipeline spec and the platform spec, as between any two documents of YAML."""

_TELLING = frozenset({"pipeline_spec", "platform_spec", "root"})
_DIGEST_BYTES = 256 * 1024
_MAX_ID_BYTES = 100
_MAX_EMPTY_BYTES = 100


@dataclass(slots=True)
class _Version:
    """Where the parts of a version stand in KFP's answer; None for what is not there.

    Attributes:
        pipeline_id: The id of its pipeline.
        spec: The value of `pipeline_spec`.
        inner: The members of that value that tell a wrapper, by their keys.
    """

    pipeline_id: Range | None = None
    spec: Range | None = None
    inner: dict[str, Range] = field(default_factory=dict)

    def file_parts(self) -> tuple[Range, Range | None]:
        """Tells the pipeline spec, or the Workflow, and the platform spec that comes with it.

        Raises:
            KfpError: There is no spec.
        """
        if self.spec is None or not self.spec.is_object:
            raise _without_spec()
        wrapped = self.inner.get("pipeline_spec")
        if wrapped is None or "root" in self.inner:
            return self.spec, None
        platform = self.inner.get("platform_spec")
        if not wrapped.is_object or (platform is not None and platform.first not in (b"{", b"n")):
            raise _without_spec()
        return wrapped, platform if platform is not None and platform.is_object else None


class Downloader:
    """Gets the files of versions."""

    def __init__(self, pipelines: Pipelines, place: SpoolPlace) -> None:
        """Keeps what is on its way in `place`."""
        self._pipelines = pipelines
        self._versions = pipelines.versions
        self._place = place

    @contextmanager
    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> Iterator[PipelineDownload]:
        """Gets the file of a version, which is good for the block; after it nothing is left of it."""
        with closing(Spool(self._place)) as spool:
            pipeline_id = self._fetch(spool, ref, version, call)
            found = _read_version(spool, call)
            if _id(spool, found.pipeline_id) != pipeline_id:
                # KFP finds a version by its id alone, whichever pipeline the path names.
                raise no_such_version(version_context(pipeline_id, version))
            parts = _parts(spool, found)
            size, sha256 = _measured(YamlSafe(Splice(spool.stream, parts)), call)
            yield PipelineDownload(YamlSafe(Splice(spool.stream, parts)), size, sha256)

    def _fetch(self, spool: Spool, ref: PipelineRef, version: VersionRef, call: Call) -> str:
        """Gets KFP's answer for the version, and tells the pipeline's id."""
        pipeline_id = self._pipelines.id_of(ref, call)
        if version.pipeline_version_id:
            self._fetch_by_id(spool, pipeline_id, version, call)
        elif version.name:
            found = self._versions.find(pipeline_id, version, call)
            self._versions.fetch(pipeline_id, found.pipeline_version_id, spool, call)
        else:
            self._fetch_latest(spool, ref, pipeline_id, call)
        return pipeline_id

    def _fetch_by_id(self, spool: Spool, pipeline_id: str, version: VersionRef, call: Call) -> None:
        try:
            self._versions.fetch(pipeline_id, version.pipeline_version_id, spool, call)
        except errors.VersionNotFoundError:
            self._versions.ensure_pipeline(pipeline_id, call)
            raise

    def _fetch_latest(self, spool: Spool, ref: PipelineRef, pipeline_id: str, call: Call) -> None:
        for attempt in range(1, LATEST_ATTEMPTS + 1):
            latest, _ = self._versions.latest(pipeline_id, call)
            if latest is None:
                raise no_version_yet(pipeline_id, ref)
            try:
                self._versions.fetch(pipeline_id, latest.pipeline_version_id, spool, call)
            except errors.VersionNotFoundError:
                if attempt == LATEST_ATTEMPTS:
                    raise
            else:
                return


def _read_version(spool: Spool, call: Call) -> _Version:
    """Finds the parts of a version in KFP's answer."""
    spool.rewind()
    with disk_faults():
        reader = JsonReader(spool.stream, partial(_ensure_wanted, call))
        version = _Version()
        for key in reader.members():
            if key == "pipeline_spec":
                version.spec, version.inner = _read_spec(reader)
            elif key == "pipeline_id":
                version.pipeline_id = reader.value()
            else:
                reader.value()
        reader.end()
        return version


def _read_spec(reader: JsonReader) -> tuple[Range, dict[str, Range]]:
    if reader.peek() != b"{":
        return reader.value(), {}
    begin, inner = reader.position, {}
    for key in reader.members():
        value = reader.value()
        if key in _TELLING:
            inner[key] = value
    return Range(begin, reader.position, b"{"), inner


def _id(spool: Spool, where: Range | None) -> str:
    """Reads an id, which is short."""
    text = _text(spool, where, _MAX_ID_BYTES) if where is not None and where.first == b'"' else b'""'
    return str(json.loads(text or b'""'))


def _parts(spool: Spool, version: _Version) -> list[Range | bytes]:
    """Tells what the file is made of; a platform spec that says nothing is left out."""
    spec, platform = version.file_parts()
    if platform is None or re.fullmatch(rb"\{\s*\}", _text(spool, platform, _MAX_EMPTY_BYTES)):
        return [spec]
    return [spec, SEPARATOR, platform]


def _text(spool: Spool, where: Range, limit: int) -> bytes:
    """Reads a short value; of a longer one, nothing."""
    return Splice(spool.stream, [where]).read(limit + 1) if where.end - where.begin <= limit else b""


def _measured(stream: YamlSafe, call: Call) -> tuple[int, bytes]:
    """Tells size and SHA-256 of a stream."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_DIGEST_BYTES):
        _ensure_wanted(call)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.digest()


def _ensure_wanted(call: Call) -> None:
    if call.cancelled:
        raise errors.CallCancelledError("the caller went away")
    if call.remaining() <= 0:
        raise errors.KfpTimeoutError("the deadline passed before the download could begin; allow more time")


def _without_spec() -> errors.KfpError:
    return errors.KfpError("Kubeflow Pipelines answered with a version that holds no pipeline spec; see its log")
