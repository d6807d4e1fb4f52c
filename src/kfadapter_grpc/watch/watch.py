"""One watch: what its caller wants, what it knows already, and what it is to be told."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import RunGone, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.contract.call import Authorization
    from kfadapter_grpc.contract.runs import Run, RunChanged, RunFilter
    from kfadapter_grpc.watch.mailbox import Mailbox

_LEFT = "left"
"""What a watch of a filter knows of a run that does not match any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants to watch; it names runs, or a filter.

    Attributes:
        run_ids: The runs.
        where: The filter; its experiment is named by id.
        namespace: Where.
        known_etags: What the caller knows already.
        tasks: Whether a change of a task is one.
    """

    run_ids: tuple[str, ...] = ()
    where: RunFilter | None = None
    namespace: str = ""
    known_etags: Mapping[str, str] = field(default_factory=dict)
    tasks: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What watches must have in common to share what is known: what one of them may see, so may the others.

    Attributes:
        namespace: Where the runs are.
        authorization: As whom KFP is asked; None: as the adapter.
    """

    namespace: str
    authorization: Authorization | None = None


class Watch:
    """One caller who watches.

    Attributes:
        wanted: What the caller wants.
        scope: Whom the watch may share with.
        mailbox: Where the caller reads.
        followed: The ids of the runs that are followed for it.
        begun: Whether KFP has answered for it.
    """

    def __init__(self, wanted: Wanted, mailbox: Mailbox, authorization: Authorization | None = None) -> None:
        self.wanted = wanted
        self.scope = Scope(wanted.namespace, authorization)
        self.mailbox = mailbox
        self.followed: set[str] = set()
        self.begun = False
        self._told = dict(wanted.known_etags)
        self._open = set(wanted.run_ids)

    def satisfied_with(self, run: Run, *, complete: bool) -> bool:
        """Whether a run can be sent as it was read: only a whole read has tasks, and why a run failed."""
        return complete or not (self.wanted.tasks or run.state is RunState.FAILED) or self._knows(run)

    def tell(self, event: RunChanged) -> None:
        """Takes note of a run as it is now, and has it told if that is news."""
        self.begun, run = True, event.run
        if not self._knows(run):
            self.mailbox.put(run.run_id, event)
        if self._matches(run):
            self._told[run.run_id] = self._key(run)
        elif run.run_id in self._told:
            self._told[run.run_id] = _LEFT
        if self.wanted.where is None:
            self._count(run.run_id, over=run.state.is_over)

    def tell_gone(self, run_id: str, at: datetime) -> None:
        """Takes note that a run is not there."""
        self.begun = True
        known = self._told.pop(run_id, None)
        if known is not None or self.wanted.where is None:
            self.mailbox.put(run_id, RunGone(run_id, at))
        if self.wanted.where is None:
            self._count(run_id, over=True)

    def forget(self, run_id: str) -> None:
        """Forgets a run that is not followed any more."""
        self.followed.discard(run_id)
        self._told.pop(run_id, None)

    def _count(self, run_id: str, *, over: bool) -> None:
        if not over:
            self._open.add(run_id)
            return
        self._open.discard(run_id)
        if not self._open:
            self.mailbox.finish()

    def _knows(self, run: Run) -> bool:
        known = self._told.get(run.run_id)
        if known in {self._key(run), run.etag}:
            return True
        return known in {None, _LEFT} and not self._matches(run)

    def _key(self, run: Run) -> str:
        """Names what of a run's condition this watch tells."""
        if self.wanted.tasks:
            return run.etag
        # Many watches hold this of many runs: one text for all of them.
        return sys.intern(f"{run.state.value} {run.storage_state.value} {run.finished_at}")

    def _matches(self, run: Run) -> bool:
        """Whether a run matches in what may change of it; the rest was looked at when it was taken up."""
        where = self.wanted.where
        if where is None:
            return True
        finished = where.finished_after is None or (
            run.finished_at is not None and run.finished_at > where.finished_after
        )
        archived = run.storage_state is StorageState.ARCHIVED
        return finished and archived is where.archived and (not where.states or run.state in where.states)
