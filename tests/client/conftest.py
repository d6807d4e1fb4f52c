"""A fake adapter and a client that calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.client.blocking import BlockingClient
from tests.client.fake_adapter import FakeAdapter, serving

from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake() -> FakeAdapter:
    """A fake adapter without pipelines."""
    return FakeAdapter()


@pytest.fixture
def target(fake: FakeAdapter) -> Iterator[str]:
    """The address of the running fake adapter."""
    with serving(fake) as address:
        yield address


@pytest.fixture(params=[Client, BlockingClient])
def connect(request: pytest.FixtureRequest) -> type[Client]:
    """The class of the client: Client, and AsyncClient called in the same way."""
    kind: type[Client] = request.param
    return kind


@pytest.fixture
def client(connect: type[Client], target: str) -> Iterator[Client]:
    """A client of the fake adapter."""
    with connect(target) as made:
        yield made
