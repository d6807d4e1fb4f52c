"""The command line, run in this process against a fake adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.client.fake_adapter import FakeAdapter, serving
from typer.testing import CliRunner

from kfadapter_grpc.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


class Kfadapter:
    """Runs commands against one target."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, *arguments: str) -> Ended:
        """Runs one command without changing the environment; raises unexpected exceptions."""
        result = CliRunner(env={"GRPC_VERBOSITY": None}).invoke(
            app, ["--target", self.target, *arguments], catch_exceptions=False
        )
        return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def fake() -> FakeAdapter:
    """A fake adapter without pipelines."""
    return FakeAdapter()


@pytest.fixture
def target(fake: FakeAdapter) -> Iterator[str]:
    """The address of the running fake adapter."""
    with serving(fake) as address:
        yield address


@pytest.fixture
def kfadapter(target: str) -> Kfadapter:
    """The command line with the fake adapter as target."""
    return Kfadapter(target)
