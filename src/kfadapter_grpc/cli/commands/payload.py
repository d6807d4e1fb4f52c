"""What payload does: writes an upload as the JSON messages that grpcurl sends."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from google.protobuf import json_format

from kfadapter.v1.pipeline_pb2 import UploadPipelineMetadata
from kfadapter_grpc.cli.pipeline_file import STDIN, pipeline_files, several
from kfadapter_grpc.client.upload import measure
from kfadapter_grpc.codec import to_message

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_grpc.contract import pipelines

CHUNK_BYTES = 64 * 1024
"""How many bytes of the file go into one message."""


def payload(
    path: Path, request: pipelines.UploadPipelineMetadata, *, named: bool, function: str | None, seconds: float | None
) -> None:
    """Prints the messages, one on each line.

    Args:
        path: The file.
        request: How it is to be stored.
        named: Whether the request's name was given; otherwise a `.py` is stored under its pipeline's own.
        function: Which pipeline of a `.py` to take.
        seconds: How long a `.py` may take to compile, if more than usual.

    Raises:
        CommandError: The file cannot be read or compiled, or holds several pipelines.
    """
    with pipeline_files(path, function, seconds) as files:
        if len(files) > 1:
            raise several(files, path, "one upload stores one pipeline")
        file = files[0]
        request = request if named else replace(request, name=file.name)
        metadata = to_message(request, UploadPipelineMetadata)
        if file.path == STDIN:
            _print(metadata, sys.stdin.buffer)
            return
        metadata.total_bytes, metadata.sha256 = measure(file.path)
        with file.path.open("rb") as stream:
            _print(metadata, stream)


def _print(metadata: UploadPipelineMetadata, stream: BinaryIO) -> None:
    _line({"metadata": json_format.MessageToDict(metadata, preserving_proto_field_name=True)})
    while chunk := stream.read(CHUNK_BYTES):
        _line({"chunk": base64.b64encode(chunk).decode("ascii")})


def _line(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
