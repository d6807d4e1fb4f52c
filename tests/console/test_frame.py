"""What all pages share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import kfadapter_console

if TYPE_CHECKING:
    from tests.console.conftest import Made
    from tests.console.visiting import Visitor


def test_unknown_addresses_get_a_page(visitor: Visitor) -> None:
    """An unknown address is answered with a page that leads on."""
    answer = visitor.get("/no/such/page")
    assert answer.status == 404
    assert "There is no such page" in answer.words
    assert 'href="/runs"' in answer.text


def test_what_tests_start_from(made: Made) -> None:
    """The runs of the fixtures ended as they should."""
    states = [run.state.value for run in (made.good, made.worse, made.failed, made.korean)]
    assert states == ["SUCCEEDED", "SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_the_page_stays_small() -> None:
    """Python, templates and style sheet have 4,200 lines at most (2,500 were meant), the script 200."""
    lines = {"": 0, ".js": 0}
    for path in Path(kfadapter_console.__path__[0]).rglob("*"):
        if path.suffix in {".py", ".html", ".css", ".js"}:
            lines[".js" if path.suffix == ".js" else ""] += len(path.read_text("utf-8").splitlines())
    assert lines[""] <= 4200
    assert lines[".js"] <= 200
