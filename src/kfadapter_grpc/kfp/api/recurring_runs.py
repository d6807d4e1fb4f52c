"""KFP's endpoints for recurring runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, ListQuery, Rest, segment
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.wire.recurring_runs import RecurringRunJson, RecurringRunListJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.call import Call

_RECURRING_RUNS = f"{V2}/recurringruns"


class RecurringRunApi:
    """The endpoints. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create(self, body: Mapping[str, object], call: Call) -> RecurringRunJson:
        """Makes a recurring run."""
        request = Request("POST", _RECURRING_RUNS, body=json.dumps(body).encode())
        return self._rest.ask_raw(Operation.CREATE_RECURRING_RUN, request, RecurringRunJson, call)

    def get(self, recurring_run_id: str, call: Call) -> RecurringRunJson:
        """Gets a recurring run."""
        request = Request("GET", f"{_RECURRING_RUNS}/{segment(recurring_run_id)}")
        return self._rest.ask_raw(Operation.GET_RECURRING_RUN, request, RecurringRunJson, call)

    def list(self, query: ListQuery, namespace: str, experiment_id: str, call: Call) -> RecurringRunListJson:
        """Lists recurring runs, of one experiment where one is named."""
        pairs = [*query.pairs(), ("namespace", namespace), ("experiment_id", experiment_id)]
        request = Request("GET", _RECURRING_RUNS, [(key, value) for key, value in pairs if value])
        return self._rest.ask_raw(Operation.LIST_RECURRING_RUNS, request, RecurringRunListJson, call)

    def enable(self, recurring_run_id: str, call: Call) -> None:
        """Switches a recurring run on."""
        request = Request("POST", f"{_RECURRING_RUNS}/{segment(recurring_run_id)}:enable", body=b"{}")
        self._rest.ask_raw(Operation.ENABLE_RECURRING_RUN, request, dict[str, object], call)

    def disable(self, recurring_run_id: str, call: Call) -> None:
        """Switches a recurring run off."""
        request = Request("POST", f"{_RECURRING_RUNS}/{segment(recurring_run_id)}:disable", body=b"{}")
        self._rest.ask_raw(Operation.DISABLE_RECURRING_RUN, request, dict[str, object], call)

    def delete(self, recurring_run_id: str, call: Call) -> None:
        """Deletes a recurring run."""
        request = Request("DELETE", f"{_RECURRING_RUNS}/{segment(recurring_run_id)}")
        self._rest.ask_raw(Operation.DELETE_RECURRING_RUN, request, dict[str, object], call)
