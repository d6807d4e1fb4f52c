"""All benchmarks by name, in the order in which they run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from benchmarks import download, get, list_versions, memory, own_cost, startup, upload
from benchmarks.results import Figure, Row
from benchmarks.sides import ADAPTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.stage import Stage


def _spec_summary(_: Stage) -> Iterator[Row]:
    """What summarizing a spec takes, measured in this process."""
    measured: list[tuple[str, float, str]] = importlib.import_module("benchmarks.spec_summary").measure()
    for what, value, unit in measured:
        yield Row("spec_summary", what, unit, (Figure(ADAPTER, value, value, 1),))


BENCHMARKS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "startup": startup.run,
    "memory": memory.run,
    "own_cost": own_cost.run,
    "get": get.run,
    "list_versions": list_versions.run,
    "upload": upload.run,
    "download": download.run,
    "spec_summary": _spec_summary,
}
"""Each takes a stage and yields rows as it finds them."""
