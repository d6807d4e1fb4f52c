from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.scripted_kfp import Received
from tests.system.__main__ import SCENARIOS
from tests.system.between import from_the_nth_on
from tests.system.faults import PAGE, documented_reasons
from tests.system.restarts import ARRIVING, MOMENTS, all_kills
from tests.system.scenario import Stage

from kfadapter_grpc.contract.errors import all_error_classes
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_documented(name: str) -> None:
    """Every scenario has its line on the page."""
    assert f"| `{name}` | " in PAGE.read_text(encoding="utf-8")


def test_ci_runs_every_scenario() -> None:
    """CI runs each scenario once, in any of its steps."""
    lines = (PAGE.parents[1] / ".ci" / "run").read_text(encoding="utf-8")
    named = [name for names in re.findall(r"robustness --short ([a-z -]+)", lines) for name in names.split()]
    assert sorted(named) == sorted(SCENARIOS)


def test_reasons_are_read_from_the_contract() -> None:
    """Every RPC has the reasons of its service and its own, and all of them exist."""
    found = documented_reasons()
    assert found.keys() == METHODS.keys()
    known = {error.reason for error in all_error_classes()}
    assert all("KFP_UNAVAILABLE" in reasons and reasons <= known for reasons in found.values())
    assert "EXPERIMENT_EXISTS" in found["/kfadapter.v1.ExperimentService/Create"]
    assert "EXPERIMENT_EXISTS" not in found["/kfadapter.v1.ExperimentService/Get"]


@pytest.mark.parametrize("short", [True, False], ids=["short", "whole"])
def test_kills_meet_every_named_moment(tmp_path: Path, short: bool) -> None:
    """Every named moment has its kill, in the full form one of either victim, and there are random ones."""
    planned = list(all_kills(Stage(tmp_path, short, seed=1)))
    named = Counter(kill.moment.what for kill in planned if kill.moment is not None)
    assert named.keys() == {moment.what for moments in MOMENTS.values() for moment in moments}
    assert any(kill.moment is None for kill in planned)
    if not short:
        assert all(count > 1 for what, count in named.items() if what != ARRIVING.what)
        assert {kill.victim for kill in planned if kill.moment is None} == {"adapter", "KFP"}


def test_a_fault_begins_at_a_calls_nth_request() -> None:
    """The first n-1 requests of a call pass, and so do all of other calls."""
    meets = from_the_nth_on({"one": 2})

    def request(call: str) -> Received:
        return Received("GET", "/", {"x-request-id": call}, b"")

    assert [meets(request("one"), number) for number in (1, 2, 3)] == [False, True, True]
    assert not meets(request("other"), 5)
