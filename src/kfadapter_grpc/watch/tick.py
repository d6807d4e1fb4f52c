"""One look at what is watched: which questions KFP is asked, and how few of them.

Per known state one question names up to 100 runs and asks which of them are in another state; that costs KFP 12 ms and
two bytes while nothing has moved. What changes more rarely is asked for in turns: whether runs that were over go on,
whether one was archived or deleted.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import (
    AdapterError,
    CallCancelledError,
    ExperimentNotFoundError,
    InvalidFieldError,
    KfpRejectedCredentialsError,
    KfpTimeoutError,
    KfpUnavailableError,
    PermissionDeniedError,
    RunNotFoundError,
    UnauthenticatedError,
)
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.watch.board import chunks
from kfadapter_grpc.watch.filters import MAX_FOLLOWED
from kfadapter_grpc.watch.registry import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kfadapter_grpc.contract.repository import RunLooks
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.watch.board import Board
    from kfadapter_grpc.watch.filters import FilterGroup
    from kfadapter_grpc.watch.registry import Registry
    from kfadapter_grpc.watch.watch import Scope

QUESTION_SECONDS = 10.0
"""How long KFP has to answer one question."""
ROUND_SECONDS = 30.0
"""How long it takes until what changes rarely has been asked for once."""
MAX_FIRST_READS = 3
"""How many questions of one tick are about runs of which nothing is known yet."""
MAX_WHOLE_READS = 20
"""How many runs are read whole, one by one, in one tick."""
_OF_CALLERS = (UnauthenticatedError, PermissionDeniedError)
"""What is refused to a caller's own credentials: nobody but the caller can send others."""
_REFUSALS = (InvalidFieldError, KfpRejectedCredentialsError, ExperimentNotFoundError, *_OF_CALLERS)
_AWAY = (KfpUnavailableError, KfpTimeoutError, CallCancelledError)


@dataclass(frozen=True, slots=True)
class _Question:
    """Something to ask KFP, of a scope."""

    scope: Scope
    ask: Callable[[], None]


