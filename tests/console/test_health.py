"""The page about health: versions, addresses, and what to do about each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.console.visiting import page
from tests.contract.tokens import token_file, token_lines
from tests.legacy_http.calling import serving

from kfadapter_grpc.client import WhoAmI
from kfadapter_grpc.client.identity import IdentityCalls
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tests.console.visiting import Visitor


def test_all_is_well(target: str, visitor: Visitor) -> None:
    """It names both addresses and versions, and each check."""
    answer = visitor.get("/health")
    assert f"Adapter {target} Version of the adapter {installed_version()} Page {visitor.url}" in answer.words
    assert "9 ok. Check again" in answer.words
    assert "✓ ok kfp Kubeflow Pipelines responds to the adapter" in answer.words


def test_the_version_of_kfp(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the version that the adapter reports of its KFP."""
    monkeypatch.setattr(IdentityCalls, "who_am_i", lambda _: WhoAmI(kfp_version="2.17.0"))
    assert "Version of Kubeflow Pipelines 2.17.0" in visitor.get("/health").words


def test_no_adapter() -> None:
    """Without an adapter the page is served nevertheless, and says how to start one there."""
    with page("127.0.0.1:9") as visitor:
        answer = visitor.get("/health")
    assert answer.status == 200
    assert "Version of the adapter unknown" in answer.words
    assert "1 failed, 8 skipped." in answer.words
    assert "<code>kfadapter dev --port 9</code>: starts an adapter on this machine" in answer.text


def test_no_kfp() -> None:
    """Without KFP the findings say where it fails."""
    with serving("http://127.0.0.1:9") as server, page(server.address) as visitor:
        answer = visitor.get("/health")
    assert "✗ failed read" in answer.words
    assert "KFP_UNAVAILABLE" in answer.words
    assert "kfadapter doctor --server, where the adapter runs, shows the cause" in answer.words


def test_needs_a_token(tmp_path: Path) -> None:
    """A caller who is not logged in sees the findings, and where to log in."""
    tokens = token_file(tmp_path, token_lines("reader"))
    with serving("http://127.0.0.1:9", token_file=tokens) as server, page(server.address) as visitor:
        assert '<a href="/login">Log in</a>' in visitor.get("/health").text
