"""Reads the file of a pipeline as an upload does: YAML, JSON, or the member of an archive that KFP uses."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import yaml

from kfadapter_grpc.check.pipeline import Pipeline, read_documents
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import FileKind
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.upload.archives import open_member
from kfadapter_grpc.upload.file_kind import detect_kind
from kfadapter_grpc.upload.limits import UploadLimits, invalid_file, too_large

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, if libyaml is installed
_HEAD = 4096
_SECONDS = 600.0


def read_pipeline(stream: BinaryIO) -> Pipeline:
    """Reads the pipeline of a file that can be read from its beginning twice. Raises as an upload does."""
    kind = detect_kind(stream.read(_HEAD))
    stream.seek(0)
    limits = UploadLimits()
    if kind in {FileKind.ZIP, FileKind.TAR_GZ}:
        _, member = open_member(kind, stream, limits, Call("check", _SECONDS))
        content = member.read_all(limits.max_bytes)
    else:
        content = stream.read(limits.max_bytes + 1)
    if len(content) > limits.max_bytes:
        raise too_large(limits.max_bytes)
    pipeline = read_documents(_documents(content))
    if pipeline is None:
        raise invalid_file("This is no compiled pipeline: it has no root.")
    return pipeline


def _documents(content: bytes) -> list[Json]:
    try:
        return [json.loads(content)] if content.lstrip()[:1] == b"{" else list(yaml.load_all(content, _Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid_file(f"This cannot be read: {error}") from None
