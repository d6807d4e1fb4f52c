"""Get by name: one caller, and 16 callers in one process, with KFP and with a stand-in with real response times."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import KIB
from benchmarks.results import added, ratio
from benchmarks.rounds import rates, take_turns, times
from benchmarks.sides import ADAPTER, HTTP, SDK, unique
from benchmarks.stage import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Row
    from benchmarks.stage import Stage

CALLERS = 16
"""The many callers of the goals."""
SDK_WHOLE = f"{SDK}, id and pipeline"
"""The SDK's two calls for the content of the others' one."""


def run(stage: Stage) -> Iterator[Row]:
    """Measures latency with one caller and throughput with many."""
    name = unique(PREFIX)
    stage.kfp().upload_file(stage.file(4 * KIB), f"/pipelines/upload?name={name}")
    yield _one_caller(stage, name)
    row = _many_callers(stage, stage.kfp_url(), name, "")
    yield replace(row, findings=(ratio(row, ADAPTER, SDK), ratio(row, ADAPTER, SDK_WHOLE), ratio(row, ADAPTER, HTTP)))
    row = _many_callers(stage, stage.concurrent_stand_in_url(), "instant", ", a KFP with real times")
    goals = (
        ratio(row, ADAPTER, SDK, "at least 1.3 x", at_least=1.3),
        ratio(row, ADAPTER, SDK_WHOLE, "at least 2 x", at_least=2.0),
    )
    yield replace(row, findings=goals)


def _one_caller(stage: Stage, name: str) -> Row:
    calls = stage.scale.calls
    sides = {
        side: partial(caller.do, "get", name, calls=calls) for side, caller in stage.callers(stage.kfp_url()).items()
    }
    sides[SDK_WHOLE] = partial(stage.caller(SDK, stage.kfp_url()).do, "get_whole", name, calls=calls)
    row = times("get", "Get by name, 1 caller", take_turns(sides, stage.scale.rounds), chart=True)
    findings = (
        added(row, ADAPTER, HTTP, "under 1.5 ms", at_most=1.5),
        ratio(row, ADAPTER, HTTP),
        ratio(row, SDK, HTTP),
    )
    return replace(row, findings=findings)


def _many_callers(stage: Stage, url: str, name: str, where: str) -> Row:
    calls = stage.scale.calls
    sides = {
        side: partial(caller.do, "get", name, callers=CALLERS, calls=calls)
        for side, caller in stage.callers(url).items()
    }
    sides[SDK_WHOLE] = partial(stage.caller(SDK, url).do, "get_whole", name, callers=CALLERS, calls=calls)
    return rates(
        "get", f"Get by name, {CALLERS} callers{where}", take_turns(sides, stage.scale.rounds), chart=not where
    )
