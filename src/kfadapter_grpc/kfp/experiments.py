"""Experiments, kept by KFP."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import (
    DEFAULT_EXPERIMENT,
    CreateExperimentRequest,
    Experiment,
    ExperimentRef,
    ListExperimentsRequest,
)
from kfadapter_grpc.contract.listing import Page, StorageState
from kfadapter_grpc.kfp.error_table import NO_SUCH_EXPERIMENT, Context
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, equals, explained, gather
from kfadapter_grpc.kfp.transport import NotSentError
from kfadapter_grpc.kfp.writes import spare_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import Order, PageRequest
    from kfadapter_grpc.kfp.api import ExperimentApi
    from kfadapter_grpc.kfp.rest import Predicate

_SORT_KEYS = {"created_at": "created_at", "name": "name", "experiment_id": "id"}
_MAX_NAMESAKES = 50
"""How many experiments of one name are looked at; KFP takes names that differ in letter case for the same."""
_BROKEN = (errors.KfpUnavailableError, errors.KfpTimeoutError)
_CLOCK_SKEW = timedelta(seconds=60)
"""How much KFP's clock may be behind ours, when an experiment is told to be one that we have just made."""


class KfpExperimentRepository:
    """The `ExperimentRepository` before KFP. Safe to use from many threads."""

    def __init__(self, api: ExperimentApi) -> None:
        self._api = api

    def create(self, request: CreateExperimentRequest, call: Call) -> Experiment:
        """Makes an experiment; with `allow_existing`, looks for it first."""
        ref = ExperimentRef(name=request.name, namespace=request.namespace)
        if request.allow_existing and (found := self.try_find(ref, call)):
            return found
        try:
            return self._create(request, call)
        except errors.ExperimentExistsError:
            # Somebody else was faster, or it is taken by a name that differs in letter case, which is no answer.
            found = self.try_find(ref, call) if request.allow_existing else None
            if found is None:
                raise
            return found

    def _create(self, request: CreateExperimentRequest, call: Call) -> Experiment:
        body = {
            "display_name": request.name,
            "description": request.description,
            "namespace": request.namespace,
        }
        begun = datetime.now(timezone.utc)
        try:
            with explained(_context(ExperimentRef(name=request.name, namespace=request.namespace))):
                return self._api.create({key: value for key, value in body.items() if value}, call).to_domain()
        except NotSentError:
            raise
        except _BROKEN as broken:
            return self._made_all_the_same(request, begun, broken, spare_call(call))

    def _made_all_the_same(
        self, request: CreateExperimentRequest, begun: datetime, broken: errors.AdapterError, spare: Call
    ) -> Experiment:
        """Looks for an experiment that was made although the answer broke; raises what broke if it is not ours.

        It is, if it has the same description and was not there before. Whoever else made it like this at the same
        moment wanted the same.
        """
        ref = ExperimentRef(name=request.name, namespace=request.namespace)
        try:
            found = self.try_find(ref, spare)
        except errors.AdapterError:
            raise broken from None
        if found is None:
            raise broken
        made_now = found.created_at is not None and found.created_at >= begun - _CLOCK_SKEW
        if not request.allow_existing and not (made_now and found.description == request.description):
            raise broken
        return found

    def get(self, ref: ExperimentRef, call: Call) -> Experiment:
        """Gets one experiment by id, or by name in its namespace.

        Raises:
            ExperimentNotFoundError: There is none.
            AmbiguousNameError: There are several of the name.
        """
        if ref.experiment_id:
            with explained(_context(ref)):
                return self._api.get(ref.experiment_id, call).to_domain()
        found = self.try_find(ref, call)
        if found is None:
            raise _not_found(ref)
        return found

    def try_find(self, ref: ExperimentRef, call: Call) -> Experiment | None:
        """Finds an experiment by name; None if there is none.

        Raises:
            AmbiguousNameError: There are several of the name.
        """
        query = ListQuery(_MAX_NAMESAKES, predicates=(equals("name", ref.name),))
        with explained(_context(ref)):
            listed = self._api.list(query, ref.namespace, call).experiments
        exact = [item.to_domain() for item in listed if item.display_name == ref.name]
        own = [item for item in exact if item.namespace == ref.namespace]
        if len(exact) > 1 and len(own) != 1:
            raise _ambiguous(ref, exact)
        return next(iter(own or exact), None)

    def id_of(self, ref: ExperimentRef | None, namespace: str, call: Call) -> str:
        """Tells the id of the experiment for something new; empty where KFP must choose, which several users' cannot.

        Args:
            ref: Which one; None means the default one.
            namespace: Where the default one is looked for.
            call: The call.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: There are several of the name.
        """
        if ref is not None:
            return self.get(ref, call).experiment_id
        default = self.try_find(ExperimentRef(name=DEFAULT_EXPERIMENT, namespace=namespace), call)
        return default.experiment_id if default else ""

    def list(self, where: ListExperimentsRequest, page: PageRequest, call: Call) -> Page[Experiment]:
        """Lists experiments; the filters are KFP's, and what its LIKE lets through is compared exactly afterwards."""
        predicates = tuple(_predicates(where))

        def fetch(size: int, token: str) -> KfpPage[Experiment]:
            with explained():
                found = self._api.list(ListQuery(size, token, _sort(page.order), predicates), where.namespace, call)
            items = [item.to_domain() for item in found.experiments]
            matching = [item for item in items if where.name_contains in item.name]
            return KfpPage(matching, found.next_page_token, found.total_size)

        result = gather(fetch, _weight, page.size, page.token)
        return replace(result, total_size=None) if where.name_contains else result

    def archive(self, experiment_id: str, call: Call) -> Experiment:
        """Puts an experiment away with its runs."""
        return self._store(experiment_id, StorageState.ARCHIVED, self._api.archive, call)

    def unarchive(self, experiment_id: str, call: Call) -> Experiment:
        """Takes an experiment back; its runs stay where they are."""
        return self._store(experiment_id, StorageState.AVAILABLE, self._api.unarchive, call)

    def _store(
        self, experiment_id: str, wanted: StorageState, change: Callable[[str, Call], None], call: Call
    ) -> Experiment:
        """Puts away or takes back; after a broken answer, looks whether it is done. KFP's answer does not say it."""
        ref = ExperimentRef(experiment_id)
        try:
            with explained(_context(ref)):
                change(experiment_id, call)
        except errors.KfpUnavailableError:
            found = self.get(ref, call)
            if found.storage_state is not wanted:
                raise
            return found
        return self.get(ref, call)

    def delete(self, experiment_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes an experiment; after a broken answer, looks whether it is gone."""
        ref = ExperimentRef(experiment_id)
        try:
            self._delete(ref, call)
        except errors.ExperimentNotFoundError:
            if allow_missing:
                return False
            raise
        return True

    def _delete(self, ref: ExperimentRef, call: Call) -> None:
        try:
            with explained(_context(ref)):
                self._api.delete(ref.experiment_id, call)
        except NotSentError:
            raise
        except errors.KfpUnavailableError:
            try:
                self.get(ref, call)
            except errors.ExperimentNotFoundError:
                return
            raise


def _context(ref: ExperimentRef) -> Context:
    values = {"experiment_id": ref.experiment_id, "name": ref.name, "namespace": ref.namespace}
    return Context(
        subject=str(ref),
        resource=ref.experiment_id or ref.name,
        values={key: value for key, value in values.items() if value},
    )


def _not_found(ref: ExperimentRef) -> errors.ExperimentNotFoundError:
    context = _context(ref)
    text = NO_SUCH_EXPERIMENT.format(subject=context.subject)
    return errors.ExperimentNotFoundError(text, metadata=context.values, resource_name=context.resource)


_MAX_NAMED = 5


def _ambiguous(ref: ExperimentRef, found: list[Experiment]) -> errors.AmbiguousNameError:
    ids = ", ".join(item.experiment_id for item in found[:_MAX_NAMED]) + (", …" if len(found) > _MAX_NAMED else "")
    text = f"there are {len(found)} experiments {ref} ({ids}); say which by its id"
    return errors.AmbiguousNameError(
        text, metadata={**_context(ref).values, "experiment_ids": ids}, resource_name=ref.name
    )


def _sort(order: Order) -> str:
    return _SORT_KEYS[order.field] + (" desc" if order.descending else " asc")


def _predicates(where: ListExperimentsRequest) -> list[Predicate]:
    operation = "EQUALS" if where.archived else "NOT_EQUALS"
    predicates: list[Predicate] = [
        {"operation": operation, "key": "storage_state", "string_value": StorageState.ARCHIVED.value}
    ]
    if where.name_contains:
        predicates.append({"operation": "IS_SUBSTRING", "key": "name", "string_value": where.name_contains})
    return predicates


def _weight(item: Experiment) -> int:
    return 200 + 4 * (len(item.name) + len(item.description))
