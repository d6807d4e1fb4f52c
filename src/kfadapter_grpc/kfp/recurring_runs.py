"""Recurring runs in KFP, whose JSON has 64-bit numbers as strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import cast

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.checks import MAX_COLUMN_BYTES
from kfadapter_grpc.contract.listing import Page, PageRequest
from kfadapter_grpc.contract.pipelines import PipelineRef, PipelineVersion, VersionRef
from kfadapter_grpc.contract.recurring_runs import (
    CreateRecurringRunRequest,
    CronSchedule,
    IntervalSchedule,
    ListRecurringRunsRequest,
    RecurringRun,
    Schedule,
)
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import Experiments
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.pipelines import Pipelines
from kfadapter_grpc.kfp.rest import V2, ListJson, ListQuery, Rest, equals, paginate, post, segment, sort_by
from kfadapter_grpc.kfp.run_creation import check_values
from kfadapter_grpc.kfp.run_json import ReferenceJson, RuntimeConfigJson, StatusJson
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.writes import ensure_changed, ensure_created, ensure_deleted
from kfadapter_grpc.next_starts import has_ended, next_start

_RECURRING_RUNS = f"{V2}/recurringruns"
_SORT_KEYS = {"created_at": "created_at", "display_name": "display_name", "recurring_run_id": "recurring_run_id"}
_MAX_NAMESAKES = 50
"""How many recurring runs of one display name, the newest first, are compared after a broken response."""
_CLOCK_SKEW = timedelta(seconds=60)
"""How far KFP's clock may be behind ours, when a recurring run is recognized as one that we have just created."""
_MAX_INT32 = 2**31 - 1
_MAX_SECONDS = 315_576_000_000
"""Ten thousand years, the longest Duration of protobuf."""
_MAX_DIGITS = 19


class _CronJson(msgspec.Struct, omit_defaults=True):
    cron: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


class _PeriodicJson(msgspec.Struct, omit_defaults=True):
    interval_second: str | int = "0"
    start_time: datetime | None = None
    end_time: datetime | None = None


class _TriggerJson(msgspec.Struct, omit_defaults=True):
    """A schedule; KFP also keeps recurring runs without one."""

    cron_schedule: _CronJson | None = None
    periodic_schedule: _PeriodicJson | None = None

    def schedule(self) -> Schedule | None:
        cron, periodic = self.cron_schedule, self.periodic_schedule
        if cron is not None:
            return CronSchedule(cron.cron, known_time(cron.start_time), known_time(cron.end_time))
        if periodic is not None:
            seconds = timedelta(seconds=_number(periodic.interval_second, _MAX_SECONDS))
            return IntervalSchedule(seconds, known_time(periodic.start_time), known_time(periodic.end_time))
        return None


class RecurringRunJson(msgspec.Struct):
    recurring_run_id: str
    display_name: str = ""
    description: str = ""
    pipeline_version_reference: ReferenceJson = msgspec.field(default_factory=ReferenceJson)
    runtime_config: RuntimeConfigJson = msgspec.field(default_factory=RuntimeConfigJson)
    service_account: str = ""
    max_concurrency: str | int = "0"
    trigger: _TriggerJson = msgspec.field(default_factory=_TriggerJson)
    mode: str = ""
    no_catchup: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    error: StatusJson | None = None
    namespace: str = ""
    experiment_id: str = ""

    def record(self) -> RecurringRun:
        """The recurring run as a record of the contract, with what KFP does not report but its schedule shows."""
        record = RecurringRun(
            recurring_run_id=self.recurring_run_id,
            display_name=self.display_name,
            enabled=self.mode == "ENABLE",
            schedule=self.trigger.schedule(),
            max_concurrency=_number(self.max_concurrency, _MAX_INT32),
            catch_up=not self.no_catchup,
            pipeline_id=self.pipeline_version_reference.pipeline_id,
            pipeline_version_id=self.pipeline_version_reference.pipeline_version_id,
            experiment_id=self.experiment_id,
            parameters=cast("Mapping[str, Json]", self.runtime_config.parameters),
            description=self.description,
            created_at=known_time(self.created_at),
            updated_at=known_time(self.updated_at),
            namespace=self.namespace,
            service_account=self.service_account,
            error=self.error.message if self.error else "",
        )
        now = datetime.now(timezone.utc)
        return replace(record, ended=has_ended(record, now), computed_next_start_at=next_start(record, now))


