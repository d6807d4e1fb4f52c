from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from tests.contract.running import WAIT_SECONDS, Scripted

from kfadapter.v1 import pipeline_pb2 as pb

if TYPE_CHECKING:
    from tests.contract.conftest import Serve


def test_channelz_counts_calls(serve: Serve) -> None:
    """On its own address, channelz lists the servers of the process with their calls; reflection describes it."""
    running = serve(Scripted(), channelz_listen="127.0.0.1:0")
    for _ in range(3):
        running.stub.Get(pb.GetPipelineRequest(name="x"), timeout=WAIT_SECONDS)
    address = str(running.server.authentication()["channelz_address"])
    with grpc.insecure_channel(address) as channel:
        servers = channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest(), timeout=WAIT_SECONDS
        )
        assert any(one.data.calls_succeeded >= 3 for one in servers.server)
        ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.channelz.v1.Channelz.GetServers")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        assert next(stub.ServerReflectionInfo(iter([ask]), timeout=WAIT_SECONDS)).HasField("file_descriptor_response")


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0"])
def test_channelz_is_not_on_the_main_address(serve: Serve, listen: str) -> None:
    """The adapter's own address does not serve channelz, whether it is on or not."""
    running = serve(Scripted(), channelz_listen=listen)
    assert ("channelz_address" in running.server.authentication()) == bool(listen)
    with pytest.raises(grpc.RpcError) as caught:
        channelz_pb2_grpc.ChannelzStub(running.channel).GetServers(
            channelz_pb2.GetServersRequest(), timeout=WAIT_SECONDS
        )
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
