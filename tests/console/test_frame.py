"""What all pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
