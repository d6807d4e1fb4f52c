"""Downloads: from the response that contains a version to the file that is sent.

KFP returns the version as JSON, in which `pipeline_spec` is a pipeline spec, a Workflow, or a wrapper around a
pipeline spec and a platform spec. The file consists of the very bytes of these values: one JSON document, or two with
a line `---` between them. Only what is invalid in YAML is escaped. A spec may have 30 MiB, so the response is kept in a
file and mapped, and its values are located without building them.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import mmap
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import ByteStream, PipelineDownload, PipelineRef, VersionRef
from kfadapter_grpc.kfp.error_table import NO_SUCH_VERSION
from kfadapter_grpc.kfp.versions import no_version_yet, version_context
from kfadapter_grpc.spool import Spool, SpoolPlace, disk_faults

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.pipelines import Pipelines

T = TypeVar("T")

SEPARATOR = b"\n---\n"
"""Separates the pipeline spec and the platform spec, as any two documents of YAML."""

_KEY = b'"pipeline_spec"'
_DIGEST_BYTES = 256 * 1024
_UNLOAD_BYTES = 4 * 1024 * 1024
_LOCATING = threading.Lock()
"""Locating the spec loads the whole response: one at a time, so that many downloads take no more memory than one."""
_LATE = "the deadline passed before the download could begin; allow more time"
_EMPTY = re.compile(rb"\{\s*\}")

_UNSAFE = {char.encode(): b"\\u%04x" % ord(char) for char in "\x7f\u2028\u2029\ufeff\ufffe\uffff"}
_BEGINNINGS = (b"\x7f", b"\xc2", b"\xe2", b"\xef")
_UNSAFE_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")
_INCOMPLETE = re.compile(rb"(?:\xc2|\xe2\x80?|\xef[\xbb\xbf]?)\Z")


class _VersionJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_spec: msgspec.Raw = msgspec.Raw()


class _Wrapper(msgspec.Struct):
    """The members of `pipeline_spec` that show whether it is a wrapper."""

    pipeline_spec: msgspec.Raw = msgspec.Raw()
    platform_spec: msgspec.Raw = msgspec.Raw()
    root: msgspec.Raw = msgspec.Raw()


@contextmanager
def download(
    pipelines: Pipelines, place: SpoolPlace, ref: PipelineRef, version: VersionRef, call: Call
) -> Iterator[PipelineDownload]:
    """Gets the file of a version, spooled and valid within the block; nothing of it remains afterwards."""
    with closing(Spool(place)) as spool:
        pipeline_id = _fetch(pipelines, spool, ref, version, call)
        with _mapped(spool) as response, ExitStack() as views:
            with _LOCATING:
                version_json = _decode(response, _VersionJson)
                if version_json.pipeline_id != pipeline_id:
                    # KFP finds a version by its id alone, whichever pipeline the path names.
                    raise version_context(pipeline_id, version).error(errors.VersionNotFoundError, NO_SUCH_VERSION)
                parts = [views.enter_context(memoryview(part)) for part in _parts(response, version_json)]
                del version_json
                _unload(response)
            size, sha256 = _measure(YamlSafe(_Joined(parts, response)), call)
            yield PipelineDownload(YamlSafe(_Joined(parts, response)), size, sha256)


def _fetch(pipelines: Pipelines, spool: Spool, ref: PipelineRef, version: VersionRef, call: Call) -> str:
    """Gets KFP's response for the version, and returns the pipeline's id."""
    versions, pipeline_id = pipelines.versions, pipelines.id_of(ref, call)
    if version.pipeline_version_id:
        try:
            versions.fetch(pipeline_id, version.pipeline_version_id, spool, call)
        except errors.VersionNotFoundError:
            versions.ensure_pipeline(pipeline_id, call)
            raise
    elif version.name:
        named = versions.find(pipeline_id, version, call)
        versions.fetch(pipeline_id, named.pipeline_version_id, spool, call)
    else:
        fetch = partial(versions.fetch, pipeline_id, into=spool, call=call)
        if not versions.with_latest(fetch, pipeline_id, call)[1]:
            raise no_version_yet(pipeline_id, ref)
    return pipeline_id


@contextmanager
def _mapped(spool: Spool) -> Iterator[bytes | mmap.mmap]:
    if isinstance(spool.stream, io.BytesIO) or not spool.size:
        yield spool.read_at(0, spool.size)
        return
    with disk_faults():
        spool.rewind()  # which writes out what is buffered
        mapped = mmap.mmap(spool.stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield mapped
    finally:
        with suppress(BufferError):  # an error being raised may still hold a view; both are freed together
            mapped.close()


def _parts(response: bytes | mmap.mmap, version: _VersionJson) -> list[msgspec.Raw | bytes]:
    """The parts of the file: the pipeline spec, or the Workflow, and the platform spec if it is not empty."""
    spec = version.pipeline_spec
    if _first(spec) != b"{":
        raise _no_spec()
    if response.find(_KEY, response.find(_KEY) + 1) < 0:  # the key of the version itself is the only one
        return [spec]
    wrapper = _decode(spec, _Wrapper)
    if not _first(wrapper.pipeline_spec) or _first(wrapper.root):
        return [spec]
    platform = wrapper.platform_spec
    if _first(wrapper.pipeline_spec) != b"{" or _first(platform) not in (b"", b"{", b"n"):
        raise _no_spec()
    if _first(platform) != b"{" or _EMPTY.fullmatch(memoryview(platform)):
        return [wrapper.pipeline_spec]
    return [wrapper.pipeline_spec, SEPARATOR, platform]


def _first(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _decode(data: bytes | mmap.mmap | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error)) from None


class _Joined:
    """Parts of a response as one stream."""

    def __init__(self, parts: list[memoryview], response: bytes | mmap.mmap) -> None:
        self._chunks = (part[at : at + _DIGEST_BYTES] for part in parts for at in range(0, len(part), _DIGEST_BYTES))
        self._answer = response
        self._loaded = 0

    def read(self, _: int) -> bytes:
        with next(self._chunks, memoryview(b"")) as chunk:
            data = bytes(chunk)
        self._loaded += len(data)
        if self._loaded > _UNLOAD_BYTES:
            self._loaded = 0
            _unload(self._answer)
        return data


def _unload(response: bytes | mmap.mmap) -> None:
    """Releases the memory of a mapped file, which stays in the page cache as long as there is room."""
    if isinstance(response, mmap.mmap) and hasattr(response, "madvise"):
        response.madvise(mmap.MADV_DONTNEED)


def _measure(stream: YamlSafe, call: Call) -> tuple[int, bytes]:
    digest, size = hashlib.sha256(), 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := stream.read(_DIGEST_BYTES):
            call.ensure_active(_LATE)
            digest.update(chunk)
            decoder.decode(chunk)
            size += len(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    return size, digest.digest()


def _no_spec() -> errors.KfpError:
    return errors.KfpError("Kubeflow Pipelines returned a version without a pipeline spec; see its log")


def _malformed(what: str) -> errors.KfpError:
    text = f"Kubeflow Pipelines returned a response that is not JSON: {what}; try again"
    return errors.KfpError(text, metadata={"fault": what})


class YamlSafe:
    r"""A stream of JSON that every reader of YAML accepts as well.

    JSON is YAML except for these: control characters beyond ASCII's first ones and some others are invalid in YAML, or
    end a line there. KFP sends them unescaped (all but U+2028 and U+2029). In JSON they occur inside strings only,
    where an escape (`\u0085`) means the same.
    """

    def __init__(self, source: ByteStream) -> None:
        self._source = source
        self._buffer = b""
        self._incomplete = b""  # the beginning of what may become an unsafe character

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and self._fill(size):
            pass
        read, self._buffer = self._buffer[:size], self._buffer[size:]
        return read

    def _fill(self, size: int) -> bool:
        chunk = self._source.read(size)
        text, self._incomplete = self._incomplete + chunk, b""
        incomplete = _INCOMPLETE.search(text, max(0, len(text) - 2)) if chunk else None
        if incomplete:
            text, self._incomplete = text[: incomplete.start()], incomplete[0]
        if any(begin in text for begin in _BEGINNINGS):
            for unsafe, escape in _UNSAFE.items():
                text = text.replace(unsafe, escape)
            text = _UNSAFE_CONTROL.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), text)
        self._buffer += text
        return bool(chunk)
