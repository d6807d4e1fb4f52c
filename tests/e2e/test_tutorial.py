"""The tutorial's commands do what it shows, and its code is that of the examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import ROOT, dev
from tests.e2e.documents import blocks, check_console, commands, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.documents import Terminal

TUTORIAL = ROOT / "docs" / "getting-started.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal with an empty `kfadapter dev`."""
    with dev(tmp_path_factory.mktemp("tutorial")) as running:
        yield terminal(running, tmp_path_factory.mktemp("tools"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_console_blocks(reader: Terminal) -> None:
    """Every command succeeds, and prints at least the lines shown, in order."""
    assert len(commands(TUTORIAL)) >= 20
    check_console(TUTORIAL, reader)


def test_the_python_blocks_are_parts_of_the_examples() -> None:
    """The code on the page is part of an example, to the letter."""
    sources = "".join(path.read_text("utf-8") for path in EXAMPLES)
    shown = blocks(TUTORIAL, "python")
    assert len(shown) >= 7
    for block in shown:
        assert block in sources, block


def test_every_example_is_shown() -> None:
    """The page links every example except those of the README."""
    text = TUTORIAL.read_text("utf-8")
    assert {path.name for path in EXAMPLES if f"../examples/{path.name}" not in text} == {"train.py", "train_v2.py"}
