"""The native API of the KFP that follows 2.17: whether this KFP has it, and the tasks of a run."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.native_tasks import NativeTasksJson
from kfadapter_grpc.kfp.rest import V2, ListQuery, explained, paginate, segment
from kfadapter_grpc.kfp.transport import Request, ResponseTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.error_table import Context
    from kfadapter_grpc.kfp.native_tasks import NativeTaskJson
    from kfadapter_grpc.kfp.rest import Rest

MAX_TASKS = 10_000
NO_SUCH_ROUTE = "Not Found"
"""KFP's response if the address does not exist; for a missing resource the response says more."""
REMEMBERED_SECONDS = 300.0
"""How long the result of the check is valid: KFP may be upgraded while the adapter runs."""
_PROBE_SECONDS = 2.0
_PROBED = f"{V2}/artifact_tasks"
"""Where this API is served, KFP rejects a request without a filter at once, with any credentials."""


class NativeApi:
    """The native API of one KFP. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._is_served, self._until = False, 0.0

    @property
    def was_served(self) -> bool:
        return self._is_served

    def learn(self, *, is_served: bool) -> None:
        self._is_served, self._until = is_served, time.monotonic() + REMEMBERED_SECONDS

    def is_served(self, call: Call) -> bool:
        """Whether it is served; checks with a request if no response has shown it for a while."""
        if time.monotonic() >= self._until:
            try:
                with call.within(_PROBE_SECONDS) as part:
                    self._rest.ask_raw(Operation.PROBE, Request("GET", _PROBED), object, part)
            except KfpFailureError as error:
                if error.failure.page:
                    return False
                if error.failure.status == HTTPStatus.BAD_REQUEST or error.failure.text == NO_SUCH_ROUTE:
                    self.learn(is_served=error.failure.status == HTTPStatus.BAD_REQUEST)
            except errors.AdapterError:
                return False
        return self._is_served

    def tasks(self, run_id: str, call: Call, context: Context) -> Sequence[NativeTaskJson] | None:
        """Lists the tasks of a run, each once; None if the API is no longer served."""

        def fetch(query: ListQuery) -> NativeTasksJson:
            request = Request("GET", f"{V2}/runs/{segment(run_id)}/tasks", query.pairs())
            return self._rest.ask_raw(Operation.GET_RUN, request, NativeTasksJson, call)

        with explained(context):
            try:
                found = paginate(fetch, list, lambda _: 0, ListQuery(MAX_TASKS), rounds=MAX_TASKS)
            except KfpFailureError as error:
                if error.failure.text != NO_SUCH_ROUTE:
                    raise
                self._until = 0.0
                return None
        if found.next_token and len(found.items) < MAX_TASKS:
            raise ResponseTooLargeError(f"a task of run {run_id} is too large to be read")
        return tuple({one.task_id: one for one in found.items}.values())
