"""Experiments in KFP."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.experiments import (
    DEFAULT_EXPERIMENT,
    CreateExperimentRequest,
    Experiment,
    ExperimentRef,
    ListExperimentsRequest,
)
from kfadapter_grpc.contract.listing import Page, PageRequest, StorageState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import NO_SUCH_EXPERIMENT, Context
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import (
    V2,
    ListJson,
    ListQuery,
    Predicate,
    Rest,
    contains,
    equals,
    non_empty,
    paginate,
    post,
    segment,
    sort_by,
)
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.writes import ensure_changed, ensure_created, ensure_deleted

_EXPERIMENTS = f"{V2}/experiments"
_SORT_KEYS = {"created_at": "created_at", "name": "name", "experiment_id": "id"}
_MAX_NAMESAKES = 50
"""How many experiments of one name are compared; to KFP, names that differ in letter case are the same."""
_MAX_NAMED = 5
_STORAGE_STATES = {one.value: one for one in StorageState}
_CLOCK_SKEW = timedelta(seconds=60)
"""How far KFP's clock may be behind ours, when an experiment is recognized as one that we have just created."""


class ExperimentJson(msgspec.Struct):
    """An experiment; its display name is the unique one."""

    experiment_id: str
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    last_run_created_at: datetime | None = None
    storage_state: str = ""
    namespace: str = ""

    def record(self) -> Experiment:
        return Experiment(
            experiment_id=self.experiment_id,
            name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            last_run_created_at=known_time(self.last_run_created_at),
            storage_state=storage_state(self.storage_state),
            namespace=self.namespace,
        )


class ExperimentListJson(ListJson[ExperimentJson]):
    items: list[ExperimentJson] = msgspec.field(default_factory=list, name="experiments")