class RecurringRunListJson(ListJson[RecurringRunJson]):
    items: list[RecurringRunJson] = msgspec.field(default_factory=list, name="recurringRuns")


class RecurringRuns:
    """The recurring runs of KFP. Safe to use from many threads."""

    def __init__(self, rest: Rest, pipelines: Pipelines, experiments: Experiments) -> None:
        self._rest = rest
        self._pipelines = pipelines
        self._experiments = experiments

    def create(self, request: CreateRecurringRunRequest, call: Call) -> RecurringRun:
        """Creates a recurring run, after checking its pipeline, experiment and parameters."""
        version = self._pipelines.get_version(request.pipeline, request.version, call)
        parameters = check_values(version, request.parameters)
        experiment_id = self._experiments.id_of(request.experiment, request.namespace, call)
        named, when = request, request.schedule
        if not request.display_name:
            every = when.cron if isinstance(when, CronSchedule) else f"every {when.interval.total_seconds():.0f}s"
            name = self._pipelines.name_with(
                f" ({every})", MAX_COLUMN_BYTES, request.pipeline, version.pipeline_id, call
            )
            named = replace(request, display_name=name)
        try:
            return self._create(named, _body(named, version, experiment_id, parameters), call)
        except errors.KfpError:
            # What existed a moment ago may have been deleted, which KFP reports with a bare 500.
            ref = PipelineRef(version.pipeline_id), VersionRef(version.pipeline_version_id)
            self._pipelines.get_version(*ref, call)
            raise

    def _create(self, request: CreateRecurringRunRequest, body: Mapping[str, object], call: Call) -> RecurringRun:
        http_request, started_at = post(_RECURRING_RUNS, body), datetime.now(timezone.utc)
        context = Context(subject=f"'{request.display_name}'", resource=request.display_name)

        def find_ours(spare: Call) -> RecurringRun | None:
            """Finds the recurring run: the only one created since that equals the request in every respect."""
            query = ListQuery(_MAX_NAMESAKES, "", "created_at desc", (equals("display_name", request.display_name),))
            listed = self._list(query, request.namespace, str(body.get("experiment_id", "")), spare)
            records = [item.record() for item in listed.items]
            recent = [item for item in records if item.created_at and item.created_at >= started_at - _CLOCK_SKEW]
            matching = [item for item in recent if _equals_request(item, request, body)]
            return matching[0] if len(matching) == 1 else None

        return ensure_created(
            lambda: self._rest.ask(
                Operation.CREATE_RECURRING_RUN, http_request, RecurringRunJson, call, context
            ).record(),
            find_ours,
            call,
        )

    def get(self, recurring_run_id: str, call: Call) -> RecurringRun:
        request, context = Request("GET", _path(recurring_run_id)), Context.by_id("recurring_run_id", recurring_run_id)
        return self._rest.ask(Operation.GET_RECURRING_RUN, request, RecurringRunJson, call, context).record()

    def list(self, filter_: ListRecurringRunsRequest, page: PageRequest, call: Call) -> Page[RecurringRun]:
        """Lists recurring runs; checks that a requested experiment exists, as KFP does not."""
        experiment_id = self._experiments.get(filter_.experiment, call).experiment_id if filter_.experiment else ""

        return paginate(
            lambda query: self._list(query, filter_.namespace, experiment_id, call),
            lambda items: (item.record() for item in items),
            ListQuery(page.size, page.token, sort_by(page.order, _SORT_KEYS)),
        )

    def _list(self, query: ListQuery, namespace: str, experiment_id: str, call: Call) -> RecurringRunListJson:
        request = Request("GET", _RECURRING_RUNS, query.pairs(namespace=namespace, experiment_id=experiment_id))
        return self._rest.ask(Operation.LIST_RECURRING_RUNS, request, RecurringRunListJson, call)

    def enable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        return self._switch(recurring_run_id, Operation.ENABLE_RECURRING_RUN, call, on=True)

    def disable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        return self._switch(recurring_run_id, Operation.DISABLE_RECURRING_RUN, call, on=False)

    def _switch(self, recurring_run_id: str, operation: Operation, call: Call, *, on: bool) -> RecurringRun:
        path, context = _path(recurring_run_id), Context.by_id("recurring_run_id", recurring_run_id)
        return ensure_changed(
            lambda: self._rest.act(operation, path, call, context),
            lambda: self.get(recurring_run_id, call),
            lambda recurring_run: recurring_run.enabled is on,
        )

    def delete(self, recurring_run_id: str, call: Call, *, allow_missing: bool) -> bool:
        path, context = _path(recurring_run_id), Context.by_id("recurring_run_id", recurring_run_id)
        return ensure_deleted(
            lambda: self._rest.delete(Operation.DELETE_RECURRING_RUN, path, call, context),
            lambda: self.get(recurring_run_id, call),
            errors.RecurringRunNotFoundError,
            allow_missing=allow_missing,
        )


