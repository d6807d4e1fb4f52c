"""Recurring runs, kept by KFP."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.checks import MAX_COLUMN_BYTES
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.recurring_runs import CronSchedule
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.next_starts import has_ended, next_start
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, equals, explained, gather
from kfadapter_grpc.kfp.run_inputs import checked_parameters
from kfadapter_grpc.kfp.transport import NotSentError
from kfadapter_grpc.kfp.wire.recurring_runs import creation
from kfadapter_grpc.kfp.writes import spare_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import Order, Page, PageRequest
    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.contract.recurring_runs import (
        CreateRecurringRunRequest,
        ListRecurringRunsRequest,
        RecurringRun,
        Schedule,
    )
    from kfadapter_grpc.kfp.api import RecurringRunApi
    from kfadapter_grpc.kfp.experiments import KfpExperimentRepository
    from kfadapter_grpc.kfp.pipelines import KfpPipelineRepository
    from kfadapter_grpc.kfp.wire.recurring_runs import RecurringRunJson

_SORT_KEYS = {"created_at": "created_at", "display_name": "display_name", "recurring_run_id": "recurring_run_id"}
_BROKEN = (errors.KfpUnavailableError, errors.KfpTimeoutError)
_MAX_NAMESAKES = 50
"""How many recurring runs of one display name, the newest first, are looked at after a broken answer."""
_CLOCK_SKEW = timedelta(seconds=60)
"""How much KFP's clock may be behind ours, when a recurring run is told to be one that we have just made."""