class Ticker:
    """Asks KFP. For one thread.

    Attributes:
        reachable: Whether KFP answered all that it was asked in the last tick.
        moved: Whether something had changed in the last tick.
        behind: Whether the last tick left something to be asked at once.
        ticks: How often it has looked.
        questions: How many questions it has asked.
    """

    def __init__(self, looks: RunLooks, registry: Registry) -> None:
        self._looks = looks
        self._registry = registry
        self._turns: deque[_Question] = deque()
        self._per_second = 0.0
        self._owed = 0.0
        self._call = Call("watch", 0)
        self._closed = False
        self.reachable, self.moved, self.behind = True, False, False
        self.ticks, self.questions = 0, 0

    def tick(self, elapsed: float) -> None:
        """Asks all that is due, `elapsed` seconds after the tick before."""
        self.ticks += 1
        self._ask(self._questions(elapsed))

    def first_looks(self) -> None:
        """Asks only for what watches wait for that have just begun."""
        self._ask(self._first_questions())

    def close(self) -> None:
        """Breaks off the question that is being asked, and asks no more; may be called by another thread."""
        self._closed = True
        self._call.cancel()

    def _ask(self, questions: Iterator[_Question]) -> None:
        self.reachable, self.moved, self.behind = True, False, False
        try:
            for question in questions:
                self._try(question)
        except _AWAY:
            self.reachable = False

    def _try(self, question: _Question) -> None:
        try:
            question.ask()
        except _AWAY:
            raise
        except AdapterError as error:  # the other questions may be answered all the same
            as_caller = question.scope.authorization is not None and isinstance(error, _OF_CALLERS)
            self.reachable &= as_caller  # what one caller may not see tells the others nothing of KFP
            if isinstance(error, _REFUSALS):
                self._registry.refuse(question.scope, error, for_good=as_caller)

    def _questions(self, elapsed: float) -> Iterator[_Question]:
        """The questions, one after the other: what one brings decides what comes next."""
        for group in self._registry.groups():
            yield _Question(group.scope, partial(self._list, group))
        for scope, board in self._registry.boards():
            yield from self._states(scope, board)
            yield from self._first_reads(scope, board)
        yield from self._rare(elapsed)
        for scope, board in self._registry.boards():
            yield from self._tasks(scope, board)
            yield from self._whole(scope, board)

    def _first_questions(self) -> Iterator[_Question]:
        for group in self._registry.groups():
            if group.is_new:
                yield _Question(group.scope, partial(self._list, group))
        for scope, board in self._registry.boards():
            yield from self._first_reads(scope, board)
            yield from self._whole(scope, board)

    def _first_reads(self, scope: Scope, board: Board) -> Iterator[_Question]:
        waiting = list(chunks(self._ids(board.unread)))
        self.behind |= len(waiting) > MAX_FIRST_READS
        for ids in waiting[:MAX_FIRST_READS]:
            yield _Question(scope, partial(self._read, scope, board, ids))

    def _states(self, scope: Scope, board: Board) -> Iterator[_Question]:
        with self._registry.lock:
            groups = board.live()
        for state, members in groups.items():
            for ids in chunks(members):
                yield _Question(scope, partial(self._ask_state, scope, board, ids, state))

    def _tasks(self, scope: Scope, board: Board) -> Iterator[_Question]:
        stale = self._ids(board.stale)
        if stale:
            yield _Question(scope, partial(self._read, scope, board, stale))

    def _whole(self, scope: Scope, board: Board) -> Iterator[_Question]:
        waiting = self._ids(board.incomplete)
        self.behind |= len(waiting) > MAX_WHOLE_READS
        for run_id in waiting[:MAX_WHOLE_READS]:
            yield _Question(scope, partial(self._read_whole, scope, board, run_id))

    def _rare(self, elapsed: float) -> Iterator[_Question]:
        """As many of the rare questions as it takes to have asked all of them once in a round."""
        if not self._turns:
            self._turns.extend(self._round())
            self._per_second = len(self._turns) / ROUND_SECONDS
        self._owed = min(self._owed + elapsed * self._per_second, float(len(self._turns)))
        for _ in range(math.floor(self._owed)):
            self._owed -= 1
            yield self._turns.popleft()

    def _round(self) -> Iterator[_Question]:
        for scope, board in self._registry.boards():
            with self._registry.lock:
                over, stored = board.over(), {flag: board.stored(archived=flag) for flag in (False, True)}
            for state, members in over.items():
                for ids in chunks(members):
                    yield _Question(scope, partial(self._ask_state, scope, board, ids, state))
            for archived, members in stored.items():
                for ids in chunks(members):
                    yield _Question(scope, partial(self._count, scope, board, ids, archived))

    # --- single questions ---------------------------------------------------------------------------------------

    def _list(self, group: FilterGroup) -> None:
        found: dict[str, Run] = {}
        for where in group.questions():
            found |= {run.run_id: run for run in self._looks.made(where, MAX_FOLLOWED, self._new_call(group.scope))}
        self.moved |= self._registry.take_up(group, list(found.values()))

    def _read(self, scope: Scope, board: Board, ids: Sequence[str]) -> None:
        found, waiting = self._looks.read(ids, scope.namespace, self._new_call(scope))
        self.moved |= self._registry.learn(board, found)
        self._registry.look_closer(board, waiting)
        self.moved |= self._registry.lose(board, list(asked(ids, found)))

    def _ask_state(self, scope: Scope, board: Board, ids: Sequence[str], state: RunState) -> None:
        ids = self._still(board, ids)
        if not ids:
            return
        if state is RunState.UNKNOWN:  # KFP has no word for it
            self._read(scope, board, ids)
            return
        found = self._looks.in_other_state(ids, state, scope.namespace, self._new_call(scope))
        self.moved |= self._registry.learn(board, found)

    def _count(self, scope: Scope, board: Board, ids: Sequence[str], archived: bool) -> None:
        """Counts runs that should be there; where some are not, looks closer, half by half."""
        ids = self._still(board, ids)
        if not ids:
            return
        count = self._looks.count(ids, scope.namespace, self._new_call(scope), archived=archived)
        if count >= len(ids):
            return
        if count == 0 or len(ids) == 1:
            self._read(scope, board, ids)
            return
        for half in chunks(ids, math.ceil(len(ids) / 2)):
            self._count(scope, board, half, archived)

    def _read_whole(self, scope: Scope, board: Board, run_id: str) -> None:
        try:
            found = self._looks.get(run_id, self._new_call(scope))
        except RunNotFoundError:
            self.moved |= self._registry.lose(board, [run_id])
            return
        self.moved |= self._registry.learn(board, [found], complete=True)

    def _still(self, board: Board, ids: Sequence[str]) -> Sequence[str]:
        """Those that are still watched: a question may have waited for its turn."""
        with self._registry.lock:
            return [run_id for run_id in ids if board.knows(run_id)]

    def _ids(self, look: Callable[[], Sequence[str]]) -> Sequence[str]:
        with self._registry.lock:
            return look()

    def _new_call(self, scope: Scope) -> Call:
        self.questions += 1
        self._call = Call(f"watch-{uuid.uuid4().hex}", QUESTION_SECONDS, scope.authorization)
        if self._closed:
            self._call.cancel()
        return self._call
