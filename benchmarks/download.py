"""Download of a pipeline's text: from KFP, and from a stand-in with the response times of a real one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import MIB
from benchmarks.results import added, ratio
from benchmarks.rounds import take_turns, times
from benchmarks.sides import ADAPTER, HTTP, SDK, unique
from benchmarks.stage import PREFIX
from benchmarks.stand_in import LARGE_VERSION_ID, PIPELINE_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Row
    from benchmarks.stage import Stage

SIZES = (1, 30)
"""In MiB."""
_ROUNDS = {1: 9, 30: 3}


def run(stage: Stage) -> Iterator[Row]:
    """Measures each size, compared with a plain GET of the version."""
    for size in SIZES[:1] if stage.scale.quick else SIZES:
        pipeline_id, version_id = _prepare(stage, size)
        rounds = 2 if stage.scale.quick else _ROUNDS[size]
        sides = {
            side: partial(caller.do, "download", pipeline_id, version_id)
            for side, caller in stage.callers(stage.kfp_url()).items()
        }
        row = times("download", f"Download {size} MiB", take_turns(sides, rounds), chart=True)
        yield replace(row, findings=(ratio(row, ADAPTER, HTTP), ratio(row, SDK, HTTP)))
    size = SIZES[0] if stage.scale.quick else SIZES[-1]
    version = f"{LARGE_VERSION_ID}{size * MIB:012d}"
    sides = {
        side: partial(caller.do, "download", PIPELINE_ID, version)
        for side, caller in stage.callers(stage.real_stand_in_url(), HTTP, ADAPTER).items()
    }
    row = times(
        "download", f"Download {size} MiB from a KFP with real times", take_turns(sides, 2 * stage.scale.rounds // 3)
    )
    yield replace(row, findings=(ratio(row, ADAPTER, HTTP, "at most 1.05 x", at_most=1.05), added(row, ADAPTER, HTTP)))


def _prepare(stage: Stage, size: int) -> tuple[str, str]:
    kfp = stage.kfp()
    made = kfp.upload_file(stage.file(size * MIB), f"/pipelines/upload?name={unique(PREFIX)}")
    pipeline_id = str(made["pipeline_id"])
    versions = kfp.json("GET", f"/pipelines/{pipeline_id}/versions?page_size=1")["pipeline_versions"]
    return pipeline_id, str(versions[0]["pipeline_version_id"])
