"""All benchmarks by name, in the order in which they run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import (
    artifact_bytes,
    download,
    get,
    list_metrics,
    list_versions,
    memory,
    mlmd,
    own_cost,
    run_full,
    run_nodes,
    spec_summary,
    startup,
    steps,
    telemetry,
    upload,
)
from benchmarks.results import Figure, Row, absolute
from benchmarks.sides import ADAPTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.stage import Stage


_SUMMARY_GOALS = {
    "summary of 20 tasks (": ("under 2 ms", 2.0),
    "summary of 4600 tasks (": ("under a second", 1000.0),
}
"""By how the row begins: 40 kB and 8 MB."""


def _spec_summary(_: Stage) -> Iterator[Row]:
    """The cost of summarizing a spec, measured in this process."""
    for what, value, unit in spec_summary.measure():
        row = Row("spec_summary", what, unit, (Figure(ADAPTER, value, value, 1),))
        goals = [goal for begin, goal in _SUMMARY_GOALS.items() if what.startswith(begin)]
        yield replace(row, findings=tuple(absolute(row, ADAPTER, text, at_most=limit) for text, limit in goals))


BENCHMARKS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "startup": startup.run,
    "memory": memory.run,
    "own_cost": own_cost.run,
    "telemetry": telemetry.run,
    "get": get.run,
    "list_versions": list_versions.run,
    "upload": upload.run,
    "download": download.run,
    "spec_summary": _spec_summary,
    "run_nodes": run_nodes.run,
    "mlmd": mlmd.run,
    "run_full": run_full.run,
    "list_metrics": list_metrics.run,
    "artifact_bytes": artifact_bytes.run,
    "steps": steps.run,
}
"""Each takes a stage and yields rows as it finds them."""
