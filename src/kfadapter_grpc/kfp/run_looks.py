"""How runs that are watched are looked at, with as little work for KFP as it allows.

A list of runs brings everything of each run along, so what is listed are those that are in another state than known, or
a single one of many that are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, ListQuery, explained, smaller
from kfadapter_grpc.kfp.runs import matches, predicates
from kfadapter_grpc.kfp.transport import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.experiments import ExperimentRef
    from kfadapter_grpc.contract.repository import ExperimentRepository
    from kfadapter_grpc.contract.runs import Run, RunFilter
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.rest import Predicate
    from kfadapter_grpc.kfp.run_reader import RunReader
    from kfadapter_grpc.kfp.wire.runs import RunJson, RunListJson

_NEWEST_FIRST = "created_at desc"
_PAGES_OF_A_FILTER = 50


class KfpRunLooks:
    """The `RunLooks` before KFP. Safe to use from many threads."""

    def __init__(self, api: RunApi, reader: RunReader, experiments: ExperimentRepository) -> None:
        self._api = api
        self._reader = reader
        self._experiments = experiments

    def read(self, run_ids: Sequence[str], namespace: str, call: Call) -> tuple[Sequence[Run], Sequence[str]]:
        """Reads runs, and the ids of those of which a pod has been pending for a while; missing runs are left out."""
        found = self._all(run_ids, [], namespace, call)
        return [*map(self._reader.basic, found)], [run.run_id for run in found if run.is_waiting]

    def in_other_state(self, run_ids: Sequence[str], state: RunState, namespace: str, call: Call) -> Sequence[Run]:
        """Reads those of the runs that are in another state; a canceled run may be FAILED to KFP."""
        same = [RunState.CANCELED, RunState.FAILED] if state is RunState.CANCELED else [state]
        other: list[Predicate] = [
            {"operation": "NOT_EQUALS", "key": "state", "string_value": one.value} for one in same
        ]
        return [*map(self._reader.basic, self._all(run_ids, other, namespace, call))]

    def count(self, run_ids: Sequence[str], namespace: str, call: Call, *, archived: bool) -> int:
        """Counts those of the runs that are there, and archived or not."""
        operation = "EQUALS" if archived else "NOT_EQUALS"
        stored: Predicate = {
            "operation": operation,
            "key": "storage_state",
            "string_value": StorageState.ARCHIVED.value,
        }
        return self._page([_one_of(run_ids), stored], ListQuery(1), namespace, "", call).total_size

    def get(self, run_id: str, call: Call) -> Run:
        """Reads one run with all that is known of it but names."""
        found = self._reader.get(run_id, call)
        return self._reader.whole(found, self._reader.nodes(found, call))

    def made(self, where: RunFilter, limit: int, call: Call) -> Sequence[Run]:
        """Reads the newest runs that match; its experiment must be named by id."""
        asked, token = predicates(where), ""
        found: list[Run] = []
        experiment_id = where.experiment.experiment_id if where.experiment else ""
        size = MAX_KFP_PAGE
        for _ in range(_PAGES_OF_A_FILTER):
            try:
                page = self._page(asked, ListQuery(size, token, _NEWEST_FIRST), where.namespace, experiment_id, call)
            except AnswerTooLargeError:
                if size == 1:
                    raise
                size = smaller(size)
                continue
            found += [run for run in map(self._reader.basic, page.runs) if matches(where, run)]
            token = page.next_page_token
            if not token or len(found) >= limit:
                break
        return found[:limit]

    def experiment_id(self, ref: ExperimentRef, call: Call) -> str:
        """Finds an experiment."""
        return self._experiments.get(ref, call).experiment_id

    def _all(self, run_ids: Sequence[str], others: list[Predicate], namespace: str, call: Call) -> list[RunJson]:
        """Reads all of the runs that match; half by half where they are too large together."""
        token = ""
        found: list[RunJson] = []
        try:
            while True:
                query = ListQuery(len(run_ids), token)
                page = self._page([_one_of(run_ids), *others], query, namespace, "", call)
                found += page.runs
                token = page.next_page_token
                if not token:
                    return found
        except AnswerTooLargeError:
            if len(run_ids) == 1:
                raise
        half = len(run_ids) // 2
        halves = (run_ids[:half], run_ids[half:])
        return [run for ids in halves for run in self._all(ids, others, namespace, call)]

    def _page(
        self, asked: list[Predicate], query: ListQuery, namespace: str, experiment_id: str, call: Call
    ) -> RunListJson:
        query = ListQuery(query.page_size, query.page_token, query.sort_by, tuple(asked))
        with explained():
            return self._api.list(query, experiment_id, namespace, call)


def _one_of(run_ids: Sequence[str]) -> Predicate:
    return {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}
