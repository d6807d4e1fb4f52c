"""The adapter's own cost: Get with a KFP that responds immediately, compared with an empty method of the server."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.get import CALLERS
from benchmarks.results import ratio
from benchmarks.rounds import rates, take_turns
from benchmarks.sides import ADAPTER, HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Row
    from benchmarks.stage import Stage

EMPTY = f"{ADAPTER}, empty method"
"""A health check: it passes no layer of ours and makes no request."""


def run(stage: Stage) -> Iterator[Row]:
    """Measures with one caller and with many; plain HTTP shows that the stand-in is not the bottleneck."""
    url = stage.stand_in_url()
    for callers in (1, CALLERS):
        calls = stage.scale.calls * (5 if callers == 1 else 2)
        adapter, http = stage.caller(ADAPTER, url), stage.caller(HTTP, url)
        sides = {
            HTTP: partial(http.do, "get", "instant", callers=callers, calls=calls),
            ADAPTER: partial(adapter.do, "get", "instant", callers=callers, calls=calls),
            EMPTY: partial(adapter.do, "empty", callers=callers, calls=calls),
        }
        what = f"Get, instant KFP, {callers} caller{'s' if callers > 1 else ''}"
        row = rates("own_cost", what, take_turns(sides, stage.scale.rounds), chart=True)
        yield replace(row, findings=(ratio(row, ADAPTER, EMPTY, "at least 0.4 x", at_least=0.4),))
