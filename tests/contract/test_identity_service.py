"""The IdentityService: what the adapter knows about its caller."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import grpc
from tests.cli.conftest import Kfadapter
from tests.contract.running import failure
from tests.contract.tokens import TOKENS, token_file, token_lines

from kfadapter.v1 import identity_pb2
from kfadapter.v1.identity_pb2_grpc import IdentityServiceStub
from kfadapter_grpc.client import Client, Grant, Role, Way, WhoAmI
from kfadapter_grpc.services.identity import IdentityServicer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tests.contract.conftest import Serve


def test_without_authentication(serve: Serve) -> None:
    """Where callers are not authenticated, they have no name and may do everything."""
    running = serve(IdentityServicer(lambda: "2.17.0"))
    with closing(Client(running.server.address)) as client:
        assert client.identity.who_am_i() == WhoAmI(grants=(Grant("*", Role.WRITER),), kfp_version="2.17.0")


def test_by_token(serve: Serve, tmp_path: Path) -> None:
    """A token of the token file has its name and its role, in all namespaces."""
    running = serve(IdentityServicer(lambda: "2.17.0"), token_file=token_file(tmp_path, token_lines("reader")))
    with closing(Client(running.server.address, token=TOKENS["reader"])) as client:
        found = WhoAmI("reader", Way.TOKEN_FILE, grants=(Grant("*", Role.READER),), kfp_version="2.17.0")
        assert client.identity.who_am_i() == found
    what = failure(lambda: IdentityServiceStub(running.channel).WhoAmI(identity_pb2.WhoAmIRequest()))
    assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_roles_by_rules(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command shows roles in words, also that of what is in no namespace."""
    rules = tmp_path / "rules.yaml"
    rules.write_text('rules: [{match: {token: reader}, grants: {"": writer, "*": reader, "team-*": admin}}]', "utf-8")
    tokens = token_file(tmp_path, token_lines("reader"))
    running = serve(IdentityServicer(lambda: ""), token_file=tokens, access_rules=str(rules))
    monkeypatch.setenv("KFADAPTER_TOKEN", TOKENS["reader"])
    out = Kfadapter(running.server.address)("whoami").out
    for one in ("writer in what has no namespace", "reader in all namespaces", "admin in team-*"):
        assert one in out
