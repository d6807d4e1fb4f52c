"""A running server for every test that requests one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import grpc
import pytest
from tests.contract.running import Running

from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Serve(Protocol):
    """Starts a server with a servicer, and settings that differ from the defaults."""

    def __call__(self, servicer: object, probe: Callable[[], bool] = ..., **settings: object) -> Running:
        """Returns the server and a client connected to it."""
        ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts real servers on free loopback ports; they stop when the test has finished."""
    with ExitStack() as stack:

        def start(servicer: object, probe: Callable[[], bool] = lambda: True, **settings: object) -> Running:
            loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", **settings})
            server = stack.enter_context(AdapterServer(loaded, [servicer], probe))
            channel = stack.enter_context(grpc.insecure_channel(server.address, OWN_CONNECTION))
            return Running(server, channel, PipelineServiceStub(channel))

        yield start


OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares its connection with no other one."""
