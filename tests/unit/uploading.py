"""Receives generated files the way the Upload servicer does, and packs them into archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pytest

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, InvalidPipelineFileError
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.contract.pipelines import FileKind

E = TypeVar("E", bound=AdapterError)


@dataclass(frozen=True)
class Received:
    """The result of receiving a file."""

    content: bytes
    size: int
    sha256: bytes
    kind: FileKind


def receive(
    chunks: bytes | Iterable[bytes],
    limits: UploadLimits | None = None,
    *,
    total_bytes: int | None = None,
    sha256: bytes | None = None,
    call: Call | None = None,
) -> Received:
    """Receives a file and reads its content."""
    chunks = [chunks] if isinstance(chunks, bytes) else chunks
    call = call or Call("test", 60)
    with receive_file(chunks, limits or UploadLimits(), total_bytes=total_bytes, sha256=sha256, call=call) as file:
        assert file.stream.tell() == 0
        return Received(file.stream.read(), file.size, file.sha256, file.kind)


def refused(content: bytes, error: type[E], limits: UploadLimits | None = None) -> E:
    """Receives a file that must be rejected with `error`."""
    with pytest.raises(error) as caught:
        receive(content, limits)
    assert type(caught.value) is error
    assert caught.value.message.isprintable()
    return caught.value


def not_a_pipeline(content: bytes) -> str:
    """Receives a file that must be rejected as an invalid pipeline; returns the message."""
    return refused(content, InvalidPipelineFileError).message


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Packs files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return archive.getvalue()


def tarred(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Packs files, and entries without content, into a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=form) as packed:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                packed.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.type = tarfile.DIRTYPE if member[0].endswith("/") else tarfile.REGTYPE
            info.size = len(member[1])
            packed.addfile(info, io.BytesIO(member[1]))
    return archive.getvalue()


def targz(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Packs files into a tar.gz archive."""
    return gzip.compress(tarred(*members, form=form), 1)
