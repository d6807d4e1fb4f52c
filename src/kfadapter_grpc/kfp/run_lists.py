"""Lists of runs: KFP's filters and what they do not compare exactly; and what watches read, with little work for KFP.

A list of runs has everything of each run. So watches list only those that are in another state than known, or a single
one of many that are counted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.labels import LINE_START, label_key_text, label_text
from kfadapter_grpc.contract.listing import PageRequest
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import stored
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, equals, gather, sort_by
from kfadapter_grpc.kfp.transport import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.experiments import ExperimentRef
    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.runs import Run, RunFilter
    from kfadapter_grpc.kfp.experiments import Experiments
    from kfadapter_grpc.kfp.rest import Predicate
    from kfadapter_grpc.kfp.run_reader import RunJson, RunReader

_SORT_KEYS = {"created_at": "created_at", "finished_at": "finished_at", "display_name": "name", "run_id": "id"}
_ENDED_BADLY = frozenset({RunState.FAILED, RunState.CANCELED})


class RunLists:
    """Lists runs. Safe to use from many threads."""

    def __init__(self, reader: RunReader, experiments: Experiments) -> None:
        self._reader = reader
        self._experiments = experiments

    def list(self, where: RunFilter, page: PageRequest, call: Call) -> Page[Run]:
        """Lists runs; filters that KFP does not know, or not exactly, are applied to its answers."""
        ref = where.experiment
        experiment_id = (ref.experiment_id or self.experiment_id(ref, call)) if ref else ""
        found = self._pages(where, experiment_id, page, _weight, call)
        if ref is not None and not (page.token or found.items or found.next_token):
            self._experiments.get(ref, call)  # KFP may not say that it does not exist
        return replace(found, total_size=None) if _is_inexact(where) else found

    def made(self, where: RunFilter, limit: int, call: Call) -> Sequence[Run]:
        """Lists the newest runs that match; its experiment must be named by id."""
        experiment_id = where.experiment.experiment_id if where.experiment else ""
        return self._pages(where, experiment_id, PageRequest(limit), lambda _: 0, call).items

    def _pages(
        self, where: RunFilter, experiment_id: str, page: PageRequest, weight: Callable[[Run], int], call: Call
    ) -> Page[Run]:
        predicates = tuple(_predicates(where))
        values = {"experiment_id": experiment_id} if experiment_id else {}
        context = Context(resource=experiment_id, values=values)

        def fetch(size: int, token: str) -> KfpPage[Run]:
            query = ListQuery(size, token, sort_by(page.order, _SORT_KEYS), predicates)
            found = self._reader.list(
                query, call, experiment_id=experiment_id, namespace=where.namespace, context=context
            )
            matching = [run for run in (item.record() for item in found.runs) if _matches(where, run)]
            return KfpPage(matching, found.next_page_token, found.total_size)

        return gather(fetch, weight, page.size, page.token)

    def experiment_id(self, ref: ExperimentRef, call: Call) -> str:
        """Returns the id of an experiment that exists."""
        return self._experiments.get(ref, call).experiment_id

    # --- for watches --------------------------------------------------------------------------------------------

    def read(self, run_ids: Sequence[str], namespace: str, call: Call) -> tuple[Sequence[Run], Sequence[str]]:
        """Reads runs, and the ids of those of which a pod has been pending for a while; missing runs are left out."""
        found = self._all(run_ids, (), namespace, call)
        return [run.record() for run in found], [run.run_id for run in found if run.is_waiting]

    def in_other_state(self, run_ids: Sequence[str], state: RunState, namespace: str, call: Call) -> Sequence[Run]:
        """Reads those of the runs that are in another state; a canceled run may be FAILED to KFP."""
        same = [RunState.CANCELED, RunState.FAILED] if state is RunState.CANCELED else [state]
        other = [{**equals("state", one.value), "operation": "NOT_EQUALS"} for one in same]
        return [run.record() for run in self._all(run_ids, other, namespace, call)]

    def count(self, run_ids: Sequence[str], namespace: str, call: Call, *, archived: bool) -> int:
        """Counts those of the runs that exist and are archived, or are not."""
        query = ListQuery(1, predicates=(_one_of(run_ids), stored(archived=archived)))
        return self._reader.list(query, call, namespace=namespace).total_size

    def get(self, run_id: str, call: Call) -> Run:
        """Reads one run with all that is known of it but names."""
        found = self._reader.get(run_id, call)
        return self._reader.whole(found, self._reader.nodes(found, call))

    def _all(
        self, run_ids: Sequence[str], others: Sequence[Predicate], namespace: str, call: Call
    ) -> Sequence[RunJson]:
        """Reads all of the runs that match; half by half if they are too large together."""
        token = ""
        found: list[RunJson] = []
        try:
            while True:
                query = ListQuery(len(run_ids), token, predicates=(_one_of(run_ids), *others))
                page = self._reader.list(query, call, namespace=namespace)
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


def _one_of(run_ids: Sequence[str]) -> Predicate:
    return {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}


def _predicates(where: RunFilter) -> list[Predicate]:
    """What KFP compares of a filter; it may find more than matches."""
    predicates = [stored(archived=where.archived)]
    if where.states:
        states = sorted(state.value for state in _states(where))
        predicates.append({"operation": "IN", "key": "state", "string_values": {"values": states}})
    moments = {"created_at": where.created_after, "finished_at": where.finished_after}
    predicates += [_after(key, at) for key, at in moments.items() if at is not None]
    if where.recurring_run_id:  # as a query parameter KFP ignores it
        predicates.append(equals("recurring_run_id", where.recurring_run_id))
    if where.display_name_contains:
        predicates.append(_holds("display_name", where.display_name_contains))
    return predicates + [_holds("description", text) for text in _label_texts(where)]


def _matches(where: RunFilter, run: Run) -> bool:
    """Compares exactly what KFP compares loosely or not at all."""
    return (
        (not where.states or run.state in where.states)
        and where.display_name_contains in run.display_name
        and where.labels.items() <= run.labels.items()
        and where.label_keys <= run.labels.keys()
        and where.pipeline_id.lower() in {"", run.pipeline_id.lower()}
        and where.pipeline_version_id.lower() in {"", run.pipeline_version_id.lower()}
    )


def _is_inexact(where: RunFilter) -> bool:
    """Whether KFP's total counts runs that do not match."""
    inexact = (
        where.display_name_contains,
        where.labels,
        where.label_keys,
        where.pipeline_id,
        where.pipeline_version_id,
        where.states and where.states != _states(where),
    )
    return any(inexact)


def _states(where: RunFilter) -> frozenset[RunState]:
    """KFP ends runs that were terminated as FAILED; their history shows which."""
    return where.states | _ENDED_BADLY if where.states & _ENDED_BADLY else where.states


def _after(key: str, at: datetime) -> Predicate:
    moment = at.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    return {"operation": "GREATER_THAN", "key": key, "timestamp_value": moment}


def _holds(key: str, text: str) -> Predicate:
    return {"operation": "IS_SUBSTRING", "key": key, "string_value": text}


def _label_texts(where: RunFilter) -> list[str]:
    """What the description of every run with the labels holds. KFP's LIKE takes backslashes for its own."""
    texts = [label_text(key, value) for key, value in sorted(where.labels.items())]
    texts += map(label_key_text, sorted(where.label_keys))
    return [text for text in texts if "\\" not in text] or ([LINE_START] if texts else [])


def _weight(item: Run) -> int:
    texts = (item.description, item.display_name, item.error, item.service_account, *item.warnings)
    history = sum(80 + 4 * len(one.error) for one in item.state_history)
    return 500 + 4 * sum(map(len, texts)) + 4 * len(json_text([item.parameters, item.labels])) + history
