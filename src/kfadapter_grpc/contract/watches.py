"""Watching runs: requests and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeAlias

from kfadapter_grpc.contract.checks import Faults, Namespace
from kfadapter_grpc.contract.runs import RUN_ID, Run, RunFilter

MAX_WATCHED_RUNS = 1000


@dataclass(frozen=True, slots=True)
class RunIds:
    run_ids: tuple[str, ...] = ()
    namespace: Namespace = ""

    def check(self) -> Faults:
        if len(self.run_ids) > MAX_WATCHED_RUNS:
            yield "run_ids", f"names {len(self.run_ids)} runs; at most {MAX_WATCHED_RUNS} can be watched at once"
        elif "" in self.run_ids:
            yield "run_ids", "holds an empty id"
        elif wrong := next((run_id for run_id in self.run_ids if not RUN_ID.fullmatch(run_id)), None):
            yield "run_ids", f"'{wrong[:80]}' is not the id of a run, which is mostly a UUID"


def _known_etags(known: Mapping[str, str]) -> Iterator[str]:
    if len(known) > MAX_WATCHED_RUNS:
        yield f"has {len(known)} entries; at most {MAX_WATCHED_RUNS}, those of the newest runs"
    elif (wrong := next((run_id for run_id in known if not RUN_ID.fullmatch(run_id)), None)) is not None:
        yield f"'{wrong[:80]}' is not the id of a run"


@dataclass(frozen=True, slots=True)
class WatchRunsRequest:
    """Watches runs; `known_etags` are those that the caller holds; with `tasks` a change of a task is an event."""

    what: RunIds | RunFilter
    known_etags: Annotated[Mapping[str, str], _known_etags] = field(default_factory=dict)
    tasks: bool = False

    def check(self) -> Faults:
        if isinstance(self.what, RunIds) and not self.what.run_ids:
            yield "what", "is empty; name runs by id, or a filter, which may be empty"


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The current state of a run, observed by the adapter at a time in UTC; with its tasks only if requested."""

    run: Run
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class RunGone:
    """A run that was deleted, or never existed."""

    run_id: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat: nothing changed; whether KFP responded to the adapter's last request."""

    kfp_reachable: bool
    observed_at: datetime


RunEvent: TypeAlias = "RunChanged | RunGone | Heartbeat"
