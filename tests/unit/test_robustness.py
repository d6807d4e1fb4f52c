from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from robustness import documented
from robustness.catalog import SCENARIOS

from kfadapter_grpc.contract import METHODS
from kfadapter_grpc.domain.errors import all_error_classes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_documented(name: str) -> None:
    """Every scenario has its line on the page."""
    assert f"| `{name}` | " in documented.PAGE.read_text(encoding="utf-8")


def test_reasons_are_read_from_the_contract() -> None:
    """Every RPC has the reasons of its service and its own, and all of them are reasons that there are."""
    found = documented.reasons()
    assert found.keys() == METHODS.keys()
    known = {error.reason for error in all_error_classes()}
    assert all("KFP_UNAVAILABLE" in reasons and reasons <= known for reasons in found.values())
    assert "EXPERIMENT_EXISTS" in found["/kfadapter.v1.ExperimentService/Create"]
    assert "EXPERIMENT_EXISTS" not in found["/kfadapter.v1.ExperimentService/Get"]


def test_tables_are_written_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table takes the place of the one before, and nothing else of the page changes."""
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- t: made -->\n\n\n<!-- end of t -->\n\nb\n", encoding="utf-8")
    monkeypatch.setattr(documented, "PAGE", page)
    for table in ("| 1 |\n", "| 2 |\n| 3 |\n"):
        documented.write_table("t", table)
        assert documented.table_in_page("t") == table
    assert page.read_text(encoding="utf-8") == "a\n\n<!-- t: made -->\n\n| 2 |\n| 3 |\n\n<!-- end of t -->\n\nb\n"
