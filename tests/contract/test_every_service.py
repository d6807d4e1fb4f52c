"""A server as the process builds it serves every RPC of the contract."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from tests.connecting import connect
from tests.contract.running import reported
from tests.scripted_kfp import ScriptedKfp

from kfadapter_grpc.methods import METHODS, CallKind, RpcMethod
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


Send: TypeAlias = Callable[..., object]
Stream: TypeAlias = "Callable[..., Iterable[object]]"


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    """A channel to a server with all servicers, in front of a KFP that knows nothing."""
    with ScriptedKfp() as kfp:
        backend = connect(kfp.url)
        settings = Settings.load(config=None, listen="127.0.0.1:0")
        with (
            closing(WatchPoller(backend.runs)) as watches,
            AdapterServer(
                settings, servicers(backend, watches, UploadLimits(), ""), backend.is_alive, watches.drain
            ) as server,
            grpc.insecure_channel(server.address) as made,
        ):
            yield made
        backend.close()


def _call(channel: grpc.Channel, method: RpcMethod) -> object:
    if method.kind is CallKind.UPLOAD:
        upload: Send = channel.stream_unary(method.path, request_serializer=bytes)
        return upload(iter([b""]), timeout=30)
    if method.kind is CallKind.STREAM:
        stream: Stream = channel.unary_stream(method.path, request_serializer=bytes)
        return list(stream(b"", timeout=30))
    unary: Send = channel.unary_unary(method.path, request_serializer=bytes)
    return unary(b"", timeout=30)


@pytest.mark.parametrize("path", [path for path, method in METHODS.items() if method.role])
def test_every_rpc_is_served(channel: grpc.Channel, path: str) -> None:
    """An empty request is rejected by a servicer, for a missing field or because this KFP knows nothing."""
    with pytest.raises(grpc.RpcError) as caught:
        _call(channel, METHODS[path])
    assert reported(caught.value).reason in {"INVALID_FIELD", "INVALID_UPLOAD", "KFP_ERROR"}
