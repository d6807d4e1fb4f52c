"""Filters of runs: what KFP compares, and what it does not compare exactly."""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.labels import LINE_START, label_key_text, label_text
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.kfp.experiments import stored
from kfadapter_grpc.kfp.rest import equals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run, RunFilter
    from kfadapter_grpc.kfp.rest import Predicate

_ENDED_BADLY = frozenset({RunState.FAILED, RunState.CANCELED})


def one_of(run_ids: Sequence[str]) -> Predicate:
    """The predicate for runs by id."""
    return {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}


def predicates_of(where: RunFilter) -> list[Predicate]:
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


def matches(where: RunFilter, run: Run) -> bool:
    """Compares exactly what KFP compares loosely or not at all."""
    return (
        (not where.states or run.state in where.states)
        and where.display_name_contains in run.display_name
        and where.labels.items() <= run.labels.items()
        and where.label_keys <= run.labels.keys()
        and where.pipeline_id.lower() in {"", run.pipeline_id.lower()}
        and where.pipeline_version_id.lower() in {"", run.pipeline_version_id.lower()}
    )


def is_inexact(where: RunFilter) -> bool:
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
