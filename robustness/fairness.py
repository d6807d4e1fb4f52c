"""One greedy caller beside modest ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from robustness.capacity import measured
from robustness.load import Load
from robustness.scenario import Finding, Scenario, Stage, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = 64
"""Unary calls that the adapter may serve at once, as by default."""
KFP_SECONDS = 0.8
"""What KFP takes for each answer."""
TIMES = 20
"""By how much the greedy caller passes the capacity."""
MODEST = 9
"""How many modest callers there are."""
MODEST_RATE = 2.0
"""How many calls each of them makes in a second."""


def run(stage: Stage) -> Iterator[Finding]:
    """Has one caller call twenty times as often as the adapter can serve, and nine others twice a second each."""
    seconds = stage.scaled(60, 8)
    with ExitStack() as stack:
        before = measured(stack, stage, places=PLACES, kfp_seconds=KFP_SECONDS)
        target, capacity = before.adapter.target, before.capacity
        greedy = stack.enter_context(Load(stage.home, target, 1, TIMES * capacity, seconds))
        modest = stack.enter_context(Load(stage.home, target, MODEST, MODEST * MODEST_RATE, seconds))
        greedy.begin()
        modest.begin()
        others, one = modest.seen(), greedy.seen()
    yield told("capacity", capacity, "calls/s")
    yield told("calls made by the greedy caller, of the capacity", one.offered / capacity, "x")
    yield told("of these served", one.goodput / capacity, "x")
    yield told("of these stopped by gRPC, beyond 1000 streams", one.others.total())
    yield told("calls made by nine others", len(others.seconds) + len(others.refused) + others.others.total())
    yield exactly("of these refused", len(others.refused), 0)
    yield exactly("of these failed", dict(others.others) or 0, 0)


SCENARIO = Scenario(
    name="fairness",
    proves="One caller who asks for twenty times the capacity takes nothing away from nine who ask twice a second.",
    not_covered="a caller without a token or certificate who opens many connections: it counts as many callers.",
    run=run,
)