class Experiments:
    """The experiments of KFP. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create(self, request: CreateExperimentRequest, call: Call) -> Experiment:
        """Creates an experiment; with `allow_existing`, searches for it first."""
        ref = ExperimentRef(name=request.name, namespace=request.namespace)
        if request.allow_existing and (experiment := self.find(ref, call)):
            return experiment
        try:
            return self._create(request, ref, call)
        except errors.ExperimentExistsError:
            # Another call was faster, or the name is taken by one that differs in letter case, which is not the same.
            experiment = self.find(ref, call) if request.allow_existing else None
            if experiment is None:
                raise
            return experiment

    def _create(self, request: CreateExperimentRequest, ref: ExperimentRef, call: Call) -> Experiment:
        body = non_empty(
            {"display_name": request.name, "description": request.description, "namespace": request.namespace}
        )
        http_request, context, started_at = post(_EXPERIMENTS, body), _context(ref), datetime.now(timezone.utc)

        def find_ours(spare: Call) -> Experiment | None:
            """Finds the experiment if it is ours: new, with the same description.

            A concurrent call that created it had the same result.
            """
            experiment = self.find(ref, spare)
            if experiment is None or request.allow_existing:
                return experiment
            is_new = experiment.created_at is not None and experiment.created_at >= started_at - _CLOCK_SKEW
            return experiment if is_new and experiment.description == request.description else None

        return ensure_created(
            lambda: self._rest.ask(Operation.CREATE_EXPERIMENT, http_request, ExperimentJson, call, context).record(),
            find_ours,
            call,
        )

    def get(self, ref: ExperimentRef, call: Call) -> Experiment:
        """Gets an experiment by id, or by name in its namespace."""
        if ref.experiment_id:
            request = Request("GET", _path(ref.experiment_id))
            return self._rest.ask(Operation.GET_EXPERIMENT, request, ExperimentJson, call, _context(ref)).record()
        experiment = self.find(ref, call)
        if experiment is None:
            raise _context(ref).error(errors.ExperimentNotFoundError, NO_SUCH_EXPERIMENT)
        return experiment

    def find(self, ref: ExperimentRef, call: Call) -> Experiment | None:
        """Finds an experiment by name; None if there is none. Raises AmbiguousNameError if several have that name."""
        query = ListQuery(_MAX_NAMESAKES, predicates=(equals("name", ref.name),))
        listed = self._list(query, ref.namespace, call, _context(ref)).items
        exact = [item.record() for item in listed if item.display_name == ref.name]
        own = [item for item in exact if item.namespace == ref.namespace]
        if len(exact) > 1 and len(own) != 1:
            raise _ambiguous(ref, exact)
        return next(iter(own or exact), None)

    def id_of(self, ref: ExperimentRef | None, namespace: str, call: Call) -> str:
        """The id of the experiment for a new resource; empty if KFP must choose, which multi-user ones cannot."""
        if ref is not None:
            return self.get(ref, call).experiment_id
        default = self.find(ExperimentRef(name=DEFAULT_EXPERIMENT, namespace=namespace), call)
        return default.experiment_id if default else ""

    def list(self, filter_: ListExperimentsRequest, page: PageRequest, call: Call) -> Page[Experiment]:
        predicates = [storage_filter(archived=filter_.archived)]
        if filter_.name_contains:
            predicates.append(contains("name", filter_.name_contains))

        text = filter_.name_contains
        return paginate(
            lambda query: self._list(query, filter_.namespace, call),
            lambda items: (item.record() for item in items if text in item.display_name),
            ListQuery(page.size, page.token, sort_by(page.order, _SORT_KEYS), tuple(predicates)),
            is_exact=not text,
        )

    def _list(self, query: ListQuery, namespace: str, call: Call, context: Context | None = None) -> ExperimentListJson:
        request = Request("GET", _EXPERIMENTS, query.pairs(namespace=namespace))
        return self._rest.ask(Operation.LIST_EXPERIMENTS, request, ExperimentListJson, call, context or Context())

    def archive(self, experiment_id: str, call: Call) -> Experiment:
        return self._store(experiment_id, Operation.ARCHIVE_EXPERIMENT, StorageState.ARCHIVED, call)

    def unarchive(self, experiment_id: str, call: Call) -> Experiment:
        """Unarchives an experiment; its runs stay archived."""
        return self._store(experiment_id, Operation.UNARCHIVE_EXPERIMENT, StorageState.AVAILABLE, call)

    def _store(self, experiment_id: str, operation: Operation, expected: StorageState, call: Call) -> Experiment:
        """Archives or unarchives; KFP's response does not show whether the experiment exists."""
        ref = ExperimentRef(experiment_id)
        return ensure_changed(
            lambda: self._rest.act(operation, _path(experiment_id), call, _context(ref)),
            lambda: self.get(ref, call),
            lambda experiment: experiment.storage_state is expected,
        )

    def delete(self, experiment_id: str, call: Call, *, allow_missing: bool) -> bool:
        ref = ExperimentRef(experiment_id)
        return ensure_deleted(
            lambda: self._rest.delete(Operation.DELETE_EXPERIMENT, _path(experiment_id), call, _context(ref)),
            lambda: self.get(ref, call),
            errors.ExperimentNotFoundError,
            allow_missing=allow_missing,
        )


def storage_state(text: str) -> StorageState:
    return _STORAGE_STATES.get(text, StorageState.UNKNOWN)


def storage_filter(*, archived: bool) -> Predicate:
    """The predicate of a filter for archived, or for not archived."""
    operation = "EQUALS" if archived else "NOT_EQUALS"
    return {"operation": operation, "key": "storage_state", "string_value": StorageState.ARCHIVED.value}


def _path(experiment_id: str) -> str:
    return f"{_EXPERIMENTS}/{segment(experiment_id)}"


def _context(ref: ExperimentRef) -> Context:
    values = {"experiment_id": ref.experiment_id, "name": ref.name, "namespace": ref.namespace}
    return Context(subject=str(ref), resource=ref.experiment_id or ref.name, values=non_empty(values))


def _ambiguous(ref: ExperimentRef, named: list[Experiment]) -> errors.AmbiguousNameError:
    ids = ", ".join(item.experiment_id for item in named[:_MAX_NAMED]) + (", …" if len(named) > _MAX_NAMED else "")
    text = f"there are {len(named)} experiments named {ref} ({ids}); say which by its id"
    metadata = {**_context(ref).values, "experiment_ids": ids}
    return errors.AmbiguousNameError(text, metadata=metadata, resource_name=ref.name)
