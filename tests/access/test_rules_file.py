"""Rules on a server of its own: before a KFP without namespaces, and from a file that changes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.access.team_kfp import OTHER, OWN, TeamKfp
from tests.access.ways import Adapter, connected, running
from tests.contract.running import eventually

from kfadapter_grpc.auth.tokens import TokenEntry, digest
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_grpc.server import AdapterServer


def _rules(role: str, namespace: str = OWN) -> str:
    return json.dumps({"rules": [{"match": "everyone", "grants": {namespace: role}}]})


@contextmanager
def _serving(folder: Path, *, multi_user: bool, role: str) -> Iterator[tuple[Adapter, AdapterServer]]:
    """An adapter with a rule for the own namespace, and a connection of the caller `me`."""
    kfp = TeamKfp(folder, multi_user=multi_user)
    (folder / "tokens").write_text(TokenEntry("me", Role.READER, digest("kfa_me")).line(), "utf-8")
    (folder / "rules.yaml").write_text(_rules(role), "utf-8")
    with (
        kfp.server,
        running(kfp, token_file=folder / "tokens", access_rules=folder / "rules.yaml") as server,
        connected(server) as channel,
    ):
        yield Adapter(kfp, {"me": (channel, "kfa_me")}), server


@pytest.mark.parametrize("path", ["/kfadapter.v1.PipelineService/Upload", "/kfadapter.v1.ExperimentService/Create"])
def test_a_single_user_kfp(tmp_path: Path, path: str) -> None:
    """A KFP that ignores namespaces has everything in none, whatever a call names; nothing is created elsewhere."""
    with _serving(tmp_path, multi_user=False, role="writer") as (adapter, _):
        assert adapter.about(path, "me", OWN).code.name == "PERMISSION_DENIED"
        assert not adapter.kfp.server.paths("POST")


def test_a_changed_file(tmp_path: Path) -> None:
    """Changes of the rules apply while the server runs; a mistake in them changes nothing, and is reported."""
    with _serving(tmp_path, multi_user=True, role="reader") as (adapter, server):
        file = tmp_path / "rules.yaml"

        def code() -> str:
            return adapter.about("/kfadapter.v1.RunService/Terminate", "me", OWN).code.name

        assert code() == "PERMISSION_DENIED"
        file.write_text(_rules("writer"))
        eventually(lambda: code() == "OK")
        file.write_text("rules: [")
        eventually(lambda: server.security.stale()["access_rules"])
        assert code() == "OK"
        file.write_text(_rules("writer", OTHER))
        eventually(lambda: code() == "NOT_FOUND")
        assert not server.security.stale()["access_rules"]
