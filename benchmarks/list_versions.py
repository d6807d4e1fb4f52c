"""ListVersions of a pipeline with very many versions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from benchmarks.pipeline_text import KIB
from benchmarks.results import absolute, figure, ratio
from benchmarks.rounds import take_turns, times
from benchmarks.sides import ADAPTER, HTTP, SDK
from benchmarks.stage import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Caller
    from benchmarks.results import Row
    from benchmarks.stage import Stage

SIZE = 42 * KIB
"""Of each version's file."""
FIRST = f"{ADAPTER}, the first call"
"""A process that has served no ListVersions yet."""
GOAL = "under 400 ms"
"""For 1000 versions."""
_UPLOADERS = 4
_GOAL_MS = 400


def run(stage: Stage) -> Iterator[Row]:
    """Measures listing all of them: the first time after the start of an adapter, and later."""
    versions, rounds = (60, 2) if stage.scale.quick else (1000, 5)
    pipeline_id = _prepare(stage, versions)
    firsts = [_first_call(stage, pipeline_id) for _ in range(rounds)]
    callers = stage.callers(stage.kfp_url())
    sides = {side: partial(caller.do, "list_versions", pipeline_id) for side, caller in callers.items()}
    what = f"ListVersions, {versions} versions of {SIZE // KIB} kB"
    row = times("list_versions", what, take_turns(sides, rounds), chart=True)
    row = replace(row, figures=(*row.figures, figure(FIRST, firsts, scale=1000)))
    goals = () if stage.scale.quick else (FIRST, ADAPTER)
    yield replace(row, findings=tuple(_findings(row, goals)))


def _findings(row: Row, goals: tuple[str, ...]) -> Iterator[Any]:
    for side in goals:
        yield absolute(row, side, GOAL, at_most=_GOAL_MS)
    yield ratio(row, ADAPTER, SDK)
    yield ratio(row, ADAPTER, HTTP)


def _first_call(stage: Stage, pipeline_id: str) -> float:
    """Starts an adapter and lists once, over an existing connection."""
    with stage.borrowed_adapter(stage.kfp_url()) as adapter, stage.borrowed_caller(adapter) as caller:
        return _listed_after_connecting(caller, pipeline_id)


def _listed_after_connecting(caller: Caller, pipeline_id: str) -> float:
    caller.do("empty")
    return caller.do("list_versions", pipeline_id).seconds[0]


def _prepare(stage: Stage, versions: int) -> str:
    """Creates the pipeline in KFP, or reuses the one of an earlier run with --keep; returns its id."""
    kfp, name = stage.kfp(), f"{PREFIX}versions-{versions}"
    path = stage.file(SIZE)
    try:
        pipeline = kfp.get(name)
    except RuntimeError:
        pipeline = kfp.upload_file(path, f"/pipelines/upload?name={name}")
    pipeline_id = str(pipeline["pipeline_id"])
    found = kfp.json("GET", f"/pipelines/{pipeline_id}/versions?page_size=1")["total_size"]

    def upload(number: int) -> None:
        query = urlencode({"name": f"v{number}", "pipelineid": pipeline_id})
        kfp.upload_file(path, f"/pipelines/upload_version?{query}")

    with ThreadPoolExecutor(_UPLOADERS) as uploaders:
        list(uploaders.map(upload, range(found, versions)))
    return pipeline_id
