"""What KFP's answers cost in time: the median of some calls, one after the other."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.probes import reading
from kfadapter_grpc.kfp.probes.bench import FAULTS, Bench
from kfadapter_grpc.kfp.probes.probe import CannotTellError, DiffersError
from kfadapter_grpc.kfp.rest import ListQuery
from kfadapter_grpc.kfp.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from kfadapter_grpc.kfp.transport import TransportSettings

ROUNDS = 20
"""How often each call is made."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A call whose time is measured; `newer_ms` is what a KFP of 2026 (master) took on two cores, in milliseconds."""

    sentence: str
    newer_ms: float
    ask: Callable[[Bench, str, str], object]


COSTS: tuple[Cost, ...] = (
    Cost(
        "GET a pipeline by id",
        3.7,
        lambda bench, pipeline_id, _: bench.api.pipelines.get_pipeline(pipeline_id, bench.call()),
    ),
    Cost(
        "GET a pipeline by name",
        3.6,
        lambda bench, _, name: bench.api.pipelines.get_pipeline_by_name(name, bench.namespace, bench.call()),
    ),
    Cost(
        "the cheap list of versions, one page of 200",
        60,
        lambda bench, pipeline_id, _: bench.api.pipelines.list_cheap_versions(
            pipeline_id, ListQuery(200), bench.call()
        ),
    ),
    Cost("runs by id IN and state NOT_EQUALS, none found", 12, lambda bench, *_: reading.run_filter(bench)),
)
"""The calls that the adapter makes most."""


def measure_costs(
    settings: TransportSettings,
    namespace: str = "",
    *,
    multi_user: bool = False,
    write: bool = False,
    left_behind: Callable[[str], None] = lambda _: None,
) -> Generator[tuple[Cost, float | None], None, None]:
    """Yields the median of each call, in milliseconds; None where it cannot be made.

    With `write` a pipeline is made for it, and cleared away; otherwise any is taken. `left_behind` as for `measure`.
    """
    with closing(Transport(settings)) as transport:
        bench = Bench(transport, namespace, multi_user=multi_user)
        with bench.cleared_away(left_behind):
            sample = _sample(bench, make=write)
            for cost in COSTS:
                yield cost, _median(cost, bench, *sample) if all(sample) else None


def _sample(bench: Bench, *, make: bool) -> tuple[str, str]:
    """Id and name of a pipeline; both empty if there is none."""
    try:
        if make:
            bench.make_pipeline()
            bench.make_version("First")
        found = bench.sample.to_domain()
    except (*FAULTS, CannotTellError):
        return "", ""
    return found.pipeline_id, found.name


def _median(cost: Cost, bench: Bench, pipeline_id: str, name: str) -> float | None:
    took: list[float] = []
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            cost.ask(bench, pipeline_id, name)
            took.append(1000 * (time.perf_counter() - start))
    except (*FAULTS, CannotTellError, DiffersError):
        return None
    return statistics.median(took)
