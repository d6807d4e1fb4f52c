"""Adapters with a legacy HTTP gateway and an embedded KFP."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.legacy_http.calling import Caller, adapter

from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.legacy_http.calling import Gateway

PIPELINES = Path(__file__).parents[1] / "data" / "pipelines"


@pytest.fixture(scope="session")
def server(embedded_url: str) -> Iterator[Gateway]:
    """A gateway and adapter shared by tests."""
    with adapter(embedded_url) as running:
        yield running


@pytest.fixture(scope="session")
def caller(server: Gateway) -> Caller:
    """Its HTTP client."""
    return server.caller


@pytest.fixture(scope="session")
def client(server: Gateway) -> Iterator[Client]:
    """Its gRPC client."""
    with Client(server.adapter.address) as made:
        yield made


@pytest.fixture(scope="session")
def file() -> bytes:
    """A pipeline with parameters of all types."""
    return (PIPELINES / "all_parameter_types.yaml").read_bytes()


@pytest.fixture
def name(caller: Caller, client: Client, file: bytes) -> Iterator[str]:
    """The name of a pipeline with one version."""
    unique = f"기지국-{uuid.uuid4().hex[:12]}"
    assert caller.upload(unique, file, "모델을 학습한다").status == 200
    yield unique
    client.pipelines.delete(unique, force=True, allow_missing=True)
