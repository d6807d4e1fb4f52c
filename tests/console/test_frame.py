"""What all pages share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import Kfadapter

import kfadapter_console
from kfadapter_grpc.cli.errors import ExitCode

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


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--listen", "0.0.0.0:0"], "without TLS tokens and pages can be read and changed"),
        (
            ["--listen", "0.0.0.0:0", "--tls-certificate", "x", "--tls-key", "y"],
            "would act with the token of this command",
        ),
        (["--tls-key", "y"], "go together"),
        (["--listen", "nowhere"], "nowhere"),
    ],
)
def test_what_others_can_reach(arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others reach the page only with TLS, and never act with a token of its own, unless that is accepted."""
    monkeypatch.setenv("KFADAPTER_TOKEN", "secret")
    ended = Kfadapter("127.0.0.1:1")("console", *arguments)
    assert ended.code == ExitCode.USAGE
    assert why in ended.err


def test_the_page_stays_small() -> None:
    """Python, templates and style sheet have 2,886 lines at most (2,500 were meant), the script 200."""
    lines = {"": 0, ".js": 0}
    for path in Path(kfadapter_console.__path__[0]).rglob("*"):
        if path.suffix in {".py", ".html", ".css", ".js"}:
            lines[".js" if path.suffix == ".js" else ""] += len(path.read_text("utf-8").splitlines())
    assert lines[""] <= 2886
    assert lines[".js"] <= 200