class KfpRecurringRunRepository:
    """The `RecurringRunRepository` before KFP. Safe to use from many threads."""

    def __init__(
        self, api: RecurringRunApi, pipelines: KfpPipelineRepository, experiments: KfpExperimentRepository
    ) -> None:
        self._api = api
        self._pipelines = pipelines
        self._experiments = experiments

    def create(self, request: CreateRecurringRunRequest, call: Call) -> RecurringRun:
        """Makes a recurring run, after its pipeline, experiment and parameters have been looked at."""
        version = self._pipelines.get_version(request.pipeline, request.version, call)
        parameters = checked_parameters(version, request.parameters)
        experiment_id = self._experiments.id_of(request.experiment, request.namespace, call)
        named = replace(request, display_name=request.display_name or self._name_for(request, version, call))
        ids = (version.pipeline_id, version.pipeline_version_id)
        try:
            return self._create(named, creation(named, ids, experiment_id, parameters), call)
        except errors.KfpError:
            # What was there a moment ago may be gone, which KFP says with a bare 500.
            self._pipelines.get_version(PipelineRef(ids[0]), VersionRef(ids[1]), call)
            raise

    def _name_for(self, request: CreateRecurringRunRequest, version: PipelineVersion, call: Call) -> str:
        """The pipeline's name and the schedule, as much of it as fits."""
        by_id = PipelineRef(version.pipeline_id)
        name = request.pipeline.name or self._pipelines.get(by_id, View.BASIC, call).name
        schedule = f" ({_in_words(request.schedule)})"
        room = MAX_COLUMN_BYTES - len(schedule.encode())
        return name.encode()[:room].decode(errors="ignore") + schedule

    def _create(self, request: CreateRecurringRunRequest, body: Mapping[str, object], call: Call) -> RecurringRun:
        begun = datetime.now(timezone.utc)
        try:
            with explained(Context(subject=f"named '{request.display_name}'", resource=request.display_name)):
                return _known(self._api.create(body, call))
        except NotSentError:
            raise
        except _BROKEN as broken:
            return self._made_all_the_same(request, body, begun, broken, spare_call(call))

    def _made_all_the_same(
        self,
        request: CreateRecurringRunRequest,
        body: Mapping[str, object],
        begun: datetime,
        broken: errors.AdapterError,
        spare: Call,
    ) -> RecurringRun:
        """Looks for a recurring run that was made although the answer broke; raises what broke if there is none.

        It is ours, if it is the only one that was made since and is what was asked for in every respect.
        """
        query = ListQuery(_MAX_NAMESAKES, "", "created_at desc", (equals("display_name", request.display_name),))
        try:
            with explained():
                listed = self._api.list(query, request.namespace, str(body.get("experiment_id", "")), spare)
        except errors.AdapterError:
            raise broken from None
        found = [_known(item) for item in listed.recurring_runs]
        since = [item for item in found if item.created_at and item.created_at >= begun - _CLOCK_SKEW]
        ours = [item for item in since if _is_what_was_asked(item, request, body)]
        if len(ours) != 1:
            raise broken
        return ours[0]

    def get(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Gets one recurring run.

        Raises:
            RecurringRunNotFoundError: There is none.
        """
        with explained(_context(recurring_run_id)):
            return _known(self._api.get(recurring_run_id, call))

    def list(self, where: ListRecurringRunsRequest, page: PageRequest, call: Call) -> Page[RecurringRun]:
        """Lists recurring runs; an experiment that is named must be there, of which KFP says nothing."""
        experiment_id = self._experiments.get(where.experiment, call).experiment_id if where.experiment else ""

        def fetch(size: int, token: str) -> KfpPage[RecurringRun]:
            with explained():
                query = ListQuery(size, token, _sort(page.order))
                found = self._api.list(query, where.namespace, experiment_id, call)
            items = [_known(item) for item in found.recurring_runs]
            return KfpPage(items, found.next_page_token, found.total_size)

        return gather(fetch, _weight, page.size, page.token)

    def enable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Switches a recurring run on."""
        return self._switch(recurring_run_id, self._api.enable, call, on=True)

    def disable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Switches a recurring run off."""
        return self._switch(recurring_run_id, self._api.disable, call, on=False)

    def _switch(
        self, recurring_run_id: str, change: Callable[[str, Call], None], call: Call, *, on: bool
    ) -> RecurringRun:
        """Switches on or off; after a broken answer, looks whether it is done."""
        try:
            with explained(_context(recurring_run_id)):
                change(recurring_run_id, call)
        except NotSentError:
            raise
        except errors.KfpUnavailableError:
            found = self.get(recurring_run_id, call)
            if found.enabled is not on:
                raise
            return found
        return self.get(recurring_run_id, call)

    def delete(self, recurring_run_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes a recurring run; after a broken answer, looks whether it is gone."""
        try:
            self._delete(recurring_run_id, call)
        except errors.RecurringRunNotFoundError:
            if allow_missing:
                return False
            raise
        return True

    def _delete(self, recurring_run_id: str, call: Call) -> None:
        try:
            with explained(_context(recurring_run_id)):
                self._api.delete(recurring_run_id, call)
        except NotSentError:
            raise
        except errors.KfpUnavailableError:
            try:
                self.get(recurring_run_id, call)
            except errors.RecurringRunNotFoundError:
                return
            raise


def _known(item: RecurringRunJson) -> RecurringRun:
    """A recurring run with what KFP does not say but its schedule tells."""
    found, now = item.to_domain(), datetime.now(timezone.utc)
    return replace(found, ended=has_ended(found, now), computed_next_start_at=next_start(found, now))


def _is_what_was_asked(item: RecurringRun, request: CreateRecurringRunRequest, body: Mapping[str, object]) -> bool:
    reference = {"pipeline_id": item.pipeline_id, "pipeline_version_id": item.pipeline_version_id}
    runtime_config = {"parameters": item.parameters} if item.parameters else None
    wanted = (request.display_name, request.description, request.enabled, request.max_concurrency, request.catch_up)
    return (
        (item.display_name, item.description, item.enabled, item.max_concurrency, item.catch_up) == wanted
        and reference == body["pipeline_version_reference"]
        and runtime_config == body.get("runtime_config")
        and _in_seconds(item.schedule) == _in_seconds(request.schedule)
    )


def _in_seconds(schedule: Schedule | None) -> Schedule | None:
    """A schedule as KFP keeps it, with its times in whole seconds."""
    if schedule is None:
        return None
    start, end = schedule.start_at, schedule.end_at
    return replace(
        schedule,
        start_at=start.replace(microsecond=0) if start else None,
        end_at=end.replace(microsecond=0) if end else None,
    )


def _in_words(schedule: Schedule) -> str:
    return schedule.cron if isinstance(schedule, CronSchedule) else f"every {schedule.interval}"


def _context(recurring_run_id: str) -> Context:
    return Context(
        subject=f"with id {recurring_run_id}",
        resource=recurring_run_id,
        values={"recurring_run_id": recurring_run_id},
    )


def _sort(order: Order) -> str:
    return _SORT_KEYS[order.field] + (" desc" if order.descending else " asc")


def _weight(item: RecurringRun) -> int:
    cron = item.schedule.cron if isinstance(item.schedule, CronSchedule) else ""
    texts = (item.display_name, item.description, item.error, cron)
    return 400 + 4 * sum(map(len, texts)) + 4 * len(json_text(item.parameters))
