"""Filters that are watched: which runs match, and which come up later."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.watch.board import LIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run, RunFilter
    from kfadapter_grpc.watch.watch import Scope, Watch

MAX_FOLLOWED = 1000
"""How many runs are followed for one filter: the newest."""
_CLOCKS_DIFFER = timedelta(minutes=1)
"""How far KFP's clock may be off ours."""
_COMES_LATE = timedelta(seconds=10)
"""How long after its time of creation a run may come to be seen: KFP makes its workflow in between."""
_LATE_TICKS = 10
"""For how many ticks after a new run such late ones are looked for."""

FilterKey: TypeAlias = "tuple[object, ...]"
"""Tells filters apart."""


def filter_key(where: RunFilter, scope: Scope) -> FilterKey:
    """What equal filters have in common."""
    return (
        scope,
        where.experiment,
        where.states,
        where.created_after,
        where.finished_after,
        where.display_name_contains,
        tuple(sorted(where.labels.items())),
        where.label_keys,
        where.pipeline_id,
        where.pipeline_version_id,
        where.recurring_run_id,
        where.archived,
        where.namespace,
    )


class FilterGroup:
    """All watches of one filter.

    Attributes:
        where: The filter.
        scope: What its watches have in common.
        watches: Who watches.
        run_ids: The runs that are followed, the newest last.
    """

    def __init__(self, where: RunFilter, scope: Scope) -> None:
        self.where = where
        self.scope = scope
        self.watches: set[Watch] = set()
        self.run_ids: dict[str, None] = {}
        self._seen: datetime | None = None
        self._late_ticks = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing was listed for it yet."""
        return self._seen is None

    def questions(self) -> Sequence[RunFilter]:
        """What to list now: at first what matches, or may come to match as it goes on; then what is new."""
        where = self.where
        if self._seen is not None:
            after = self._seen - _COMES_LATE if self._late_ticks else self._seen
            after = max(after, where.created_after) if where.created_after else after
            return [replace(where, states=frozenset(), finished_after=None, created_after=after)]
        if where.states or where.finished_after:
            return [where, replace(where, states=LIVE_STATES, finished_after=None)]
        return [where]

    def take_up(self, found: Iterable[Run], now: datetime) -> list[str]:
        """Takes what the questions found; tells the ids of the runs that were not followed yet."""
        first = self._seen is None
        before = self._seen or now - _CLOCKS_DIFFER
        runs = sorted(found, key=lambda run: (run.created_at or before, run.run_id))
        self._seen = max([before, *(run.created_at for run in runs if run.created_at)])
        self._late_ticks = _LATE_TICKS if first or self._seen > before else max(self._late_ticks - 1, 0)
        new = [run.run_id for run in runs if run.run_id not in self.run_ids]
        self.run_ids.update(dict.fromkeys(new))
        return new

    def drop_oldest(self) -> list[str]:
        """Forgets the oldest runs where they are too many; tells which."""
        dropped = list(self.run_ids)[: max(len(self.run_ids) - MAX_FOLLOWED, 0)]
        for run_id in dropped:
            del self.run_ids[run_id]
        return dropped
