"""Tokens for tests: a reader's, a writer's, an expired one, and one that no adapter knows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.auth.tokens import TokenEntry, digest, new_token, today
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from pathlib import Path

    Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

TOKENS = {name: new_token() for name in ("reader", "writer", "expired", "unknown")}


def bearer(token: str) -> Metadata:
    """The metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


def token_lines(*names: str) -> str:
    """Token file lines for some of the tokens; the expired one expired yesterday."""
    days = {"expired": today() - timedelta(days=1)}
    roles = {"reader": Role.READER, "writer": Role.WRITER, "expired": Role.WRITER}
    return "".join(TokenEntry(name, roles[name], digest(TOKENS[name]), days.get(name)).line() + "\n" for name in names)


def token_file(tmp_path: Path, text: str) -> Path:
    """Writes a file of tokens."""
    path = tmp_path / "tokens"
    path.write_text(text)
    return path
