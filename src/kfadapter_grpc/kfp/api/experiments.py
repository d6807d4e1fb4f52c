"""KFP's endpoints for experiments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, ListQuery, Rest, segment
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.wire.experiments import ExperimentJson, ExperimentListJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.call import Call

_EXPERIMENTS = f"{V2}/experiments"


class ExperimentApi:
    """The endpoints. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create(self, body: Mapping[str, object], call: Call) -> ExperimentJson:
        """Makes an experiment."""
        request = Request("POST", _EXPERIMENTS, body=json.dumps(body).encode())
        return self._rest.ask_raw(Operation.CREATE_EXPERIMENT, request, ExperimentJson, call)

    def get(self, experiment_id: str, call: Call) -> ExperimentJson:
        """Gets an experiment by id."""
        request = Request("GET", f"{_EXPERIMENTS}/{segment(experiment_id)}")
        return self._rest.ask_raw(Operation.GET_EXPERIMENT, request, ExperimentJson, call)

    def list(self, query: ListQuery, namespace: str, call: Call) -> ExperimentListJson:
        """Lists experiments."""
        pairs = [*query.pairs(), ("namespace", namespace)] if namespace else query.pairs()
        request = Request("GET", _EXPERIMENTS, pairs)
        return self._rest.ask_raw(Operation.LIST_EXPERIMENTS, request, ExperimentListJson, call)

    def archive(self, experiment_id: str, call: Call) -> None:
        """Puts an experiment away; KFP does not say whether there is one."""
        request = Request("POST", f"{_EXPERIMENTS}/{segment(experiment_id)}:archive", body=b"{}")
        self._rest.ask_raw(Operation.ARCHIVE_EXPERIMENT, request, dict[str, object], call)

    def unarchive(self, experiment_id: str, call: Call) -> None:
        """Takes an experiment back; KFP does not say whether there is one."""
        request = Request("POST", f"{_EXPERIMENTS}/{segment(experiment_id)}:unarchive", body=b"{}")
        self._rest.ask_raw(Operation.UNARCHIVE_EXPERIMENT, request, dict[str, object], call)

    def delete(self, experiment_id: str, call: Call) -> None:
        """Deletes an experiment."""
        request = Request("DELETE", f"{_EXPERIMENTS}/{segment(experiment_id)}")
        self._rest.ask_raw(Operation.DELETE_EXPERIMENT, request, dict[str, object], call)
