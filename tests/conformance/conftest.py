"""The server under test: KFADAPTER_TEST_TARGET, or an adapter of our own in front of an embedded KFP.

KFADAPTER_TEST_CA names the CA of a server with TLS, KFADAPTER_TEST_TOKEN contains the token of a writer.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.calling import RUN_SECONDS, api_at
from tests.e2e.conftest import dev

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.calling import Api


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A channel to the server under test."""
    target, authority = os.environ.get("KFADAPTER_TEST_TARGET"), os.environ.get("KFADAPTER_TEST_CA")
    if not target:
        with dev(tmp_path_factory.mktemp("conformance")) as ours, grpc.insecure_channel(ours.target) as made:
            yield made
    elif not authority:
        with grpc.insecure_channel(target) as made:
            yield made
    else:
        credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes())
        if token := os.environ.get("KFADAPTER_TEST_TOKEN"):
            bearer = grpc.access_token_call_credentials(token)
            credentials = grpc.composite_channel_credentials(credentials, bearer)
        with grpc.secure_channel(target, credentials) as made:
            yield made


@pytest.fixture(scope="session")
def api(channel: grpc.Channel) -> Api:
    """The services under test."""
    grpc.channel_ready_future(channel).result(RUN_SECONDS)
    return api_at(channel)


@pytest.fixture
def name() -> str:
    """A unique name."""
    return f"conformance-{uuid.uuid4().hex[:12]}"
