"""The ArtifactService."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

from kfadapter.v1 import artifact_pb2 as pb
from kfadapter.v1.artifact_pb2_grpc import ArtifactServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import artifacts as contract
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.interceptors.calls import caller_seconds, current_call
from kfadapter_grpc.methods import download_seconds
from kfadapter_grpc.services.responses import listing, message, page, page_token, unary

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.kfp.artifacts import Artifacts

ReadBytes: TypeAlias = Callable[
    [RunArtifact, contract.ReadArtifactRequest, Call, str],
    AbstractContextManager[Iterator[contract.ArtifactContent | bytes]],
]
"""Opens the bytes of an artifact, given the record of its store: a description of the content, then the bytes."""


class ArtifactServicer(ArtifactServiceServicer):
    def __init__(self, artifacts: Artifacts, default_namespace: str = "", *, read: ReadBytes) -> None:
        self.kfp = artifacts
        self.namespace = default_namespace
        self._read = read

    def List(self, request: pb.ListArtifactsRequest, context: grpc.ServicerContext) -> pb.ListArtifactsResponse:
        parsed = read_request(request, contract.ListArtifactsRequest, self.namespace)
        result, warnings = self.kfp.list(parsed, parsed.page(page_token(request)), current_call(context))
        return page(result, pb.ListArtifactsResponse, request, warnings=warnings)

    Get = unary(
        contract.GetArtifactRequest, lambda self, request, call: self.kfp.get(request.run_id, request.artifact_id, call)
    )
    ListMetrics = listing(
        contract.ListMetricsRequest, lambda self, request, page, call: self.kfp.list_metrics(request.filter, page, call)
    )

    def Read(self, request: pb.ReadArtifactRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadArtifactResponse]:
        parsed = read_request(request, contract.ReadArtifactRequest)
        call = current_call(context)
        artifact, session = self.kfp.find(parsed.run_id, parsed.artifact_id, call)
        with self._read(artifact, parsed, call, session) as parts:
            begun, sent, has_deadline = time.monotonic(), 0, caller_seconds(context) is not None
            for part in parts:
                if not has_deadline:
                    call.extend(download_seconds(sent) - (time.monotonic() - begun))
                if isinstance(part, bytes):
                    sent += len(part)
                    call.usage.add_sent(len(part))
                    yield pb.ReadArtifactResponse(chunk=part)
                else:
                    yield pb.ReadArtifactResponse(content=message(part, pb.ArtifactContent))