def _path(recurring_run_id: str) -> str:
    return f"{_RECURRING_RUNS}/{segment(recurring_run_id)}"


def _body(
    request: CreateRecurringRunRequest, version: PipelineVersion, experiment_id: str, parameters: Mapping[str, Json]
) -> dict[str, object]:
    reference = {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.pipeline_version_id}
    schedule = _as_stored(request.schedule)
    if isinstance(schedule, CronSchedule):
        cron = _CronJson(schedule.cron, schedule.start_at, schedule.end_at)
        trigger = _TriggerJson(cron_schedule=cron)
    else:
        seconds = str(int(schedule.interval.total_seconds()))
        trigger = _TriggerJson(periodic_schedule=_PeriodicJson(seconds, schedule.start_at, schedule.end_at))
    body: dict[str, object] = {
        "display_name": request.display_name,
        "description": request.description,
        "pipeline_version_reference": reference,
        "runtime_config": {"parameters": parameters} if parameters else None,
        "service_account": request.service_account,
        "max_concurrency": str(request.max_concurrency),
        "trigger": msgspec.to_builtins(trigger),
        "mode": "ENABLE" if request.enabled else "DISABLE",
        "no_catchup": not request.catch_up,
        "experiment_id": experiment_id,
        "namespace": request.namespace,
    }
    return {key: value for key, value in body.items() if value}


def _equals_request(item: RecurringRun, request: CreateRecurringRunRequest, body: Mapping[str, object]) -> bool:
    reference = {"pipeline_id": item.pipeline_id, "pipeline_version_id": item.pipeline_version_id}
    runtime_config = {"parameters": item.parameters} if item.parameters else None
    expected = (request.display_name, request.description, request.enabled, request.max_concurrency, request.catch_up)
    return (
        (item.display_name, item.description, item.enabled, item.max_concurrency, item.catch_up) == expected
        and reference == body["pipeline_version_reference"]
        and runtime_config == body.get("runtime_config")
        and item.schedule is not None
        and _as_stored(item.schedule) == _as_stored(request.schedule)
    )


def _as_stored(schedule: Schedule) -> Schedule:
    """A schedule as KFP stores it: with its times in UTC and in whole seconds."""

    def whole(moment: datetime | None) -> datetime | None:
        return moment.astimezone(timezone.utc).replace(microsecond=0) if moment else None

    return replace(schedule, start_at=whole(schedule.start_at), end_at=whole(schedule.end_at))


def _number(text: str | int, maximum: int) -> int:
    """A number of KFP's JSON; 0 if it is not a number, and capped at the contract's maximum."""
    digits = str(text)
    return min(int(digits), maximum) if digits.isdecimal() and len(digits) <= _MAX_DIGITS else 0
